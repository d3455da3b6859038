"""The Hilbert-Schmidt independence criterion of samples of two vectors (Gretton et al., ALT 2005).

HSIC = tr(K J L J) / (n - 1)^2 for kernel matrices K, L [n, n] and J = I - 1 1^T / n. It is zero, for
Gaussian kernels and many samples, only where the vectors are independent. Memory is n^2; an estimate
for many samples is `losses.independence.fourier_hsic`.
"""

import numpy as np


def linear_kernel(values: np.ndarray) -> np.ndarray:
  """Dot products [n, n] of vectors [n, D]."""
  return values @ values.T


def square_distances(values: np.ndarray) -> np.ndarray:
  """Squared distances [n, n] of vectors [n, D]."""
  square = np.square(values).sum(axis=1)
  return np.maximum(square[:, None] + square[None] - 2 * values @ values.T, 0.0)


def gaussian_kernel(values: np.ndarray, bandwidth: float) -> np.ndarray:
  """exp(-|x - y|^2 / (2 bandwidth^2)), [n, n], of vectors [n, D]."""
  return np.exp(-square_distances(values) / (2.0 * bandwidth**2))


def median_distance(values: np.ndarray) -> float:
  """Median distance of different samples of vectors [n, D]; the usual bandwidth."""
  distances = square_distances(values)[np.triu_indices(len(values), 1)]
  return float(np.median(np.sqrt(distances)))


def hsic(left: np.ndarray, right: np.ndarray) -> float:
  """tr(K J L J) / (n - 1)^2 of kernel matrices [n, n]; NaN for fewer than two samples."""
  n = len(left)
  if n < 2:
    return float("nan")
  centred = left - left.mean(axis=0) - left.mean(axis=1, keepdims=True) + left.mean()
  return float((centred * right).sum() / (n - 1) ** 2)


def gaussian_hsic(left: np.ndarray, right: np.ndarray) -> float:
  """HSIC of vectors [n, D] and [n, E], Gaussian kernels, median distances as bandwidths.

  NaN for fewer than two samples, and where more than half of the pairs of samples coincide.
  """
  if len(left) < 2:
    return float("nan")
  kernels = []
  for values in (left, right):
    bandwidth = median_distance(values)
    if not bandwidth:
      return float("nan")
    kernels.append(gaussian_kernel(values, bandwidth))
  return hsic(*kernels)
