"""The view for click models: a history, a candidate and whether it was taken.

For every training event but a user's first there is one row with the event as the candidate and
label 1, and `negatives` rows with an item of which the user's whole log is free and label 0, drawn
once, uniformly. Validation and test set one positive against `candidates` - 1 such negatives.
`newest`, `stride`, `popular`, `unseen` and `swap` make of this the protocols of papers;
`experiments/ctr.py` names them.
"""

import dataclasses
from pathlib import Path

import numpy as np

from recjax.data.frozen import FrozenTable, gather_vectors, open_frozen, vector_fields
from recjax.data.log import EventLog
from recjax.data.schema import Field, Schema
from recjax.data.splits import Holdout, Split
from recjax.data.views.candidates import other_items, training_targets, unseen_items
from recjax.data.views.next_item import position_dtype, ragged
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count, Positive, Share

_COUNTED = 1 << 20  # behaviours that are counted at a time


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "ctr"
  length: Positive = 50  # newest behaviours before the candidate
  negatives: Positive = 4  # per positive, in training
  candidates: Positive = 100  # per case when evaluating: one positive, the rest negatives
  seed: Count = 0  # of the negatives; fixed, so that models are compared on the same rows
  times: bool = False  # give the seconds of behaviours and of the candidates' moment as well
  vectors: str = ""  # file of frozen vectors, a row for each number of an item; see data/frozen.py
  newest: Count = 0  # training events of each user that are asked about; 0 = all but the first
  stride: Positive = 1  # ask about every stride-th of them only, counted back from the newest
  popular: bool = False  # draw negatives in proportion to events instead of uniformly
  unseen: bool = True  # negatives are absent from the user's log; else only different from the positive
  # Chance that a negative stands in the place of a positive. Above 0 every row, and every case, has
  # one candidate, whatever `negatives` and `candidates` are.
  swap: Share = 0.0


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows with user_id, group_id, hist_*, target_*, label, weight; `*` is item, cat, vector if known.

  With `times` also hist_time [B, L] and target_time [B], counted from the log's origin.
  """
  if not isinstance(log, EventLog):
    raise DataError("The view 'ctr' needs an event log; for a click table take the view 'table'.")
  if config.candidates < 2:
    raise ConfigError("The view 'ctr' needs view.candidates >= 2, a positive and a negative.")
  if config.times and log.time is None:
    raise DataError(f"{log.name} has no times: set view.times=False.")
  user, position = training_targets(log, split, config.newest, config.stride)
  candidate, label = _candidates(log, config, user, position, config.negatives, 0)
  repeat = candidate.shape[1]
  begin = split.train_begin[user]
  columns = {
    "user": np.repeat(user, repeat),
    "begin": np.repeat(begin, repeat),
    "end": np.repeat(position, repeat),
    "candidate": candidate.reshape(-1),
    "label": label.reshape(-1),
  }
  given = _given(config, log)
  train = click_rows(log, log.item, config.length, columns, (), *given)
  counts = _counts(log, config.length, begin, position, candidate, repeat)
  test = _cases(log, config, split.test, 2, given)
  same = split.validation is split.test
  facts = {
    "train_rows": train.count,
    **({"swap": config.swap} if config.swap else
       {"negatives": config.negatives, "candidates": config.candidates}),
  }
  validation = test if same else _cases(log, config, split.validation, 1, given)
  return View(train, validation, test, counts, facts)


def _candidates(
  log: EventLog, config: Config, user: np.ndarray, position: np.ndarray, negatives: int, stream: int
) -> tuple[np.ndarray, np.ndarray]:
  """Items int32 and labels float32 [n, 1 + negatives], or [n, 1] with `swap`.

  The positive is the event at `position` [n] of `user` [n], and stands first.
  """
  rng = np.random.default_rng([config.seed, stream])
  positive = np.asarray(log.item[position])
  swapped = rng.random(len(user)) < config.swap if config.swap else None
  negatives = 1 if config.swap else negatives
  if config.unseen:
    negative = unseen_items(log, np.repeat(user, negatives), rng, config.popular)
  else:
    negative = other_items(log, np.repeat(positive, negatives), rng, config.popular)
  if config.swap:
    return np.where(swapped, negative, positive)[:, None], 1 - swapped[:, None].astype(np.float32)
  label = np.zeros((len(user), 1 + negatives), np.float32)
  label[:, 0] = 1.0
  return np.concatenate([positive[:, None], negative.reshape(-1, negatives)], axis=1), label


def _given(config: Config, log: EventLog) -> tuple[FrozenTable | None, np.ndarray | None]:
  """Vectors and times, where they are asked for."""
  return given_vectors(config.vectors, log), log.time if config.times else None


def given_vectors(path: str, log: EventLog) -> FrozenTable | None:
  """The frozen vectors of a log's items in a file, if one is named.

  Raises ConfigError for a log whose items were renumbered, DataError for a file that does not fit.
  """
  if not path:
    return None
  if log.facts.get("cleaned", {}).get("items_outside_core"):
    raise ConfigError(
      "The rows of view.vectors are items by their first numbers: with it set data.core=0 and "
      "data.most_popular=0."
    )
  return open_frozen(Path(path), log.num_items + 1)


def click_rows(
  log: EventLog,
  behaviours: np.ndarray,
  length: int,
  columns: dict[str, np.ndarray],
  shape: tuple[int, ...],
  vectors: FrozenTable | None = None,
  times: np.ndarray | None = None,
) -> Rows:
  """Rows whose histories are slices of `behaviours`, items in the order of users and times.

  Args:
    log: gives vocabularies and, where items have one, the category.
    behaviours: items [E].
    length: newest behaviours of a history that a row shows.
    columns: user [n]; begin and end [n] of its history in `behaviours`; candidate and label [n],
      or [n, C].
    shape: () for one candidate a row, (C,) for several.
    vectors: of items, if given.
    times: seconds int32 [E] of behaviours; the moment of a row is that of the behaviour at its end.
  """
  with_category = "category" in log.items and "category" in log.vocabularies
  fields = {
    "user_id": Field("id", (), "user"),
    "group_id": Field("id", ()),
    "hist_item": Field("ids", (length,), "item"),
    "hist_mask": Field("mask", (length,)),
    "target_item": Field("ids" if shape else "id", shape, "item"),
    "label": Field("label", shape),
    "weight": Field("float", ()),
  }
  if with_category:
    fields["hist_cat"] = Field("ids", (length,), "category")
    fields["target_cat"] = Field("ids" if shape else "id", shape, "category")
  if vectors is not None:
    fields |= vector_fields(vectors, {"hist": (length,), "target": shape})
  if times is not None:
    fields["hist_time"] = Field("time", (length,))
    fields["target_time"] = Field("time", ())
  dtype = position_dtype(columns["end"])
  columns = {
    "item": behaviours,
    "user": columns["user"].astype(np.int32),
    "begin": columns["begin"].astype(dtype),
    "end": columns["end"].astype(dtype),
    "candidate": columns["candidate"].astype(np.int32),
    "label": columns["label"],
  }
  if with_category:
    columns["category"] = np.asarray(log.items["category"], np.int32)
  if vectors is not None:
    columns["item_vectors"] = vectors.codes
  if times is not None:
    columns["time"] = times

  def gather(xp, columns, index):
    begin, end = columns["begin"][index][:, None], columns["end"][index][:, None]
    position = end - length + xp.arange(length, dtype=end.dtype)[None, :]
    mask = position >= begin
    history = xp.where(mask, columns["item"][xp.where(mask, position, 0)], 0)
    user, candidate = columns["user"][index], columns["candidate"][index]
    batch = {
      "user_id": user,
      "group_id": user,
      "hist_item": history,
      "hist_mask": mask,
      "target_item": candidate,
      "label": columns["label"][index],
      "weight": xp.ones(user.shape, np.float32),
    }
    if with_category:
      batch["hist_cat"] = columns["category"][history]
      batch["target_cat"] = columns["category"][candidate]
    if times is not None:
      batch["hist_time"] = xp.where(mask, columns["time"][xp.where(mask, position, 0)], 0)
      batch["target_time"] = columns["time"][end[:, 0]]
    if vectors is not None:
      batch |= gather_vectors(columns["item_vectors"], batch)
    return batch

  return Rows(len(columns["end"]), columns, gather, Schema(fields, log.vocabularies))


def _cases(log: EventLog, config: Config, holdout: Holdout, stream: int, given: tuple) -> Cases:
  candidate, label = _candidates(
    log, config, holdout.user.astype(np.int64), holdout.history_end, config.candidates - 1, stream
  )
  columns = {
    "user": holdout.user, "begin": holdout.begin, "end": holdout.history_end,
    "candidate": candidate, "label": label,
  }
  rows = click_rows(log, log.item, config.length, columns, candidate.shape[1:], *given)
  longest = int((holdout.history_end - holdout.begin).max(initial=1))
  seen = lambda index: ragged(log.item, holdout.begin[index], holdout.history_end[index], longest)
  answers = np.where(label[:, :1] > 0, candidate[:, :1], 0)
  return Cases(rows, holdout.user, answers, seen)


def _counts(log, length, begin, position, candidate, repeat) -> dict[str, np.ndarray]:
  """Occurrences in the training rows, `repeat` of which share a history."""
  start = np.maximum(begin, position - length)
  return occurrences(log, log.item, start, position, candidate, repeat)


def occurrences(
  log: EventLog,
  behaviours: np.ndarray,
  start: np.ndarray,
  end: np.ndarray,
  candidate: np.ndarray,
  repeat: int = 1,
) -> dict[str, np.ndarray]:
  """Occurrences of each item and category, as a candidate or in the histories shown.

  Behaviour p counts `repeat` times for every history start .. end - 1 that holds it; a difference
  array counts those without touching the histories one by one.
  """
  change = np.zeros(len(behaviours) + 1, np.int64)
  np.add.at(change, start, repeat)
  np.add.at(change, end, -repeat)
  counts = np.bincount(candidate.reshape(-1), minlength=log.vocabularies["item"])
  shown = 0  # histories that hold the behaviour before
  for first in range(0, len(behaviours), _COUNTED):
    item = np.asarray(behaviours[first : first + _COUNTED])
    times = shown + np.cumsum(change[first : first + len(item)])
    counts += np.bincount(item, times, len(counts)).astype(np.int64)
    shown = times[-1]
  result = {"item": counts}
  if "category" in log.items and "category" in log.vocabularies:
    size = log.vocabularies["category"]
    category = np.asarray(log.items["category"])[: len(counts)]
    result["category"] = np.bincount(category, counts, size).astype(np.int64)
  return result
