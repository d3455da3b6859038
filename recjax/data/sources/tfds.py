"""A builder of tensorflow-datasets, read by random access, without TensorFlow itself.

Needs the extra: pip install 'recjax[tfds]'. Ids may be numbers or text; they are numbered in sorted
order (numerically where all are whole numbers) and kept as `raw`. A row number in a message counts
the examples of the split from 1.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data.sources.base import (
  Chunk,
  Common,
  Source,
  checked_column,
  checked_ids,
  checked_when,
  fingerprint,
)
from recjax.errors import ConfigError, DataError
from recjax.registry import unknown

BATCH_ROWS = 1 << 14


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for a tensorflow-datasets builder; fields are those of its examples."""

  # For example "movielens/100k-ratings".
  builder: str = ""
  split: str = "train"
  # Where the builder keeps its files; empty: its own default.
  data_dir: str = ""
  user: str = "user_id"
  item: str = "movie_id"
  # Unix seconds; empty: the order of the examples.
  time: str = "timestamp"
  # Further event fields.
  columns: tuple[str, ...] = ("user_rating",)
  # Field with the name of the item; empty: none.
  title: str = "movie_title"


def make_builder(name: str, data_dir: str) -> Any:
  """The named builder, prepared for random access; ConfigError where the extra is missing."""
  try:
    import tensorflow_datasets as tfds
  except ImportError:
    raise ConfigError(
      "Reading tensorflow-datasets needs an extra: run pip install 'recjax[tfds]'."
    ) from None
  builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
  builder.download_and_prepare()
  return builder


def open_source(config: Config, builder: Callable[[str, str], Any] = make_builder) -> Source:
  """Opens a split; `builder(name, data_dir)` gives an object with `info` and `as_data_source`.

  Raises ConfigError without a builder's name, DataError for fields that examples do not have.
  """
  if not config.builder:
    raise ConfigError("config.data.builder is empty: name a tensorflow-datasets builder.")
  made = builder(config.builder, config.data_dir)
  examples = made.as_data_source(split=config.split)
  place = f"{config.builder} ({config.split})"
  fields = [config.user, config.item, config.time, *config.columns, config.title]
  if len(examples):
    for name in fields:
      if name and name not in examples[0]:
        raise DataError(f"{place}: " + unknown("field", name, examples[0]))
  return Source(
    name=config.builder.replace("/", "_"),
    fingerprint=fingerprint("tfds", made.info.full_name, config.split, len(examples), fields),
    chunks=functools.partial(_chunks, examples, config, place),
    timing="time" if config.time else "none",
    numbered=False,
    items=functools.partial(_titles, examples, config, place),
    way=f"tensorflow-datasets {made.info.full_name}",
    licence=str(getattr(made.info, "license", "") or "see the notes of the builder"),
    place=place,
  )


def _batches(examples: Sequence[Any], place: str) -> Iterator[tuple[int, Callable]]:
  """Number of the first example and a reader of fields, batch by batch."""
  for start in range(0, len(examples), BATCH_ROWS):
    batch = [examples[at] for at in range(start, min(start + BATCH_ROWS, len(examples)))]
    yield start + 1, functools.partial(_field, batch, place, start + 1)


def _field(batch: list[Any], place: str, row: int, name: str) -> pa.Array:
  """A field of all examples of a batch as an Arrow array; bytes are text."""
  values = [np.asarray(example[name]).item() for example in batch]
  if isinstance(values[0], bytes):
    values = [value.decode("utf-8", "replace") for value in values]
  try:
    return pa.array(values)
  except (pa.ArrowInvalid, pa.ArrowTypeError):
    raise DataError(
      f"{place}: field {name!r} from row {row} on mixes kinds of values."
    ) from None


def _chunks(examples: Sequence[Any], config: Config, place: str) -> Iterator[Chunk]:
  for row, field in _batches(examples, place):
    when = checked_when(field(config.time), place, config.time, row) if config.time else None
    yield Chunk(
      checked_ids(field(config.user), False, place, config.user, row),
      checked_ids(field(config.item), False, place, config.item, row),
      when,
      {name: checked_column(field(name), place, name, row) for name in config.columns},
    )


def _titles(examples: Sequence[Any], config: Config, place: str) -> pa.Table | None:
  """Item table with the first title of each item."""
  if not config.title:
    return None
  titles: dict[str, str] = {}
  for row, field in _batches(examples, place):
    ids = checked_ids(field(config.item), False, place, config.item, row)
    for item, title in zip(ids.tolist(), field(config.title).to_pylist(), strict=True):
      titles.setdefault(item, title)
  return pa.table({"item_id": list(titles), "title": list(titles.values())})
