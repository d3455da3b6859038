"""What training events count: how often ids occur, follow one another, and who had what.

Item columns of the log (content vectors, words) travel with them to a model's `build`.
"""

import types
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import scipy.sparse

from recjax.data.log import EventLog
from recjax.data.splits import Split
from recjax.errors import ConfigError


class TrainingCounts(Mapping):
  """Occurrences of each id by vocabulary, int64 [V], as a mapping; transitions when asked for.

  Attributes:
    transitions: (span=1, last=0) -> what `count_transitions` gives for the training events.
    item_columns: what else is known of items, arrays [V, ...] by name, row 0 for padding.
    pairs: () -> what `count_pairs` gives for the training events; None where nobody can say.
    events: () -> columns of the training events, [E, ...] by name: `user`, `item` and what the view
      knows beside; None where nobody can say.
  """

  def __init__(
    self,
    occurrences: Mapping[str, np.ndarray],
    transitions: Callable[..., scipy.sparse.csr_array],
    item_columns: Mapping[str, np.ndarray] = types.MappingProxyType({}),
    pairs: Callable[[], scipy.sparse.csr_array] | None = None,
    events: Callable[[], Mapping[str, np.ndarray]] | None = None,
  ):
    self._occurrences, self.transitions = occurrences, transitions
    self.item_columns, self.pairs, self.events = item_columns, pairs, events

  def __getitem__(self, vocabulary: str) -> np.ndarray:
    return self._occurrences[vocabulary]

  def __iter__(self) -> Iterator[str]:
    return iter(self._occurrences)

  def __len__(self) -> int:
    return len(self._occurrences)


def count_transitions(
  log: EventLog, split: Split, span: int = 1, last: int = 0
) -> scipy.sparse.csr_array:
  """How often item k comes 1 to `span` events after item j in a user's training events.

  With `last` above 0 only each user's newest `last` training events count. Row j, column k of a
  float32 matrix [V, V], columns of a row ascending. Raises ConfigError for a span below 1.
  """
  if span < 1:
    raise ConfigError(f"Transitions span at least one event, not {span}.")
  event, user = training_events(log, split, last)
  item = np.asarray(log.item[event], np.int64)
  pairs = []
  for distance in range(1, span + 1):
    same = user[distance:] == user[:-distance]
    pairs.append((item[:-distance][same], item[distance:][same]))
  head, tail = (np.concatenate(part) for part in zip(*pairs, strict=True))
  size = log.vocabularies["item"]
  ones = np.ones(len(head), np.float32)
  return scipy.sparse.coo_array((ones, (head, tail)), (size, size)).tocsr()


def count_pairs(log: EventLog, split: Split) -> scipy.sparse.csr_array:
  """How often each user had each item among the training events.

  A float32 matrix [users, items], both with padding as row and column 0; columns of a row ascend.
  """
  event, user = training_events(log, split)
  item = np.asarray(log.item[event], np.int64)
  shape = (log.vocabularies["user"], log.vocabularies["item"])
  return scipy.sparse.coo_array((np.ones(len(item), np.float32), (user, item)), shape).tocsr()


def training_events(log: EventLog, split: Split, last: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Numbers of the training events in the log's order, and the user of each.

  With `last` above 0 only the newest `last` of each user.
  """
  begin = np.asarray(split.train_begin, np.int64)[1 : log.num_users + 1]
  end = np.asarray(split.train_end, np.int64)[1 : log.num_users + 1]
  if last > 0:
    begin = np.maximum(begin, end - last)
  length = np.maximum(end - begin, 0)
  user = np.repeat(np.arange(1, log.num_users + 1), length)
  offset = np.arange(len(user)) - np.repeat(np.cumsum(length) - length, length)
  return np.repeat(begin, length) + offset, user
