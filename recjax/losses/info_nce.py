"""InfoNCE: each row's own counterpart against those of the other rows, and against further keys."""

import jax
import jax.numpy as jnp


def info_nce(
  queries: jax.Array, keys: jax.Array, valid: jax.Array, temperature: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  """Losses [B]: logsumexp over the valid n of s[b, n] - s[b, b], with s[b, n] = q_b k_n / temperature.

  Keys that are not valid are nobody's negative, and the loss of their rows is zero. The batch is what
  the function is given: all of it under jit over a mesh, one part of it with micro-batches.

  Args:
    queries: [B, D], usually of length one.
    keys: [N, D] likewise, N >= B: those of the rows, then negatives of all, such as a memory bank.
    valid: bool [N], or [B, N]: for each row its own.
    temperature: above 0.

  Returns:
    Losses [B], and hits [B]: 1 where the own key is strictly the nearest.
  """
  logits = jnp.einsum("bd,nd->bn", queries, keys, preferred_element_type=jnp.float32) / temperature
  valid = jnp.broadcast_to(valid if valid.ndim == 2 else valid[None], logits.shape)
  logits = jnp.where(valid, logits, jnp.finfo(logits.dtype).min)
  own, valid = jnp.diagonal(logits), jnp.diagonal(valid)
  loss = jnp.where(valid, jax.nn.logsumexp(logits, axis=1) - own, 0.0)
  nearest = jnp.sum(logits >= own[:, None], axis=1) == 1
  return loss, (valid & nearest).astype(jnp.float32)
