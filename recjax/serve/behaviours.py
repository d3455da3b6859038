"""Histories kept in the form that scores need, so that scoring candidates reads no history.

A model that can be served so gives `encode_history`, `advance_history` and `score_encoded` (see
`models/ranking/sdim.py`). What is kept of a user is as large for a history of ten thousand behaviours
as for one of ten, but for the ids of the window, which are read when a behaviour leaves it.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax import registry
from recjax.data.schema import Schema
from recjax.errors import ConfigError, RecjaxError
from recjax.serve.export import Export, read_export

_NEEDED = ("encode_history", "advance_history", "score_encoded")


@dataclasses.dataclass
class _Kept:
  """Of a user: the ids of the window, what scores read, changes since that was encoded anew."""

  window: collections.deque
  encoded: Any
  changes: int = 0


class BehaviourService:
  """Takes behaviours as they come and scores candidates; see `load`.

  A behaviour and a candidate are given by the features of the model's batches: `item`, and `cat` where
  items have categories. The newest L behaviours of a user count, L being the model's length.
  """

  def __init__(self, export: Export):
    model = registry.resolve("model", export.config.model.name)
    predict = model.build(export.config.model, export.schema).predict
    missing = [name for name in _NEEDED if name not in predict]
    if missing:
      raise ConfigError(
        f"The model {export.config.model.name!r} gives no {missing[0]}: it scores whole histories."
      )
    self._schema: Schema = export.schema
    self._variables = jax.tree.map(jnp.asarray, export.variables)
    self._encode, self._advance, self._score = (jax.jit(predict[name]) for name in _NEEDED)
    fields = export.schema.fields
    self.features = tuple(
      sorted(n[5:] for n in fields if n.startswith("hist_") and n != "hist_mask")
    )
    self.length = fields["hist_item"].shape[0]
    self._users: dict[Any, _Kept] = {}
    self._nobody = self._encoded(collections.deque())

  @classmethod
  def load(cls, workdir: pathlib.Path | str) -> "BehaviourService":
    """The service of a finished run."""
    return cls(read_export(pathlib.Path(workdir) / "export"))

  def replace(self, user: Any, **history: Iterable) -> None:
    """Gives a user this history, oldest first, in place of what was known: item=[...], cat=[...]."""
    known = self._checked(history, "behaviours")
    window = collections.deque(zip(*(known[n] for n in self.features), strict=True), self.length)
    self._users[user] = _Kept(window, self._encoded(window))

  def observe(self, user: Any, **behaviour: Any) -> None:
    """Adds one behaviour: item=7, cat=3. Once in L times the history is encoded anew.

    The rest of the time two behaviours are touched, the one that leaves the window and the new one;
    encoding anew keeps rounding errors of that from adding up.
    """
    new = self._checked({name: [value] for name, value in behaviour.items()}, "behaviours")
    after = tuple(new[name][0] for name in self.features)
    kept = self._users.get(user) or _Kept(collections.deque(maxlen=self.length), self._nobody)
    self._users[user] = kept
    leaving = [kept.window[0]] if len(kept.window) == self.length else []
    kept.window.append(after)
    kept.changes += 1
    if kept.changes >= self.length:
      kept.encoded, kept.changes = self._encoded(kept.window), 0
    else:
      pair = self._batch([*leaving, after], 2)
      kept.encoded = self._advance(self._variables, kept.encoded, pair)

  def score(self, user: Any, **candidates: Iterable) -> np.ndarray:
    """Logits [N] of N candidates, item=[...], cat=[...]; a user never seen has no history.

    Compiles once for each power of two that N is rounded up to.
    """
    candidates = self._checked(candidates, "candidates")
    count = len(candidates["item"])
    if not count:
      return np.zeros(0, np.float32)
    padded = 1 << (count - 1).bit_length()
    batch = {}
    for name, values in candidates.items():
      column = np.zeros((1, padded, *values.shape[1:]), np.int32)
      column[0, :count] = values
      batch[f"target_{name}"] = column
    encoded = self._users[user].encoded if user in self._users else self._nobody
    return np.asarray(self._score(self._variables, encoded, batch))[0, :count]

  def bytes_of(self, user: Any) -> int:
    """Bytes of what scoring reads of a user."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self._users[user].encoded))

  def _encoded(self, window: Sequence[tuple]) -> Any:
    return self._encode(self._variables, self._batch(window, self.length))

  def _batch(self, behaviours: Sequence[tuple], length: int) -> dict[str, np.ndarray]:
    """A batch of one history, padded on the left to `length`."""
    count = len(behaviours)
    batch = {"hist_mask": np.arange(length)[None] >= length - count}
    for place, name in enumerate(self.features):
      shape = self._schema.fields[f"hist_{name}"].shape[1:]
      batch[f"hist_{name}"] = column = np.zeros((1, length, *shape), np.int32)
      for row, behaviour in enumerate(behaviours, start=length - count):
        column[0, row] = behaviour[place]
    return batch

  def _checked(self, given: Mapping[str, Iterable], kind: str) -> dict[str, np.ndarray]:
    """The features as arrays [N, ...]; raises RecjaxError for other names, shapes and ids."""
    if set(given) != set(self.features):
      raise RecjaxError(
        f"The {kind} must come with {' and '.join(self.features)}, not {', '.join(given) or 'nothing'}."
      )
    arrays, lengths = {}, set()
    for name in self.features:
      field = self._schema.fields[f"hist_{name}"]
      array = np.asarray(given[name])
      array = array.reshape(0, *field.shape[1:]) if not array.size else array
      size = self._schema.vocabularies[field.vocabulary]
      if array.shape[1:] != field.shape[1:] or array.dtype.kind not in "iuf":
        shape = ", ".join(["N", *map(str, field.shape[1:])])
        raise RecjaxError(f"The {kind}' {name} must be ids of shape [{shape}].")
      if array.size and not (array.min() >= 1 and array.max() < size):
        raise RecjaxError(f"The {kind}' {name} must be ids from 1 to {size - 1}.")
      arrays[name], lengths = array.astype(np.int32), lengths | {len(array)}
    if len(lengths) > 1:
      raise RecjaxError(f"The {kind} need as many values of each of {', '.join(self.features)}.")
    return arrays
