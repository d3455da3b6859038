"""The network of FairRec: news encoder, two user encoders, attribute predictor, discriminator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.attention import SelfAttention
from recjax.nn.dense import Dense
from recjax.nn.pooling import AttentionPool


class NewsEncoder(nn.Module):
  """What is known of news to vectors [..., D].

  `news` says what that is, see `fairrec.Config`. Padding gives exactly zero.
  """

  news: str
  width: int
  heads: int
  query: int
  dropout: float

  @nn.compact
  def __call__(
    self, inputs: jax.Array, mask: jax.Array | None, *, train: bool
  ) -> jax.Array:
    """Inputs [..., F], or with words [..., T, F] under mask [..., T]."""
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x)
    x = drop(inputs)
    if self.news == "vectors":
      return Dense(self.width, use_bias=False, name="map")(x)
    if self.news == "words":
      x = drop(SelfAttention(self.heads, self.width, name="attention")(x, mask))
      return AttentionPool(self.query, name="pool")(x, mask)[0]
    return x


class UserEncoder(nn.Module):
  """Vectors of clicked news [B, N, D] under mask [B, N] to users [B, D]; no order among clicks."""

  heads: int
  query: int
  output: bool
  dropout: float

  @nn.compact
  def __call__(self, news: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    width = news.shape[-1]
    if self.heads:
      news = SelfAttention(self.heads, width, name="attention")(news, mask)
      news = nn.Dropout(self.dropout, deterministic=not train)(news)
    user = AttentionPool(self.query, name="pool")(news, mask)[0]
    return Dense(width, name="output")(user) if self.output else user


class AttributeHead(nn.Module):
  """Users [B, D] to attribute logits [B, C]; one tanh layer where `hidden` is above 0."""

  hidden: int
  classes: int

  @nn.compact
  def __call__(self, user: jax.Array) -> jax.Array:
    if self.hidden:
      user = jnp.tanh(Dense(self.hidden, name="hidden")(user))
    return Dense(self.classes, name="output")(user)


def cosine(left: jax.Array, right: jax.Array) -> jax.Array:
  """Cosines [B] of vectors [B, D]; 0 where one of them is zero, with a zero gradient."""
  product = jnp.sum(left * left, axis=-1) * jnp.sum(right * right, axis=-1)
  real = product > 0
  norms = jnp.sqrt(jnp.where(real, product, 1.0))
  return jnp.where(real, jnp.sum(left * right, axis=-1) / norms, 0.0)


def of_length(vectors: jax.Array, length: float) -> jax.Array:
  """Vectors [B, D] scaled to a length; those that are zero stay so, with a zero gradient."""
  square = jnp.sum(vectors * vectors, axis=-1, keepdims=True)
  real = square > 0
  return jnp.where(real, vectors * (length / jnp.sqrt(jnp.where(real, square, 1.0))), 0.0)
