"""The view for models of interest as a function of time: a user's events with the time of each.

A row is up to `length` events of a user, cut from the newest backwards; the first event of a row is
the last of the one before it, so every training event but a user's first can be predicted once. Which
of them are contexts and which are targets is drawn anew in every step, by the model. Times count from
the row's first event; where a log has an order only, event n has time n / length. An evaluation case
also has the time that is asked for: that of the first right answer, when the user is back.
"""

import dataclasses

import numpy as np

from recjax.data.log import EventLog
from recjax.data.schema import Field, Schema
from recjax.data.splits import Holdout, Split
from recjax.data.views.next_item import cases_of, item_counts, position_dtype, windows
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count, Positive, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "interest_functions"
  length: Positive = 20  # events a row; the newest ones when predicting
  # Seconds that count as 1. 0: a row's own span, in a case up to the time that is asked for.
  unit: Weight = 0.0
  # Only events that follow the one before after this many seconds or more are asked for in training.
  pause: Count = 0


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows of user_id [B] and hist_item, hist_time, hist_mask, hist_asked [B, P], oldest first.

  `hist_asked` marks events that may be targets. Cases have query_time [B] instead of it.
  """
  if not isinstance(log, EventLog):
    raise DataError(
      "The view 'interest_functions' needs an event log; this data set is a click table."
    )
  if config.length < 2:
    raise ConfigError("The view 'interest_functions' needs rows of view.length >= 2 events.")
  if log.time is None and (config.unit or config.pause):
    raise ConfigError(f"view.unit and view.pause count seconds, but {log.name} has no times.")
  window = windows(split.train_begin, split.train_end, config.length - 1)
  if not len(window["end"]):
    raise DataError(f"{log.name} has no user with 2 training events or more.")
  train = _rows(config, log, window["user"], window["begin"], window["end"], training=True)
  return View(
    train,
    _cases(config, log, split.validation),
    _cases(config, log, split.test),
    {"item": item_counts(log, split)},
    {"train_rows": train.count, "length": config.length},
  )


def _rows(config: Config, log: EventLog, user, begin, end, *, training: bool) -> Rows:
  """Rows over the events begin .. end - 1; a case asks for the moment of event `end`."""
  length, timed = config.length, log.time is not None
  history = {
    "user_id": Field("id", (), "user"),
    "hist_item": Field("ids", (length,), "item"),
    "hist_time": Field("float", (length,)),
    "hist_mask": Field("mask", (length,)),
  }
  more = {"hist_asked": Field("mask", (length,))} if training else {"query_time": Field("float")}
  dtype = position_dtype(end)
  begin = np.maximum(begin, end - length)
  columns = {
    "item": log.item,
    "user": user.astype(np.int32),
    "begin": begin.astype(dtype),
    "end": end.astype(dtype),
    "scale": _scale(config, log, begin, end - 1 if training else end),
  }
  if timed:
    columns["time"] = log.time

  def gather(xp, columns, index):
    begin, end = columns["begin"][index][:, None], columns["end"][index][:, None]
    position = end - length + xp.arange(length, dtype=end.dtype)[None, :]
    mask = position >= begin
    position = xp.where(mask, position, begin)
    # What is compared stays a whole number: seconds, or places in the row.
    clock = lambda at: columns["time"][at] - columns["time"][begin] if timed else at - begin
    elapsed = clock(position)
    scale = columns["scale"][index][:, None]
    batch = {
      "user_id": columns["user"][index],
      "hist_item": xp.where(mask, columns["item"][position], 0),
      "hist_time": elapsed.astype(np.float32) * scale,
      "hist_mask": mask,
    }
    if not training:
      return {**batch, "query_time": (clock(end).astype(np.float32) * scale)[:, 0]}
    since = elapsed - clock(xp.maximum(position - 1, begin))
    return {**batch, "hist_asked": mask & (position > begin) & (since >= config.pause)}

  return Rows(len(end), columns, gather, Schema({**history, **more}, log.vocabularies))


def _scale(config: Config, log: EventLog, first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """What turns seconds (or places) of each row into its unit of time, float32 [rows]."""
  if log.time is None:
    return np.full(len(first), 1.0 / config.length, np.float32)
  if config.unit:
    return np.full(len(first), 1.0 / config.unit, np.float32)
  time = np.asarray(log.time)
  return (1.0 / np.maximum(time[last] - time[first], 1)).astype(np.float32)


def _cases(config: Config, log: EventLog, holdout: Holdout) -> Cases:
  """Evaluation cases of a held-out part: the newest events before each moment, and its time."""
  history = holdout.user, holdout.begin, holdout.history_end
  return cases_of(log, holdout, _rows(config, log, *history, training=False))
