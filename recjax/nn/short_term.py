"""A Transformer over the newest behaviours and a candidate."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.decoupled_attention import attend
from recjax.nn.dense import Dense


class TransformerBlock(nn.Module):
  """x <- LN(x + attention(x, others)), [x <- LN(x + condition),] x <- LN(x + FFN(x)).

  Norms come after the sums (epsilon 1e-6), attention has no biases, and the feed-forward part is
  Dense(factor D) relu Dense(D).
  """

  heads: int
  factor: int = 3

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    others: jax.Array,
    mask: jax.Array | None = None,
    condition: jax.Array | None = None,
  ) -> jax.Array:
    """x [B, Q, D] attends to others [B, N, D] where mask [B, N]; condition is [B, 1, D]."""
    width = x.shape[-1]
    norm = lambda name, values: nn.LayerNorm(epsilon=1e-6, name=name)(values)
    plain = lambda name, values: Dense(width, use_bias=False, name=name)(values)
    query, key, value = plain("query", x), plain("key", others), plain("value", others)
    x = norm("norm_attention", x + plain("mix", attend(query, key, value, self.heads, mask)))
    if condition is not None:
      x = norm("norm_condition", x + condition)
    hidden = jax.nn.relu(Dense(self.factor * width, name="hidden")(x))
    return norm("norm_output", x + Dense(width, name="output")(hidden))


class ShortTerm(nn.Module):
  """What a Transformer without positions makes of a candidate among the newest behaviours.

  Attributes:
    recent: behaviours it sees, the newest real ones.
    layers: blocks; the last computes the candidate only.
    heads: of the attention.
  """

  recent: int
  layers: int
  heads: int

  @nn.compact
  def __call__(self, history: jax.Array, mask: jax.Array, candidates: jax.Array) -> jax.Array:
    """[B, C, D] for history [B, L, D] in the order of time, mask [B, L], candidates [B, C, D]."""
    rows, several, width = candidates.shape
    newest = jnp.where(mask, jnp.arange(1, mask.shape[1] + 1, dtype=jnp.int32)[None], 0)
    place = jax.lax.top_k(newest, min(self.recent, mask.shape[1]))[1]
    real = jnp.take_along_axis(mask, place, axis=1)
    recent = jnp.take_along_axis(history, place[:, :, None], axis=1)
    x = jnp.broadcast_to(recent[:, None], (rows, several, *recent.shape[1:]))
    x = jnp.concatenate([x, candidates[:, :, None]], axis=2)
    x = x.reshape(rows * several, -1, width)
    real = jnp.concatenate([real, jnp.ones((rows, 1), bool)], axis=1)
    real = jnp.repeat(real, several, axis=0)
    for index in range(self.layers):
      block = TransformerBlock(self.heads, name=f"block_{index}")
      x = block(x[:, -1:] if index == self.layers - 1 else x, x, real)
    return x[:, -1].reshape(rows, several, width)
