"""Words of titles as numbers: what a model that reads titles starts from."""

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
