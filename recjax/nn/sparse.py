"""Sparse matrices on the device: a row is looked up as a fixed number of columns and weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.errors import ConfigError


def sparse_rows(matrix: scipy.sparse.csr_array) -> dict[str, np.ndarray]:
  """A matrix [R, V] as plain arrays for `take_sparse`; its entries keep their order within a row.

  They are indptr [R + 1], neighbour and weight [entries + 1], and window [longest row]. Raises
  ConfigError for more entries than int32 can number.
  """
  if matrix.nnz >= 2**31 - 1:
    raise ConfigError(f"{matrix.nnz} entries are more than int32 can number.")
  longest = max(1, int(np.diff(matrix.indptr).max()))
  # One unused entry, so that a lookup has something to gather even where no pair occurs.
  return {
    "indptr": matrix.indptr.astype(np.int32),
    "neighbour": np.append(matrix.indices, 0).astype(np.int32),
    "weight": np.append(matrix.data, 0).astype(np.float32),
    "window": np.arange(longest, dtype=np.int32),
  }


def take_sparse(rows: Mapping[str, jax.Array], ids: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Columns and weights of the rows ids [...], each [..., longest row], padded with 0."""
  where = rows["indptr"][ids][..., None] + jnp.expand_dims(
    rows["window"], tuple(range(ids.ndim))
  )
  real = where < rows["indptr"][ids + 1][..., None]
  columns = jnp.take(rows["neighbour"], where, mode="clip")
  weights = jnp.take(rows["weight"], where, mode="clip")
  return jnp.where(real, columns, 0), jnp.where(real, weights, 0.0)


def holds(rows: Mapping[str, jax.Array], ids: jax.Array, columns: jax.Array) -> jax.Array:
  """Whether each row ids [...] has an entry in its columns [..., T], bool [..., T], by bisection.

  The columns of a row must ascend.
  """
  end = rows["indptr"][ids + 1][..., None]
  low = jnp.broadcast_to(rows["indptr"][ids][..., None], columns.shape)
  high = jnp.broadcast_to(end, columns.shape)
  for _ in range(len(rows["window"]).bit_length()):
    middle = (low + high) // 2
    right = (low < high) & (rows["neighbour"][middle] < columns)
    low, high = jnp.where(right, middle + 1, low), jnp.where(right, high, middle)
  return (low < end) & (rows["neighbour"][low] == columns)
