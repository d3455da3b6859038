"""Whether vectors of a catalogue use their dimensions, or have collapsed to nearly one direction."""

import numpy as np


def effective_rank(vectors: np.ndarray) -> float:
  """exp of the entropy of the singular values of vectors [n, D], as shares of their sum.

  n for n <= D orthonormal vectors, 1 where all point one way; NaN where all are zero. Roy and
  Vetterli, EUSIPCO 2007.
  """
  size = np.linalg.svd(np.asarray(vectors, np.float64), compute_uv=False)
  if not size.sum() > 0:
    return float("nan")
  share = size / size.sum()
  share = share[share > 0]
  return float(np.exp(-(share * np.log(share)).sum()))


def mean_cosine(vectors: np.ndarray) -> float:
  """Mean cosine of vectors [n, D] with one another; NaN of fewer than two, or where one is zero."""
  vectors = np.asarray(vectors, np.float64)
  with np.errstate(invalid="ignore"):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  count = len(unit)
  if count < 2:
    return float("nan")
  # Over all ordered pairs, a vector with itself included, cosines sum to |sum of units|^2.
  return float((np.square(unit.sum(axis=0)).sum() - count) / (count * (count - 1)))
