"""Splits: which events may be trained on, and which moments are evaluated.

Every rule is written as positions in the sorted event log, so a split of 200 million events is a few
arrays per user. `check_leakage` states what must hold for any of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recjax.config import Split as SplitConfig
from recjax.data.log import EventLog
from recjax.errors import ConfigError, DataError
from recjax.registry import unknown

_PARTS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}


class Holdout(NamedTuple):
  """Moments to evaluate, one a row; positions count events of the log, int64 [n].

  The history is events begin .. history_end - 1, the right answers history_end .. target_end - 1.
  """

  user: np.ndarray
  begin: np.ndarray
  history_end: np.ndarray
  target_end: np.ndarray


class Split(NamedTuple):
  """A split of an event log.

  Attributes:
    train_begin: int64 [num_users + 1], first event of each user to train on (user 0 owns none).
    train_end: int64 [num_users + 1], one past the last.
    validation: moments that choose variables and stop training.
    test: moments reported once, at the end.
    facts: counts and cuts for the report.
  """

  train_begin: np.ndarray
  train_end: np.ndarray
  validation: Holdout
  test: Holdout
  facts: Mapping[str, Any]


def make_split(log: EventLog, config: SplitConfig) -> Split:
  """Splits a log by the rule `config.name` and checks it for leakage."""
  rules = {
    "leave_one_out": _leave_one_out,
    "leave_last_out": _leave_last_out,
    "global_time": _global_time,
    "user_disjoint": _user_disjoint,
    "users_by_time": _users_by_time,
    "few_shot": _few_shot,
    "given": _given,
  }
  if config.name not in rules:
    raise ConfigError(unknown("split", config.name, rules))
  split = rules[config.name](log, config)
  check_leakage(log, split)
  facts = {
    "rule": config.name,
    "train_events": int((split.train_end - split.train_begin).sum()),
    "validation_cases": len(split.validation.user),
    "test_cases": len(split.test.user),
    "ordered": log.ordered,
    **split.facts,
  }
  return split._replace(facts=facts)


def with_validation(split: Split) -> Split:
  """The split whose training ranges also hold the validation answers: what is known at test time."""
  end = split.train_end.copy()
  end[split.validation.user] = split.validation.target_end
  return split._replace(train_end=end)


def check_leakage(log: EventLog, split: Split) -> None:
  """Raises DataError when a training event lies at or after a moment it must not know.

  For every split: no event trained on belongs to a user's own targets or comes after them. Where the
  facts name a cut in time: no event trained on is as late as the cut.
  """
  for part in ("validation", "test"):
    holdout = getattr(split, part)
    late = split.train_end[holdout.user] > holdout.history_end
    trained = split.train_end[holdout.user] > split.train_begin[holdout.user]
    if (late & trained).any():
      user = int(holdout.user[np.argmax(late & trained)])
      raise DataError(
        f"Leakage in {log.name}: user {user} has training events at or after the {part} target."
      )
    if ((holdout.history_end >= holdout.target_end) | (holdout.begin > holdout.history_end)).any():
      raise DataError(f"A {part} case of {log.name} has no target or an ill-formed history.")
  if "cut" in split.facts and log.time is not None:
    users = np.flatnonzero(split.train_end > split.train_begin)
    last = np.asarray(log.time)[split.train_end[users] - 1]
    if (last >= split.facts["cut"]).any():
      worst = int(np.argmax(last))
      raise DataError(
        f"Leakage in {log.name}: user {users[worst]} has a training event at time {last[worst]}, "
        f"not before the cut {split.facts['cut']}."
      )


def _bounds(log: EventLog) -> tuple[np.ndarray, np.ndarray]:
  """First and one-past-last event of each user, [num_users + 1]."""
  indptr = np.asarray(log.indptr)
  return indptr[:-1], indptr[1:]


def _leave_one_out(log: EventLog, config: SplitConfig) -> Split:
  del config
  begin, end = _bounds(log)
  held = end - begin >= 3
  users = np.flatnonzero(held)
  if not len(users):
    raise DataError(f"leave_one_out needs users of 3 events or more; {log.name} has none.")
  holdout = lambda back: Holdout(
    users.astype(np.int32), begin[users], end[users] - back, end[users] - back + 1
  )
  facts = {"users_too_short_to_hold_out": int(((end > begin) & ~held).sum())}
  return Split(begin, np.where(held, end - 2, end), holdout(2), holdout(1), facts)


def _leave_last_out(log: EventLog, config: SplitConfig) -> Split:
  """Without a validation part of its own: what is chosen on it is chosen on the test part."""
  del config
  begin, end = _bounds(log)
  held = end - begin >= 2
  users = np.flatnonzero(held)
  if not len(users):
    raise DataError(f"leave_last_out needs users of 2 events or more; {log.name} has none.")
  last = Holdout(users.astype(np.int32), begin[users], end[users] - 1, end[users])
  facts = {
    "users_too_short_to_hold_out": int(((end > begin) & ~held).sum()),
    "validation_is_test": True,
  }
  return Split(begin, np.where(held, end - 1, end), last, last, facts)


def _cuts(time: np.ndarray, config: SplitConfig) -> tuple[int, int]:
  """Lower quantiles of times where validation and test begin."""
  if not 0.0 < config.validation_from < config.test_from < 1.0:
    raise ConfigError(
      f"{config.name} needs 0 < split.validation_from < split.test_from < 1, not "
      f"{config.validation_from} and {config.test_from}."
    )
  cuts = np.quantile(time, [config.validation_from, config.test_from], method="lower")
  return int(cuts[0]), int(cuts[1])


def _global_time(log: EventLog, config: SplitConfig) -> Split:
  if log.time is None:
    raise DataError(f"global_time needs event times, and {log.name} has none.")
  begin, end = _bounds(log)
  time = np.asarray(log.time)
  cut, test_cut = _cuts(time, config)
  before = lambda t: begin + np.add.reduceat(
    np.append(time < t, False), np.minimum(begin, len(time))
  ) * (end > begin)
  train_end, validation_end = before(cut), before(test_cut)

  facts = {"cut": cut, "test_cut": test_cut, "origin": log.origin}
  return Split(begin, train_end, _between(begin, train_end, validation_end),
               _between(begin, validation_end, end), facts)


def _between(begin: np.ndarray, first: np.ndarray, last: np.ndarray) -> Holdout:
  """Events first .. last - 1 of each user who has some, and a history before them."""
  users = np.flatnonzero((first < last) & (first > begin))
  return Holdout(users.astype(np.int32), begin[users], first[users], last[users])


def _user_disjoint(log: EventLog, config: SplitConfig) -> Split:
  begin, end = _bounds(log)
  users = np.flatnonzero(end > begin)
  shuffled = np.random.default_rng(config.seed).permutation(users)
  validation = round(len(users) * config.validation_users)
  test = round(len(users) * config.test_users)
  if validation + test >= len(users) or min(validation, test) < 1:
    raise ConfigError(
      f"user_disjoint with split.validation_users={config.validation_users} and "
      f"split.test_users={config.test_users} leaves a part of {len(users)} users empty."
    )

  def holdout(chosen):
    chosen = np.sort(chosen)
    length = end[chosen] - begin[chosen]
    history = np.floor(length * config.history_share).astype(np.int64)
    history = np.minimum(history, length - 1)  # a share of 1 leaves the last event to be the target
    usable = (history >= 1) & (history < length)
    chosen, history = chosen[usable], history[usable]
    return Holdout(chosen.astype(np.int32), begin[chosen], begin[chosen] + history, end[chosen])

  train_end = end.copy()
  held = shuffled[: validation + test]
  train_end[held] = begin[held]
  facts = {"held_out_users": int(len(held))}
  return Split(begin, train_end, holdout(shuffled[:validation]),
               holdout(shuffled[validation : validation + test]), facts)


def _users_by_time(log: EventLog, config: SplitConfig) -> Split:
  if log.time is None:
    raise DataError(f"users_by_time needs event times, and {log.name} has none.")
  begin, end = _bounds(log)
  users = np.flatnonzero(end > begin)
  last = np.asarray(log.time)[end[users] - 1]
  cut, test_cut = _cuts(last, config)

  def holdout(low, high):
    # A case needs a history to predict the last event from.
    chosen = users[(last >= low) & (last < high) & (end[users] - begin[users] >= 2)]
    return Holdout(chosen.astype(np.int32), begin[chosen], end[chosen] - 1, end[chosen])

  train_end = end.copy()
  late = users[last >= cut]
  train_end[late] = begin[late]
  facts = {
    "cut": cut, "test_cut": test_cut, "origin": log.origin, "held_out_users": int(len(late))
  }
  never = np.iinfo(np.int64).max
  return Split(begin, train_end, holdout(cut, test_cut), holdout(test_cut, never), facts)


def _few_shot(log: EventLog, config: SplitConfig) -> Split:
  begin, end = _bounds(log)
  if config.shots < 2:
    raise ConfigError(f"few_shot needs split.shots of 2 or more, not {config.shots}.")
  train_end = np.minimum(begin + config.shots, end)
  users = np.flatnonzero(train_end < end)
  if not len(users):
    raise DataError(f"few_shot with {config.shots} shots leaves no test events in {log.name}.")
  # The last shot doubles as the validation target, and is then not trained on.
  train_end[users] -= 1
  cut = train_end[users]
  validation = Holdout(users.astype(np.int32), begin[users], cut, cut + 1)
  test = Holdout(users.astype(np.int32), begin[users], cut + 1, end[users])
  return Split(begin, train_end, validation, test, {"shots": config.shots})


def _given(log: EventLog, config: SplitConfig) -> Split:
  """The parts that a column of text names; a user's events stand in their order."""
  if config.column not in log.columns:
    raise DataError(unknown(f"event column of {log.name}", config.column, log.columns))
  names = log.facts.get("names", {}).get(f"events.{config.column}")
  codes = np.asarray(log.columns[config.column])
  if names is None or any(name not in _PARTS for name in names[1:]) or (codes == 0).any():
    found = ", ".join(sorted(names[1:])) if names else "numbers"
    raise DataError(
      f"The column {config.column!r} of {log.name} holds {found}, where each event has one of "
      f"{', '.join(_PARTS)}."
    )
  part = np.array([0, *(_PARTS[name] for name in names[1:])], np.int8)[codes]
  begin, end = _bounds(log)
  user = np.repeat(np.arange(len(begin)), end - begin)
  early = (part[1:] < part[:-1]) & (user[1:] == user[:-1])
  if early.any():
    raise DataError(
      f"{log.name}: user {user[1:][early][0]} has an event of {config.column!r} before one that is "
      "to be known by then; bring each user's events into the order train, valid, test."
    )
  size = np.bincount(user * 3 + part, minlength=3 * len(begin)).reshape(-1, 3)
  train_end = begin + size[:, 0]
  validation_end = train_end + size[:, 1]

  facts = {
    "column": config.column,
    "events_by_part": dict(zip(("train", "valid", "test"), size.sum(axis=0).tolist(), strict=True)),
  }
  return Split(begin, train_end, _between(begin, train_end, validation_end),
               _between(begin, validation_end, end), facts)
