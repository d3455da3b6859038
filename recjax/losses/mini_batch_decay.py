"""Mini-batch aware L2 penalty of embedding tables (Zhou et al., KDD 2018, arXiv 1706.06978, eq. 6).

    penalty = 1/2 decay * sum over the ids j of the batch, each once, of |w_j|^2 / n_j

with n_j the occurrences of j in the training set. It touches only rows that the batch names.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def occurrence_shares(ids: Mapping[str, jax.Array], counts: jax.Array) -> dict[str, jax.Array]:
  """For each occurrence of an id, what it adds to the penalty's sum, so that each id counts once.

  The first occurrence of id j over all the fields gets 1 / max(n_j, 1), every other one and those
  of padding 0. Sorting finds the first ones: the cost follows the batch, not the vocabulary.

  Args:
    ids: true ids by field, int [...] of any shapes, all of one vocabulary; 0 where masked.
    counts: n, float [V].

  Returns:
    float32 arrays by field, of the shapes of `ids`.
  """
  flat = jnp.concatenate([array.reshape(-1) for array in ids.values()])
  order = jnp.argsort(flat, stable=True)
  ranked = flat[order]
  first = jnp.concatenate([jnp.ones((1,), bool), ranked[1:] != ranked[:-1]]) & (ranked != 0)
  share = jnp.where(first, 1.0 / jnp.maximum(counts[ranked].astype(jnp.float32), 1.0), 0.0)
  share = jnp.zeros(flat.shape, jnp.float32).at[order].set(share, unique_indices=True)
  parts, start = {}, 0
  for name, array in ids.items():
    parts[name] = share[start : start + array.size].reshape(array.shape)
    start += array.size
  return parts


def mini_batch_decay(vectors: jax.Array, shares: jax.Array, decay: float) -> jax.Array:
  """Scalar 1/2 decay sum of shares [...] times the squared norms of vectors [..., D]."""
  squares = jnp.sum(jnp.square(vectors.astype(jnp.float32)), axis=-1)
  return 0.5 * decay * jnp.sum(shares * squares)
