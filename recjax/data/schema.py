"""The contract between data, models, tables and serving: which fields a batch has and what they index.

A `Field` says what kind of thing a batch entry is and, for ids, which vocabulary it indexes. A
vocabulary has a size that counts the padding id 0, so ids run from 1 to size - 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.errors import ConfigError
from recjax.registry import unknown

DTYPES = {
  "id": np.int32,
  "ids": np.int32,
  "mask": np.bool_,
  "float": np.float32,
  "vector": np.float32,
  "vector_float16": np.float16,
  "vector_int8": np.int8,
  "label": np.float32,
  "time": np.int32,
  "tokens": np.int32,
}


@dataclasses.dataclass(frozen=True)
class Field:
  """One entry of a batch: its kind, its shape without the batch axis, the vocabulary it indexes."""

  kind: str
  shape: tuple[int, ...] = ()
  vocabulary: str | None = None

  def __post_init__(self):
    if self.kind not in DTYPES:
      raise ConfigError(unknown("field kind", self.kind, DTYPES))

  @property
  def dtype(self) -> np.dtype:
    """NumPy dtype of the field in a batch."""
    return np.dtype(DTYPES[self.kind])


@dataclasses.dataclass(frozen=True)
class Schema:
  """Fields of a batch by name, and the size (padding included) of every vocabulary."""

  fields: Mapping[str, Field]
  vocabularies: Mapping[str, int]

  def __post_init__(self):
    for name, field in self.fields.items():
      if field.vocabulary is not None and field.vocabulary not in self.vocabularies:
        raise ConfigError(
          f"Field {name!r}: " + unknown("vocabulary", field.vocabulary, self.vocabularies)
        )

  def indexing(self, vocabulary: str) -> tuple[str, ...]:
    """Names of the fields that index `vocabulary`, sorted."""
    return tuple(sorted(n for n, f in self.fields.items() if f.vocabulary == vocabulary))

  def extend(self, **fields: Field) -> "Schema":
    """The same schema with more (or replaced) fields."""
    return Schema({**self.fields, **fields}, self.vocabularies)

  def example(self, batch_size: int = 1) -> dict[str, np.ndarray]:
    """A batch of zeros of the right shapes and dtypes, for shape inference."""
    return {
      name: np.zeros((batch_size, *field.shape), field.dtype) for name, field in self.fields.items()
    }

  def to_json(self) -> dict[str, Any]:
    """A JSON-ready form; `from_json` reads it back."""
    return {
      "fields": {n: dataclasses.asdict(f) for n, f in sorted(self.fields.items())},
      "vocabularies": {n: int(v) for n, v in sorted(self.vocabularies.items())},
    }

  @classmethod
  def from_json(cls, data: Mapping[str, Any]) -> "Schema":
    """Reads what `to_json` wrote."""
    fields = {
      n: Field(f["kind"], tuple(f["shape"]), f["vocabulary"]) for n, f in data["fields"].items()
    }
    return cls(fields, dict(data["vocabularies"]))
