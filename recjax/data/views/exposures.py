"""The view for exposure logs: what a user was shown, whether it was clicked, and the clicks before.

Every event is a row: its item is the candidate, its label whether the column `label` is above 0.
The history are the user's events with label 1 at strictly earlier times, after the behaviours of a
user column of items that came before the log (see `docs/data.md`), if one is named. Training,
validation and test are cut in time, for all users at once (split `global_time`).
"""

import dataclasses

import numpy as np

from recjax.data.log import EventLog
from recjax.data.splits import Split
from recjax.data.views.ctr import click_rows, given_vectors, occurrences
from recjax.data.views.next_item import ragged
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Positive
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "exposures"
  length: Positive = 50  # newest behaviours before the exposure
  label: str = "is_click"  # event column; above 0 is a click
  earlier: str = ""  # user column of earlier items, oldest first, 0 for none
  # User column with the time (Unix seconds) that they reach to: exposures not after it are left out.
  earlier_until: str = ""
  vectors: str = ""  # file of frozen vectors, a row for each number of an item; see data/frozen.py


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows with user_id, group_id, hist_*, target_*, label, weight; `*` is item, cat, vector if known."""
  if not isinstance(log, EventLog):
    raise DataError("The view 'exposures' needs an event log; for a click table take 'table'.")
  if "test_cut" not in split.facts:
    raise ConfigError("The view 'exposures' needs split.name='global_time'.")
  if config.label not in log.columns:
    raise ConfigError(unknown("event column for view.label", config.label, log.columns))
  owner = np.repeat(np.arange(log.num_users + 1), np.diff(log.indptr))
  time = np.asarray(log.time).astype(np.int64)
  label = (np.asarray(log.columns[config.label]) > 0).astype(np.float32)
  earlier, until = _earlier(config, log)
  behaviours, begin, end = histories(owner, time, np.asarray(log.item), label, earlier)
  known = time > until[owner]
  cuts = [np.iinfo(np.int64).min, split.facts["cut"], split.facts["test_cut"], None]
  parts, vectors = [], given_vectors(config.vectors, log)
  for low, high in zip(cuts[:-1], cuts[1:], strict=True):
    inside = known & (time >= low) & (True if high is None else time < high)
    at = np.flatnonzero(inside)
    if not len(at):
      raise DataError(f"A part of {log.name} has no exposures between {low} and {high}.")
    columns = {
      "user": owner[at], "begin": begin[at], "end": end[at], "candidate": np.asarray(log.item)[at],
      "label": label[at],
    }
    parts.append((at, click_rows(log, behaviours, config.length, columns, (), vectors)))
  train = parts[0][0]
  start = np.maximum(begin[train], end[train] - config.length)
  return View(
    parts[0][1],
    _cases(log, behaviours, config.length, owner, begin, end, label, *parts[1]),
    _cases(log, behaviours, config.length, owner, begin, end, label, *parts[2]),
    occurrences(log, behaviours, start, end[train], np.asarray(log.item)[train]),
    {
      **{f"{name}_rows": len(at) for name, (at, _) in zip(
        ("train", "validation", "test"), parts, strict=True
      )},
      "clicks": int(label.sum()),
      "earlier_behaviours": int((earlier > 0).sum()),
      "exposures_within_earlier": int((~known).sum()),
    },
  )


def histories(
  owner: np.ndarray, time: np.ndarray, item: np.ndarray, label: np.ndarray, earlier: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Behaviours [P] of all users, one after another, and the history of each event as a slice.

  A user's behaviours are those `earlier` [users + 1, W], where not 0, then the items clicked. The
  history of event e, behaviours begin[e] .. end[e] - 1, holds clicks at times before e's only.

  Args:
    owner: user [E] of each event, not falling.
    time: [E], not falling for a user.
    item: [E].
    label: [E], 1 for a click.
    earlier: items by user, oldest first, 0 for none.
  """
  lists = earlier > 0
  clicks = label > 0
  each = lists.sum(1) + np.bincount(owner[clicks], minlength=len(earlier))
  first = np.cumsum(each) - each
  behaviours = np.zeros(each.sum(), np.int32)
  user, _ = np.nonzero(lists)
  rank = np.cumsum(lists, axis=1)[lists] - 1
  behaviours[first[user] + rank] = earlier[lists]
  # How many clicks of the same user come before each event, and before its time.
  total = np.cumsum(clicks) - clicks
  event = np.arange(len(owner))
  starts = np.concatenate([[True], owner[1:] != owner[:-1]]) if len(owner) else np.zeros(0, bool)
  of_user = np.maximum.accumulate(np.where(starts, event, 0))
  moments = starts | np.concatenate([[True], time[1:] != time[:-1]]) if len(owner) else starts
  of_moment = np.maximum.accumulate(np.where(moments, event, 0))
  clicked = first[owner] + lists.sum(1)[owner] + total - total[of_user]
  behaviours[clicked[clicks]] = item[clicks]
  return behaviours, first[owner], clicked[of_moment]


def _earlier(config: Config, log: EventLog) -> tuple[np.ndarray, np.ndarray]:
  """Earlier items [users + 1, W] and the time [users + 1] that they reach to, from the origin."""
  none = np.iinfo(np.int64).min
  if not config.earlier:
    return np.zeros((log.num_users + 1, 0), np.int32), np.full(log.num_users + 1, none)
  for name in filter(None, (config.earlier, config.earlier_until)):
    if name not in log.users:
      raise ConfigError(unknown("user column for view.earlier", name, log.users))
  earlier = np.asarray(log.users[config.earlier])
  if earlier.ndim != 2 or earlier.min(initial=0) < 0 or earlier.max(initial=0) > log.num_items:
    raise DataError(f"The user column {config.earlier!r} of {log.name} holds no lists of its items.")
  if log.facts.get("cleaned", {}).get("items_outside_core"):
    raise ConfigError(
      f"The lists of {config.earlier!r} hold items by their first numbers: with view.earlier set "
      "data.core=0."
    )
  until = np.full(log.num_users + 1, none)
  if config.earlier_until:
    reach = np.asarray(log.users[config.earlier_until]).astype(np.int64) - log.origin
    until = np.where((earlier > 0).any(1), reach, none)
  return earlier, until


def _cases(log, behaviours, length, owner, begin, end, label, at, rows: Rows) -> Cases:
  """Exposures as cases; the answer is the item where it was clicked."""
  answers = np.where(label[at] > 0, np.asarray(log.item)[at], 0)[:, None].astype(np.int32)
  seen = lambda index: ragged(
    behaviours, np.maximum(begin[at[index]], end[at[index]] - length), end[at[index]], length
  )
  return Cases(rows, owner[at].astype(np.int32), answers, seen)
