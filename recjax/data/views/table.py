"""The view for data that come as finished rows: click tables with train, validation and test parts."""

import dataclasses

import numpy as np

from recjax.data.click_table import ClickTable
from recjax.data.frozen import gather_vectors, vector_fields
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import DataError

_VOCABULARY = {"item": "item", "cat": "category", "id": "user"}
_VECTORS = "item_vectors"  # the column that all rows share
_LEFT_OUT = ("bayes",)  # the truth is for judging, not for learning


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "table"
  # Put the behaviours of each test history in random order: what a model makes of their order is lost.
  shuffle_test: bool = False


def build(config: Config, data: ClickTable, split: None) -> View:
  """Rows as the table has them: hist_*, target_*, user_id, group_id, label, weight.

  Where items have frozen vectors, hist_vector and target_vector are those of hist_item and target_item.
  """
  del split
  if not isinstance(data, ClickTable):
    raise DataError("The view 'table' needs a click table; for an event log take 'ctr'.")
  if config.shuffle_test:
    data = data._replace(parts={**data.parts, "test": _shuffled(data.parts["test"])})
  train = _rows(data, "train")
  counts = {
    vocabulary: sum(
      np.bincount(train.columns[name].reshape(-1), minlength=size)
      for name in train.schema.indexing(vocabulary)
    )
    for vocabulary, size in data.vocabularies.items()
  }
  facts = {"train_rows": train.count}
  return View(train, _cases(data, "validation"), _cases(data, "test"), counts, facts)


def _shuffled(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The columns with each row's real behaviours in random order; padding stays where it is."""
  mask = columns["hist_mask"]
  tickets = np.where(mask, np.random.default_rng(0).random(mask.shape), 1.0)
  order = np.empty(mask.shape, np.int64)
  real_first = np.argsort(~mask, axis=1, kind="stable")
  np.put_along_axis(order, real_first, np.argsort(tickets, axis=1, kind="stable"), axis=1)
  shuffled = {
    name: np.take_along_axis(c, order.reshape(order.shape + (1,) * (c.ndim - 2)), axis=1)
    for name, c in columns.items() if name.startswith("hist_") and name != "hist_mask"
  }
  return {**columns, **shuffled}


def _rows(data: ClickTable, part: str) -> Rows:
  columns = {n: c for n, c in data.parts[part].items() if n not in _LEFT_OUT}
  fields = {name: _field(name, column) for name, column in columns.items()}
  count, frozen = len(columns["label"]), data.frozen.get("item")
  if frozen is not None:
    shapes = {prefix: columns[f"{prefix}_item"].shape[1:] for prefix in ("hist", "target")}
    fields |= vector_fields(frozen, shapes)
    columns[_VECTORS] = frozen.codes

  def gather(xp, columns, index):
    batch = {name: column[index] for name, column in columns.items() if name != _VECTORS}
    return batch if frozen is None else {**batch, **gather_vectors(columns[_VECTORS], batch)}

  return Rows(count, columns, gather, Schema(fields, data.vocabularies))


def _field(name: str, column: np.ndarray) -> Field:
  shape = column.shape[1:]
  if column.dtype == np.bool_:
    return Field("mask", shape)
  if column.dtype == np.float32:
    return Field("label" if name == "label" else "float", shape)
  if name == "group_id":
    return Field("id")
  return Field("ids" if shape else "id", shape, _VOCABULARY[name.split("_")[-1]])


def _cases(data: ClickTable, part: str) -> Cases:
  rows = _rows(data, part)
  answers = np.where(data.parts[part]["label"] > 0, data.parts[part]["target_item"], 0)
  seen = lambda index: data.parts[part]["hist_item"][index]
  return Cases(rows, data.parts[part]["user_id"], answers[:, None].astype(np.int32), seen)
