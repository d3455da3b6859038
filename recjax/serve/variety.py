"""Lists that trade score for variety, of categories or of vectors.

    next in the list S is the item of the largest  score_i + weight |{j in S : c_j differs from c_i}|

Cen et al., KDD 2020, arXiv 2005.09347, algorithm 2: ComiRec's controllable aggregation (`vary`). Weight
0 keeps the order of the scores.

    next in the list S is the item of the largest  weight score_i - (1 - weight) max_{j in S} x_i . x_j

Carbonell and Goldstein, SIGIR 1998: maximal marginal relevance (`mmr`). Weight 1 keeps the order.
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


def mmr(
  scores: np.ndarray,
  vectors: np.ndarray,
  k: int,
  weight: float = 0.7,
  owners: np.ndarray | None = None,
  most: int = 0,
) -> np.ndarray:
  """Places int [m, k] of what is taken from candidates [m, M], one after the other, -1 for none.

  Args:
    scores: float [m, M], -inf where there is no candidate; in units of the vectors' products.
    vectors: [m, M, D], usually of length one.
    k: at most M.
    weight: of the score, from 0 to 1.
    owners: [m, M] whose each candidate is, such as a video's creator.
    most: candidates of one owner in a list; 0: any number.
  """
  rows = np.arange(len(scores))
  left = np.where(np.isneginf(scores), -np.inf, weight * scores.astype(np.float64))
  nearest = np.zeros(scores.shape)  # nothing in the list yet is like nothing
  places = np.full((len(scores), k), -1, np.int64)
  for step in range(k):
    chosen = np.argmax(left - (1 - weight) * nearest, axis=1)
    found = np.isfinite(left[rows, chosen])
    places[:, step] = np.where(found, chosen, -1)
    alike = np.einsum("mnd,md->mn", vectors, vectors[rows, chosen])
    nearest = alike if step == 0 else np.maximum(nearest, alike)
    left[rows, chosen] = -np.inf
    if owners is not None and most:
      own = np.where(found, owners[rows, chosen], -1)[:, None]
      taken = np.take_along_axis(owners, np.maximum(places[:, : step + 1], 0), axis=1)
      full = ((taken == own) & (places[:, : step + 1] >= 0)).sum(axis=1) >= most
      left[full[:, None] & (owners == own)] = -np.inf
  return places
