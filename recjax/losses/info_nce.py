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


def symmetric_info_nce(
  first: jax.Array, second: jax.Array, valid: jax.Array, scale: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  """Losses and hits [B] of `info_nce` from either side to the other, halved: CLIP's loss.

  Args:
    first: [B, D], usually of length one.
    second: [B, D] likewise, the counterparts.
    valid: bool [B].
    scale: of the products, the inverse of a temperature; see `clipped_scale`.
  """
  forth, hits = info_nce(first * scale, second, valid, 1.0)
  back, back_hits = info_nce(second * scale, first, valid, 1.0)
  return (forth + back) / 2, (hits + back_hits) / 2


def clipped_scale(log_scale: jax.Array, largest: float = 100.0) -> jax.Array:
  """exp(log_scale), at most `largest`, as in CLIP (Radford et al., arXiv 2103.00020)."""
  return jnp.exp(jnp.minimum(log_scale, jnp.log(largest)))
