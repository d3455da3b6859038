"""InfoNCE: each row's own counterpart against those of the other rows of the batch."""

import jax
import jax.numpy as jnp


def info_nce(
  queries: jax.Array, keys: jax.Array, valid: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
  """Losses [B]: logsumexp over the valid b' of s[b, b'] - s[b, b], with s = q_b k_b' / temperature.

  Rows that are not valid are nobody's negative, and their loss is zero. The batch is what the
  function is given: all of it under jit over a mesh, one part of it with micro-batches.

  Args:
    queries: [B, D], usually of length one.
    keys: [B, D] likewise.
    valid: bool [B].
    temperature: above 0.

  Returns:
    Losses [B], and hits [B]: 1 where the own key is strictly the nearest.
  """
  logits = jnp.einsum("bd,cd->bc", queries, keys, preferred_element_type=jnp.float32) / temperature
  logits = jnp.where(valid[None, :], logits, jnp.finfo(logits.dtype).min)
  own = jnp.diagonal(logits)
  loss = jnp.where(valid, jax.nn.logsumexp(logits, axis=1) - own, 0.0)
  nearest = jnp.sum(logits >= own[:, None], axis=1) == 1
  return loss, (valid & nearest).astype(jnp.float32)
