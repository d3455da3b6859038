"""A trained retrieval model that answers: a history in, the best items of the whole catalogue out.

Users need no id: whoever has a history gets recommendations, also users never seen in training.
"""

import difflib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax import registry
from recjax.errors import ConfigError, RecjaxError
from recjax.evaluate.topk import top_items
from recjax.serve.export import Export, read_export
from recjax.serve.variety import vary

_BLOCK = 16_384
_CANDIDATES = 10  # items looked at for each one in a varied list


class Recommendation(NamedTuple):
  """One recommended item: its id, what people call it, and its score."""

  item: int
  label: str
  score: float


class Recommender:
  """Recommends from histories of item ids; see `load`."""

  def __init__(self, export: Export):
    model = registry.resolve("model", export.config.model.name)
    learner = model.build(export.config.model, export.schema)
    if "score_items" not in learner.predict:
      raise ConfigError(f"The model {export.config.model.name!r} ranks candidates, it cannot retrieve.")
    self._export = export
    self._length = export.schema.fields["hist_item"].shape[0]
    self.num_items = export.schema.vocabularies["item"] - 1
    self._variables = jax.tree.map(jnp.asarray, export.variables)
    if "prepare" in learner.predict:
      self._variables = jax.jit(learner.predict["prepare"])(self._variables)
    self._labels = export.items.get("label") or export.items.get("raw") or []
    self._categories = np.asarray(export.items.get("category") or [])
    self._index = {label: i for i, label in reversed(list(enumerate(self._labels))) if i}

    def answer(variables, batch, seen, k):
      return top_items(
        learner.predict, variables, batch, seen,
        num_items=self.num_items, block=min(_BLOCK, self.num_items), k=k,
      )

    self._answer = jax.jit(answer, static_argnums=3)

  @classmethod
  def load(cls, workdir: pathlib.Path | str) -> "Recommender":
    """The recommender of a finished run."""
    return cls(read_export(pathlib.Path(workdir) / "export"))

  def find(self, text: str) -> int:
    """The id of an item given by id or by label; raises RecjaxError listing the nearest labels."""
    text = text.strip()
    if text in self._index:
      return self._index[text]
    if text.isdecimal():
      if 1 <= int(text) <= self.num_items:
        return int(text)
      raise RecjaxError(f"Item {text} is not in the catalogue of items 1 to {self.num_items}.")
    likeness = lambda label: difflib.SequenceMatcher(None, text.lower(), label.lower()).ratio()
    ranked = sorted(((likeness(label), label) for label in self._index), key=lambda r: (-r[0], r[1]))
    near = [label for value, label in ranked[:3] if value >= 0.4]
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    raise RecjaxError(f"No item is called {text!r}.{hint}")

  def label(self, item: int) -> str:
    """What people call an item."""
    return self._labels[item] if item < len(self._labels) and self._labels[item] else str(item)

  def recommend(
    self, histories: Sequence[Sequence[int]], k: int = 10, variety: float = 0.0
  ) -> list[list[Recommendation]]:
    """The k best items for each history (ids, oldest first), none of them from the history.

    With `variety` above 0 the best ten times k are looked at, and every item of another category in
    the list so far is worth that much more score (`serve.variety`); RecjaxError where items have none.
    """
    if not histories:
      return []
    if variety and not len(self._categories):
      raise RecjaxError("Lists cannot be varied: the items of this run have no categories.")
    for history in histories:
      for item in history:
        if not 1 <= item <= self.num_items:
          raise RecjaxError(f"Item {item} is not in the catalogue of items 1 to {self.num_items}.")
    k = min(k, self.num_items)
    wanted = min(k * _CANDIDATES, self.num_items) if variety else k
    longest = max(1, max(len(h) for h in histories))
    recent = np.zeros((len(histories), self._length), np.int32)
    seen = np.zeros((len(histories), longest), np.int32)
    for row, history in enumerate(histories):
      tail = list(history)[-self._length :]
      if tail:
        recent[row, -len(tail) :] = tail
      seen[row, : len(history)] = history
    batch = {
      "user_id": np.zeros(len(histories), np.int32),
      "hist_item": recent,
      "hist_mask": recent != 0,
    }
    items, scores = jax.device_get(self._answer(self._variables, batch, seen, wanted))
    if variety:
      places = vary(scores, self._categories[items], k, variety)
      items, scores = (np.take_along_axis(a, places, axis=1) for a in (items, scores))
    return [
      [
        Recommendation(int(i), self.label(int(i)), float(s))
        for i, s in zip(row_items, row_scores, strict=True)
        if i
      ]
      for row_items, row_scores in zip(items, scores, strict=True)
    ]
