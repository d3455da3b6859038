"""Words as numbers: those of titles, and those that come up most often with somebody."""

import re
from collections import Counter

import numpy as np

from recjax.data.log import EventLog
from recjax.data.sources.base import is_str
from recjax.errors import DataError

_WORD = re.compile(r"[^\W_]+")


def title_words(log: EventLog, length: int) -> tuple[np.ndarray, int]:
  """The first `length` words of every item's title, int32 [V, length], padded with 0 behind.

  Words are lower-case runs of letters and digits, numbered from 1 by how often they occur, of equal
  ones in alphabetical order. Returns the size of their vocabulary, padding included, as well. Raises
  DataError for items without titles.
  """
  titles = log.items.get("title")
  if titles is None or not is_str(np.asarray(titles)):
    raise DataError(f"Items of {log.name} have no titles to read words from.")
  words = [_WORD.findall(title.lower())[:length] for title in np.asarray(titles).tolist()]
  counts = Counter(word for title in words for word in title)
  order = sorted(counts, key=lambda word: (-counts[word], word))
  number = {word: i for i, word in enumerate(order, start=1)}
  coded = np.zeros((len(words), length), np.int32)
  for row, title in enumerate(words):
    coded[row, : len(title)] = [number[word] for word in title]
  return coded, len(order) + 1


def frequent_words(owner: np.ndarray, words: np.ndarray, owners: int, keep: int) -> np.ndarray:
  """The `keep` words that come most often with each owner 0 .. owners - 1, int32 [owners, keep].

  Of equally frequent ones the lower number comes first; 0 stands behind where there are fewer.

  Args:
    owner: [E].
    words: [E, W], 0 for none.
    owners: how many.
    keep: how many words of each.
  """
  pair = np.stack([np.repeat(owner, words.shape[1]), words.reshape(-1)], axis=1)
  distinct, count = np.unique(pair[pair[:, 1] != 0].astype(np.int64), axis=0, return_counts=True)
  distinct = distinct[np.lexsort((distinct[:, 1], -count, distinct[:, 0]))]
  place = np.arange(len(distinct)) - np.searchsorted(distinct[:, 0], distinct[:, 0])
  kept = place < keep
  found = np.zeros((owners, keep), np.int32)
  found[distinct[kept, 0], place[kept]] = distinct[kept, 1]
  return found
