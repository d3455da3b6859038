"""Attention over histories whose padding may be anywhere, and between lists of vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax over the last axis of scores [..., N] among the entries of mask (same shape).

  An empty mask gives weights of exactly zero and a zero gradient, never NaN.
  """
  scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  return jnp.where(mask, jax.nn.softmax(scores, axis=-1), 0.0)


class CausalSelfAttention(nn.Module):
  """Multi-head scaled dot-product attention in which no position sees a later one or padding.

  `heads` must divide the width. Weights are computed in float32 and dropped out at rate `dropout`.
  """

  heads: int
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, queries: jax.Array, values: jax.Array, mask: jax.Array, *, train: bool
  ) -> jax.Array:
    """Attends from queries [B, L, D] to values [B, L, D] where mask [B, L]; returns [B, L, D].

    A position before the first real one has nothing to attend to, and gets the output bias alone.
    """
    batch, length, width = queries.shape

    def split(name, inputs):
      return nn.Dense(width, name=name)(inputs).reshape(batch, length, self.heads, -1)

    q, k, v = split("query", queries), split("key", values), split("value", values)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    scores = scores * (width // self.heads) ** -0.5
    causal = jnp.tril(jnp.ones((length, length), bool))
    allowed = causal[None, None] & mask[:, None, None, :]
    weights = masked_softmax(scores, jnp.broadcast_to(allowed, scores.shape))
    weights = nn.Dropout(self.dropout, deterministic=not train)(weights).astype(v.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, width)
    return nn.Dense(width, name="output")(mixed)


class Attention(nn.Module):
  """Multi-head scaled dot-product attention between any two lists of vectors, without biases.

  `heads` must divide the width. Weights are computed in float32.
  """

  heads: int

  @nn.compact
  def __call__(
    self, queries: jax.Array, values: jax.Array, mask: jax.Array | None = None
  ) -> jax.Array:
    """Attends from queries [B, Q, D] to values [B, N, D], those where mask [B, N] if given.

    Returns [B, Q, D]; exactly zero where the mask is empty.
    """
    batch, count, width = queries.shape

    def split(name, inputs):
      projected = nn.Dense(width, use_bias=False, name=name)(inputs)
      return projected.reshape(batch, inputs.shape[1], self.heads, -1)

    q, k, v = split("query", queries), split("key", values), split("value", values)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    scores = scores * (width // self.heads) ** -0.5
    if mask is None:
      weights = jax.nn.softmax(scores, axis=-1)
    else:
      weights = masked_softmax(scores, jnp.broadcast_to(mask[:, None, None, :], scores.shape))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
    return nn.Dense(width, use_bias=False, name="output")(mixed.reshape(batch, count, width))
