"""The few behaviours of a long history that are worth attention: any score, the k largest, gathered."""

import jax
import jax.numpy as jnp


def top_behaviours(scores: jax.Array, allowed: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """Places [B, C, K] of the largest scores [B, C, L] where allowed [B, C, L], and which are real.

  K is the smaller of k and L. Of equal scores the newest (rightmost) come first. A candidate with fewer
  allowed behaviours has places left over, whose `real` [B, C, K] is False. No gradient reaches scores.
  """
  length = scores.shape[-1]
  lowest = jnp.finfo(jnp.float32).min
  values = jnp.where(allowed, jax.lax.stop_gradient(scores).astype(jnp.float32), lowest)
  place = length - 1 - jax.lax.top_k(values[..., ::-1], min(k, length))[1]
  return place, jnp.take_along_axis(allowed, place, axis=-1)


def gather(values: jax.Array, place: jax.Array) -> jax.Array:
  """Behaviours [B, C, K, ...] at the places [B, C, K] of histories [B, L, ...]."""
  return jax.vmap(lambda history, index: history[index])(values, place)


def recency(mask: jax.Array) -> jax.Array:
  """Scores float32 [B, L] that grow with the place, so that the newest real behaviours win."""
  newest = jnp.arange(1, mask.shape[1] + 1, dtype=jnp.float32)
  return jnp.broadcast_to(newest[None], mask.shape)
