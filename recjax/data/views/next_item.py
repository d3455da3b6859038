"""The view for next-item models: windows of a user's history, each position with the item after it.

A training row is a window of up to `length` inputs and, one step later, as many targets. Windows are
laid from the newest event backwards without overlap of targets, so every training event but a user's
first is a target exactly once an epoch.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping

import numpy as np

from recjax.data.counts import TrainingCounts, count_pairs, count_transitions
from recjax.data.log import EventLog
from recjax.data.preparation import blocks
from recjax.data.schema import Field, Schema
from recjax.data.splits import Holdout, Split
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import DataError
from recjax.ranges import Positive
from recjax.registry import unknown

_COUNTED = 1 << 20  # events whose items are counted at a time


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "next_item"
  length: Positive = 50  # inputs a row; longer histories give several rows, or are cut when predicting


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows of fields user_id [B], hist_item [B, L], hist_mask [B, L], target_item [B, L]."""
  if not isinstance(log, EventLog):
    raise DataError("The view 'next_item' needs an event log; this data set is a click table.")
  window = windows(split.train_begin, split.train_end, config.length)
  if not len(window["end"]):
    raise DataError(f"{log.name} has no user with 2 training events or more.")
  schema = Schema(
    {
      "user_id": Field("id", (), "user"),
      "hist_item": Field("ids", (config.length,), "item"),
      "hist_mask": Field("mask", (config.length,)),
      "target_item": Field("ids", (config.length,), "item"),
    },
    log.vocabularies,
  )
  length = config.length

  def gather(xp, columns, index):
    begin, end = columns["begin"][index][:, None], columns["end"][index][:, None]
    position = end - 1 - length + xp.arange(length, dtype=end.dtype)[None, :]
    mask = position >= begin
    position = xp.where(mask, position, 0)
    item = columns["item"]
    return {
      "user_id": columns["user"][index],
      "hist_item": xp.where(mask, item[position], 0),
      "hist_mask": mask,
      "target_item": xp.where(mask, item[position + 1], 0),
    }

  columns = {"item": log.item, **window}
  train = Rows(len(window["end"]), columns, gather, schema)
  return View(
    train,
    holdout_cases(log, split.validation, length),
    holdout_cases(log, split.test, length),
    training_counts(log, split),
    {"train_rows": train.count, "length": length},
  )


def windows(begin: np.ndarray, end: np.ndarray, length: int) -> dict[str, np.ndarray]:
  """Windows over events begin[u] .. end[u] - 1 of every user u, cut from the newest backwards.

  Returns columns user, begin, end [R]: targets are the last `length` events of the window at most,
  and the event before each target is its input.
  """
  targets = np.maximum(end - begin - 1, 0)
  pieces = -(-targets // length)
  user = np.repeat(np.arange(len(begin)), pieces)
  first = np.cumsum(pieces) - pieces
  back = np.arange(len(user)) - first[user]
  stop = end[user] - back * length
  start = np.maximum(begin[user], stop - length - 1)
  dtype = position_dtype(end)
  return {
    "user": user.astype(np.int32), "begin": start.astype(dtype), "end": stop.astype(dtype)
  }


def holdout_cases(log: EventLog, holdout: Holdout, length: int) -> Cases:
  """Evaluation cases of a held-out part: the newest `length` items before each moment."""
  rows = history_rows(log, holdout.user, holdout.begin, holdout.history_end, length)
  return cases_of(log, holdout, rows)


def history_rows(
  log: EventLog,
  user: np.ndarray,
  begin: np.ndarray,
  end: np.ndarray,
  length: int,
  more: Mapping[str, tuple[Field, np.ndarray]] = types.MappingProxyType({}),
) -> Rows:
  """Rows with the newest `length` items of events begin .. end - 1, and `more` fields as they are."""
  schema = Schema(
    {
      "user_id": Field("id", (), "user"),
      "hist_item": Field("ids", (length,), "item"),
      "hist_mask": Field("mask", (length,)),
      **{name: field for name, (field, _) in more.items()},
    },
    log.vocabularies,
  )
  dtype = position_dtype(end)

  def gather(xp, columns, index):
    begin, end = columns["begin"][index][:, None], columns["end"][index][:, None]
    position = end - length + xp.arange(length, dtype=end.dtype)[None, :]
    mask = position >= begin
    return {
      "user_id": columns["user"][index],
      "hist_item": xp.where(mask, columns["item"][xp.where(mask, position, 0)], 0),
      "hist_mask": mask,
      **{name: columns[name][index] for name in more},
    }

  columns = {
    "item": log.item,
    "user": user.astype(np.int32),
    "begin": begin.astype(dtype),
    "end": end.astype(dtype),
    **{name: values for name, (_, values) in more.items()},
  }
  return Rows(len(user), columns, gather, schema)


def cases_of(log: EventLog, holdout: Holdout, rows: Rows) -> Cases:
  """The cases of a held-out part: `rows` with what was seen before each moment and what followed."""
  longest = int((holdout.history_end - holdout.begin).max(initial=1))
  seen = lambda index: ragged(
    log.item, holdout.begin[index], holdout.history_end[index], longest
  )
  answers = int((holdout.target_end - holdout.history_end).max(initial=1))
  targets = ragged(log.item, holdout.history_end, holdout.target_end, answers)

  def column(name):
    if name not in log.columns:
      raise DataError(unknown(f"event column of {log.name}", name, log.columns))
    values = np.asarray(log.columns[name])[holdout.history_end]
    names = log.facts.get("names", {}).get(f"events.{name}")
    return np.asarray(names)[values] if names else values

  return Cases(rows, holdout.user, targets, seen, column)


def ragged(values: np.ndarray, begin: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
  """Slices values[begin[i]:end[i]] as one array [n, width], padded with 0 behind."""
  position = begin[:, None] + np.arange(width)[None, :]
  mask = position < end[:, None]
  return np.where(mask, values[np.where(mask, position, 0)], 0).astype(np.int32)


def position_dtype(end: np.ndarray) -> type:
  """int32 where every position fits, so that the rows can live on a device; else int64."""
  return np.int32 if end.max(initial=0) < 2**31 - 1 else np.int64


def training_counts(log: EventLog, split: Split) -> TrainingCounts:
  """Occurrences of each item in training; transitions and who had what when asked for."""
  return TrainingCounts(
    {"item": item_counts(log, split)},
    functools.partial(count_transitions, log, split),
    log.items,
    pairs=functools.partial(count_pairs, log, split),
  )


def item_counts(log: EventLog, split: Split) -> np.ndarray:
  """How often each item occurs among the training events, int64 [item vocabulary].

  Memory follows the vocabularies, not the number of events.
  """
  counts = np.zeros(log.vocabularies["item"], np.int64)
  indptr = np.asarray(log.indptr)
  for start, stop in blocks(indptr, _COUNTED):
    first, last = indptr[start], indptr[stop]
    begin, end = split.train_begin[start:stop] - first, split.train_end[start:stop] - first
    step = np.zeros(last - first + 1, np.int8)
    step[begin[end > begin]] += 1
    step[end[end > begin]] -= 1
    trained = np.cumsum(step[:-1], dtype=np.int8) > 0
    counts += np.bincount(log.item[first:last][trained], minlength=len(counts))
  return counts
