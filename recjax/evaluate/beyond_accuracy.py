"""What recommendation lists are like, whomever they please: coverage, Gini, novelty, diversity.

Lists are [n, k] item ids, 0 where a list is short; empty places count for nothing. Item columns are
indexed by id and have num_items + 1 entries, of which entry 0 belongs to padding and is not read.
"""

import numpy as np

from recjax.errors import DataError


def exposure(lists: np.ndarray, num_items: int) -> np.ndarray:
  """How many lists recommend each item; int64 [num_items], first entry for item 1.

  Raises DataError when nothing at all is recommended.
  """
  counts = np.bincount(lists.ravel(), minlength=num_items + 1)[1:]
  if counts.sum() == 0:
    raise DataError("The recommendation lists are all empty.")
  return counts


def coverage(lists: np.ndarray, num_items: int) -> float:
  """Share of the catalogue that is in at least one list."""
  return float((exposure(lists, num_items) > 0).mean())


def gini_of(amounts: np.ndarray) -> float:
  """Gini coefficient of amounts [n] >= 0, not all 0: sum_j (2j - n - 1) x_(j) / (n sum x), x ascending.

  0 when all are equal; 1 - 1/n when one has everything.
  """
  ascending = np.sort(amounts)
  count = len(ascending)
  rank = np.arange(1, count + 1)
  return float(((2 * rank - count - 1) * ascending).sum() / (count * ascending.sum()))


def gini(lists: np.ndarray, num_items: int) -> float:
  """Gini coefficient of exposure over all items of the catalogue, recommended or not.

  0 when all items are recommended equally often; 1 - k / num_items when all lists are the same.
  """
  return gini_of(exposure(lists, num_items))


def popularity(lists: np.ndarray, train_counts: np.ndarray) -> float:
  """Mean number of training events of a recommended item."""
  counts = exposure(lists, len(train_counts) - 1)
  return float((counts * train_counts[1:]).sum() / counts.sum())


def novelty(lists: np.ndarray, train_counts: np.ndarray) -> float:
  """Mean surprise -log2(share of training events) of a recommended item, in bits.

  An item without training events counts as if it had one, so the largest value is log2 of the
  number of training events.
  """
  counts = exposure(lists, len(train_counts) - 1)
  surprise = np.log2(train_counts[1:].sum()) - np.log2(np.maximum(train_counts[1:], 1))
  return float((counts * surprise).sum() / counts.sum())


def diversity(lists: np.ndarray, categories: np.ndarray) -> float:
  """Mean over lists of the share of pairs of items with different categories (ComiRec).

  Lists with fewer than two items have no pairs and are left out; NaN when none is left.
  """
  real = lists != 0
  category = categories[lists]
  pairs = np.zeros(len(lists), np.int64)
  different = np.zeros(len(lists), np.int64)
  for distance in range(1, lists.shape[1]):
    both = real[:, distance:] & real[:, :-distance]
    pairs += both.sum(axis=1)
    different += (both & (category[:, distance:] != category[:, :-distance])).sum(axis=1)
  return float((different[pairs > 0] / pairs[pairs > 0]).mean()) if pairs.any() else float("nan")


def spread(lists: np.ndarray, vectors: np.ndarray) -> float:
  """Mean over lists of the mean of 1 - cosine over their pairs of items, by vectors [num_items + 1, D].

  0 where all items of a list point the same way, 1 where they are orthogonal. Lists with fewer than two
  items are left out; NaN when none is left, or where an item has a vector of zeros.
  """
  length = np.linalg.norm(vectors[1:].astype(np.float64), axis=1)
  unit = np.zeros(vectors.shape)
  with np.errstate(invalid="ignore"):
    unit[1:] = vectors[1:] / length[:, None]
  total, counted = 0.0, 0
  for row in lists:
    size = np.count_nonzero(row)
    if size > 1:
      # Over all ordered pairs, an item with itself included, cosines sum to |sum of units|^2.
      cosines = np.square(unit[row].sum(axis=0)).sum() - size
      total, counted = total + 1 - cosines / (size * (size - 1)), counted + 1
  return float(total / counted) if counted else float("nan")
