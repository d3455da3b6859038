"""Which training events are asked about, and the items that stand against what was taken.

Both are drawn on the host, once, so that models are compared on the same rows.
"""

import numpy as np

from recjax.data.log import EventLog
from recjax.data.splits import Split
from recjax.errors import DataError


def training_targets(
  log: EventLog, split: Split, newest: int = 0, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """User and position in the log of the training events that are asked about, int64 [n] both.

  Of each user every event but the first, which has no history; counted back from the newest every
  `stride`-th, and with `newest` above 0 so many at most. Raises DataError where there are none.
  """
  count = -(-np.maximum(split.train_end - split.train_begin - 1, 0) // stride)
  if newest:
    count = np.minimum(count, newest)
  user = np.repeat(np.arange(len(count)), count)
  if not len(user):
    raise DataError(f"{log.name} has no user with 2 training events or more.")
  back = np.repeat(np.cumsum(count), count) - np.arange(len(user)) - 1
  return user, split.train_end[user] - 1 - stride * back


def unseen_items(
  log: EventLog, user: np.ndarray, rng: np.random.Generator, popular: bool = False
) -> np.ndarray:
  """For each entry of `user` [n] an item of which that user's whole log is free, int32 [n].

  Drawn uniformly, or with `popular` in proportion to the events of the whole log. Raises DataError
  where a user leaves none.
  """
  owner = np.repeat(np.arange(log.num_users + 1, dtype=np.int64), np.diff(log.indptr))
  width = log.num_items + 1
  pairs = np.unique(owner * width + np.asarray(log.item))
  distinct = np.bincount(pairs // width, minlength=log.num_users + 1)
  drawable = np.count_nonzero(np.bincount(log.item)) if popular else log.num_items
  if len(user) and distinct[user].max() >= drawable:
    full = int(user[np.argmax(distinct[user])])
    raise DataError(f"User {full} of {log.name} has every item; no negative is left to draw.")

  def seen(rows, item):
    key = user[rows] * width + item
    place = np.minimum(np.searchsorted(pairs, key), len(pairs) - 1)
    return pairs[place] == key

  return _drawn(log, len(user), rng, popular, seen)


def other_items(
  log: EventLog, positive: np.ndarray, rng: np.random.Generator, popular: bool = False
) -> np.ndarray:
  """For each entry of `positive` [n] an item other than that one, as `unseen_items` draws them.

  The user may have taken it at another time.
  """
  if (np.count_nonzero(np.bincount(log.item)) if popular else log.num_items) < 2:
    raise DataError(f"{log.name} has one item only; no negative is left to draw.")
  return _drawn(log, len(positive), rng, popular, lambda rows, item: positive[rows] == item)


def _drawn(log, count, rng, popular, refused) -> np.ndarray:
  """Items int32 [count]; those at `rows` are drawn again while `refused(rows, item)`."""

  def draw(size):
    if popular:
      return np.asarray(log.item[rng.integers(0, log.num_events, size)], np.int64)
    return rng.integers(1, log.num_items + 1, size)

  item = draw(count)
  again = np.flatnonzero(refused(slice(None), item))
  while len(again):
    item[again] = draw(len(again))
    again = again[refused(again, item[again])]
  return item.astype(np.int32)
