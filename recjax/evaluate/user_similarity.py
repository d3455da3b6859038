"""Pairs of users and how alike they are, in blocks: never an array of users by users.

A block is (rows, columns, values) of pairs u < u', each once. Similarities in 0..1:

- "jaccard": |H_u & H_u'| / |H_u | H_u'| of histories, "cosine": |H_u & H_u'| / sqrt(|H_u| |H_u'|). Only
  pairs with a common item are given; all others are 0. An empty history is like nothing.
- `blended`: gamma Jaccard + (1 - gamma) (1 - D_JS(a_u, a_u')), a_u the mean over the history of the
  items' normalised features and D_JS the Jensen-Shannon divergence in bits. All pairs are given.
"""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse

from recjax.errors import ConfigError, DataError
from recjax.evaluate.item_rows import spans
from recjax.registry import unknown

SIMILARITIES = ("jaccard", "cosine")
_TERMS = 5_000_000  # common items, or cells, that a block forms at once

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
# Any pairs (users, others), and all pairs in blocks.
OfPairs = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Similarity:
  """How alike users are by their histories.

  Args:
    histories: csr [m, items] of ones.
    kind: one of SIMILARITIES; ConfigError for another.
  """

  def __init__(self, histories: scipy.sparse.csr_array, kind: str = "jaccard"):
    if kind not in SIMILARITIES:
      raise ConfigError(unknown("similarity of users", kind, SIMILARITIES))
    self.histories, self.kind = histories, kind
    self.sizes = np.diff(histories.indptr).astype(np.float64)

  def __len__(self) -> int:
    return self.histories.shape[0]

  def _scaled(self, common: np.ndarray, users: np.ndarray, others: np.ndarray) -> np.ndarray:
    one, other = self.sizes[users], self.sizes[others]
    whole = one + other - common if self.kind == "jaccard" else np.sqrt(one * other)
    return np.divide(common, whole, out=np.zeros(len(common)), where=whole > 0)

  def of(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Similarity of each pair; float64 [pairs]."""
    common = (self.histories[users] * self.histories[others]).sum(axis=1)
    return self._scaled(np.asarray(common, np.float64).ravel(), users, others)

  def blocks(self) -> Iterator[Block]:
    """All pairs with a common item."""
    histories, transposed = self.histories, self.histories.T.tocsr()
    per_item = np.diff(transposed.indptr).astype(np.float64)
    for start, end in spans(histories @ per_item, _TERMS):
      common = (histories[start:end] @ transposed).tocoo()
      rows, columns = common.row + start, common.col
      later = columns > rows
      rows, columns = rows[later], columns[later]
      yield rows, columns, self._scaled(common.data[later].astype(np.float64), rows, columns)


class Blended:
  """Similarity of histories blended with that of what kinds of items they hold; see the module.

  Args:
    histories: csr [m, items] of ones.
    features: [items, d] >= 0, such as genres; rows of zeros say nothing about an item.
    gamma: share of the Jaccard similarity; ConfigError outside 0..1.
  """

  def __init__(self, histories: scipy.sparse.csr_array, features: np.ndarray, gamma: float):
    if not 0 <= gamma <= 1:
      raise ConfigError(f"gamma is a share between 0 and 1, not {gamma}.")
    if len(features) != histories.shape[1] or not (np.asarray(features) >= 0).all():
      raise DataError(
        f"Features of shape {np.shape(features)} are not rows >= 0 of {histories.shape[1]} items."
      )
    self._jaccard, self._gamma = Similarity(histories), gamma
    features = np.asarray(features, np.float64)
    rows = features.sum(axis=1, keepdims=True)
    kinds = histories @ np.divide(features, rows, out=np.zeros(features.shape), where=rows > 0)
    total = kinds.sum(axis=1, keepdims=True)
    even = np.full(kinds.shape, 1 / kinds.shape[1])
    self.kinds = np.divide(kinds, total, out=even, where=total > 0)

  def __len__(self) -> int:
    return len(self._jaccard)

  def _alike(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 1 - np.clip(jensen_shannon(self.kinds[users], self.kinds[others]), 0, 1)

  def of(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Similarity of each pair; float64 [pairs]."""
    common = self._jaccard.of(users, others)
    return self._gamma * common + (1 - self._gamma) * self._alike(users, others)

  def blocks(self) -> Iterator[Block]:
    """All pairs."""
    count = len(self)
    for start, end in spans(np.full(count, float(count * self.kinds.shape[1])), _TERMS):
      rows = np.repeat(np.arange(start, end), count - 1 - np.arange(start, end))
      columns = np.concatenate([np.arange(row + 1, count) for row in range(start, end)])
      yield rows, columns, self.of(rows, columns)


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Divergence of distributions [..., d] in bits: 0 when equal, 1 when disjoint."""
  return entropy((one + other) / 2) - (entropy(one) + entropy(other)) / 2


def entropy(distribution: np.ndarray) -> np.ndarray:
  """Entropy of distributions [..., d] in bits, 0 log 0 = 0."""
  return -(distribution * np.log2(np.where(distribution > 0, distribution, 1))).sum(axis=-1)
