"""The view for models that predict one item from what came before it: a history and its next item.

A training row is a user's history up to a moment, its newest `length` events, and the item of that
moment. Every training event that has enough before it is a target once an epoch; or, with `cuts`, every
user gets as many rows, cut at random, so that long histories weigh no more than short ones.
"""

import dataclasses

import numpy as np

from recjax.data.log import EventLog
from recjax.data.schema import Field, Schema
from recjax.data.splits import Split
from recjax.data.views.next_item import holdout_cases, position_dtype, training_counts
from recjax.data.views.rows import Rows, View
from recjax.errors import DataError
from recjax.ranges import LARGEST, Count, Positive


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "prefixes"
  length: Positive = 50  # events of a history, the newest ones
  # Events before a target at least; 0: a user's first event is a target, too, of an empty history.
  shortest: Count = 1
  # Rows of each user, at moments drawn evenly with replacement; 0: a row of each moment.
  cuts: Count = 0
  seed: Count = 0  # of the draws


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows of fields user_id [B], hist_item [B, L], hist_mask [B, L], target_item [B]."""
  if not isinstance(log, EventLog):
    raise DataError("The view 'prefixes' needs an event log; this data set is a click table.")
  length = config.length
  moments = np.maximum(split.train_end - split.train_begin - config.shortest, 0)
  users = np.flatnonzero(moments)
  if not len(users):
    raise DataError(
      f"{log.name} has no user with {config.shortest + 1} training events or more, and the view "
      f"'prefixes' wants {config.shortest} before a target."
    )
  moments, begin = moments[users], split.train_begin[users]
  count = len(users) * config.cuts if config.cuts else int(moments.sum())
  if count > LARGEST:
    raise DataError(f"{count} rows are more than can be numbered: choose view.cuts, rows a user.")
  dtype = position_dtype(split.train_end)
  columns = {
    "item": log.item,
    "user": users.astype(np.int32),
    "begin": begin.astype(dtype),
    "first": (begin + config.shortest).astype(dtype),
  }
  if config.cuts:
    drawn = np.random.default_rng(config.seed).random((len(users), config.cuts))
    columns["moment"] = np.floor(drawn * moments[:, None]).astype(np.int32).reshape(-1)
  else:
    columns["row"] = (np.cumsum(moments) - moments).astype(np.int32)

  def gather(xp, columns, index):
    if config.cuts:
      place, moment = index // config.cuts, columns["moment"][index]
    else:
      place = xp.searchsorted(columns["row"], index, side="right") - 1
      moment = index - columns["row"][place]
    target = (columns["first"][place] + moment.astype(dtype))[:, None]
    position = target - length + xp.arange(length, dtype=dtype)[None, :]
    mask = position >= columns["begin"][place][:, None]
    return {
      "user_id": columns["user"][place],
      "hist_item": xp.where(mask, columns["item"][xp.where(mask, position, 0)], 0),
      "hist_mask": mask,
      "target_item": columns["item"][target[:, 0]],
    }

  schema = Schema(
    {
      "user_id": Field("id", (), "user"),
      "hist_item": Field("ids", (length,), "item"),
      "hist_mask": Field("mask", (length,)),
      "target_item": Field("id", (), "item"),
    },
    log.vocabularies,
  )
  return View(
    Rows(count, columns, gather, schema),
    holdout_cases(log, split.validation, length),
    holdout_cases(log, split.test, length),
    training_counts(log, split),
    {"train_rows": count, "train_users": len(users), "length": length},
  )
