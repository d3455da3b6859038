"""The nearest of many vectors by cosine, exact, and never all pairs at once."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.running_top_k import running_top_k


def unit(vectors: jax.Array) -> jax.Array:
  """Vectors [..., D] at length 1, float32; zero stays zero."""
  vectors = vectors.astype(jnp.float32)
  largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
  vectors = vectors / jnp.where(largest > 0, largest, 1.0)  # so that no square overflows
  length = jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True))
  return vectors / jnp.where(length > 0, length, 1.0)


def nearest(
  queries: jax.Array,
  keys: jax.Array,
  k: int,
  *,
  leave_out: jax.Array | None = None,
  allowed: jax.Array | None = None,
  block: int = 16_384,
  batch: int = 1024,
) -> tuple[jax.Array, jax.Array]:
  """Rows int32 [Q, k] of the k keys [N, D] nearest to each of queries [Q, D], and cosines [Q, k].

  Nearest first, of equals the lower row. Where there are fewer than k, the cosine is -inf, the row 0.
  Cosines exist for `batch` queries and `block` keys at a time.

  Args:
    queries: [Q, D], of any length.
    keys: [N, D].
    k: how many.
    leave_out: int [Q], a row of keys that a query must not find, such as its own; -1 for none.
    allowed: bool [N], the keys that may be found; None: all.
    block: keys compared at once.
    batch: queries compared at once.
  """
  count, total = len(queries), len(keys)
  block, batch = min(block, total), min(batch, count)
  keys, queries = unit(jnp.asarray(keys)), unit(jnp.asarray(queries))
  allowed = jnp.ones(total, bool) if allowed is None else jnp.asarray(allowed)
  leave_out = jnp.asarray(np.full(count, -1, np.int32) if leave_out is None else leave_out)

  def search(part):
    own, left = part

    def score(start):
      row = start + jnp.arange(block, dtype=jnp.int32)
      at = jnp.minimum(row, total - 1)
      cosine = jnp.matmul(own, keys[at].T, precision="highest")
      may = (allowed[at] & (row < total))[None] & (row[None] != left[:, None])
      return jnp.where(may, cosine, -jnp.inf)

    return running_top_k(score, len(own), total, block, k)

  parts = -(-count // batch)
  fill = lambda a, value: jnp.pad(
    a, [(0, parts * batch - count)] + [(0, 0)] * (a.ndim - 1), constant_values=value
  ).reshape(parts, batch, *a.shape[1:])
  rows, cosines = jax.lax.map(search, (fill(queries, 0.0), fill(leave_out, -1)))
  return rows.reshape(-1, k)[:count], cosines.reshape(-1, k)[:count]
