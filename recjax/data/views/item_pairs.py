"""The view for encoders of items: pairs of items of one category, as the frozen table has them.

Items are those that occur in training rows. Some are held out; validation and test ask which of them
are near one another. A pair is drawn once: an item and another of its category.
"""

import dataclasses

import numpy as np

from recjax.data.click_table import ClickTable
from recjax.data.frozen import FrozenTable, rows_of
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count, Positive


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "item_pairs"
  partners: Positive = 8  # pairs that each training item comes first in
  held_out: float = 0.1  # share of items for validation, and as much again for the test
  seed: Count = 0  # of pairs and held-out items

  def __post_init__(self):
    if not 0 < self.held_out < 0.5:
      raise ConfigError(f"config.view.held_out is a share above 0 and below 0.5, not {self.held_out}.")


def build(config: Config, data: ClickTable, split: None) -> View:
  """Rows of first_vector, second_vector [B, M] and their category, pair_group [B].

  Cases have first_vector, and the category as answer.
  """
  del split
  if not isinstance(data, ClickTable) or "item" not in data.frozen:
    raise DataError("The view 'item_pairs' needs a click table whose items have given vectors.")
  if "hist_cat" not in data.parts["train"] or data.parts["train"]["hist_cat"].ndim != 2:
    raise DataError("The view 'item_pairs' pairs items by category, of which each must have one.")
  category = np.zeros(data.vocabularies["item"], np.int32)
  for prefix in ("hist", "target"):
    category[data.parts["train"][f"{prefix}_item"]] = data.parts["train"][f"{prefix}_cat"]
  rng = np.random.default_rng(config.seed)
  items = rng.permutation(np.flatnonzero(category)).astype(np.int32)
  held = max(1, round(config.held_out * len(items)))
  own = items[2 * held :]
  first, second = _pairs(rng, own, category, config.partners)
  if not len(first):
    raise DataError(f"{data.name} has no two training items of one category.")
  table = data.frozen["item"]
  columns = {"first": first, "second": second, "group": category[first], "vectors": table.codes}
  train = _rows(table, columns, data.vocabularies)
  parts = [_cases(data, table, category, items[start : start + held]) for start in (0, held)]
  counts = {"item": np.bincount(first, minlength=len(category))}
  return View(train, *parts, counts, {"train_rows": train.count, "items": len(items)})


def _pairs(
  rng: np.random.Generator, items: np.ndarray, category: np.ndarray, partners: int
) -> tuple[np.ndarray, np.ndarray]:
  """Each item that is not alone in its category, `partners` times, and another item of the category."""
  items = items[np.argsort(category[items], kind="stable")]
  size = np.bincount(category[items])
  start = np.cumsum(size) - size
  place = np.repeat(np.arange(len(items)), partners)
  place = place[size[category[items[place]]] > 1]
  of = category[items[place]]
  step = 1 + np.floor(rng.random(len(place)) * (size[of] - 1)).astype(np.int64)
  other = start[of] + (place - start[of] + step) % size[of]
  return items[place], items[other]


def _rows(table: FrozenTable, columns: dict[str, np.ndarray], vocabularies: dict[str, int]) -> Rows:
  names = [name for name in ("first", "second") if name in columns]
  fields = {f"{name}_vector": Field(table.kind, (table.width,)) for name in names}
  if "group" in columns:
    fields["pair_group"] = Field("id")

  def gather(xp, columns, index):
    batch = {f"{name}_vector": rows_of(columns["vectors"], columns[name][index]) for name in names}
    return {**batch, "pair_group": columns["group"][index]} if "group" in columns else batch

  return Rows(len(columns["first"]), columns, gather, Schema(fields, vocabularies))


def _cases(data: ClickTable, table: FrozenTable, category: np.ndarray, items: np.ndarray) -> Cases:
  rows = _rows(table, {"first": items, "vectors": table.codes}, data.vocabularies)
  none = np.zeros((len(items), 0), np.int32)
  return Cases(rows, items, category[items][:, None], lambda index: none[index])
