"""The view for data that come as finished rows: click tables with train, validation and test parts."""

import dataclasses

import numpy as np

from recjax.data.click_table import ClickTable
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import DataError

_VOCABULARY = {"item": "item", "cat": "category", "id": "user"}
_LEFT_OUT = ("bayes",)  # the truth is for judging, not for learning


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "table"


def build(config: Config, data: ClickTable, split: None) -> View:
  """Rows as the table has them: hist_*, target_*, user_id, group_id, label, weight."""
  del config, split
  if not isinstance(data, ClickTable):
    raise DataError("The view 'table' needs a click table; for an event log take 'ctr'.")
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


def _rows(data: ClickTable, part: str) -> Rows:
  columns = {n: c for n, c in data.parts[part].items() if n not in _LEFT_OUT}
  fields = {name: _field(name, column) for name, column in columns.items()}
  gather = lambda xp, columns, index: {name: c[index] for name, c in columns.items()}
  return Rows(len(columns["label"]), columns, gather, Schema(fields, data.vocabularies))


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
