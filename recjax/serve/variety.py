"""Lists that trade score for variety of categories, ComiRec's controllable aggregation.

    next in the list S is the item of the largest  score_i + weight |{j in S : c_j differs from c_i}|

Cen et al., KDD 2020, arXiv 2005.09347, algorithm 2. Weight 0 keeps the order of the scores.
"""

import numpy as np


def vary(scores: np.ndarray, categories: np.ndarray, k: int, weight: float) -> np.ndarray:
  """Places int [m, k] of what is taken from candidates [m, M], one after the other.

  Args:
    scores: float [m, M], -inf where there is no candidate; those come last.
    categories: [m, M], compared for equality.
    k: at most M.
    weight: what an item of another category in the list is worth, in units of the scores.
  """
  rows = np.arange(len(scores))
  left = np.where(np.isneginf(scores), np.finfo(np.float64).min, scores.astype(np.float64))
  others = np.zeros(scores.shape)
  places = np.zeros((len(scores), k), np.int64)
  for step in range(k):
    places[:, step] = chosen = np.argmax(left + weight * others, axis=1)
    others += categories != categories[rows, chosen][:, None]
    left[rows, chosen] = -np.inf
  return places
