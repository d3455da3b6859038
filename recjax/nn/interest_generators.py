"""Networks around interests: a denoiser for diffusion, an autoencoder, and heads to compare them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dense import Dense
from recjax.nn.multi_interest import normalize
from recjax.nn.short_term import TransformerBlock


class InterestDenoiser(nn.Module):
  """Predicts each of a user's K interests from a noised form of it, in the company of the others.

  The input of interest i is the list of all K with the i-th one noised; to each a time embedding is
  added. Every block attends within the list, then to the direction of channel i, then maps. With
  one key a softmax is 1 whatever the query, so the second attention is the product of its value
  and output matrices with that direction; its query and key matrices would have no effect and are
  left out. Only the i-th vector is read, so the last block computes no other.

  Attributes:
    layers: blocks.
    heads: of the attention.
    factor: widening of the feed-forward part.
  """

  layers: int = 2
  heads: int = 2
  factor: int = 3

  @nn.compact
  def __call__(
    self, noised: jax.Array, time: jax.Array, context: jax.Array, channels: jax.Array
  ) -> jax.Array:
    """Predicted interests [B, K, D].

    Args:
      noised: [B, K, D] at the times `time`.
      time: int32 [B, K].
      context: interests without noise [B, K, D].
      channels: directions of length one [B, K, D].
    """
    batch, count, width = noised.shape
    wave = Dense(4 * width, name="time_hidden")(waves(time, width))
    wave = Dense(width, name="time")(jax.nn.swish(wave))
    own = jnp.eye(count, dtype=bool)[None, :, :, None]
    x = jnp.where(own, noised[:, :, None], context[:, None]) + wave[:, :, None]
    x = x.reshape(batch * count, count, width)
    direction = channels.reshape(batch * count, 1, width)
    for index in range(self.layers):
      value = Dense(width, use_bias=False, name=f"channel_value_{index}")(direction)
      condition = Dense(width, use_bias=False, name=f"channel_output_{index}")(value)
      query = x
      if index == self.layers - 1:
        query = jnp.where(own, x.reshape(batch, count, count, width), 0.0).sum(axis=2)
        query = query.reshape(batch * count, 1, width)
      block = TransformerBlock(self.heads, self.factor, name=f"block_{index}")
      x = block(query, x, condition=condition)
    return x.reshape(batch, count, width)


def waves(time: jax.Array, width: int) -> jax.Array:
  """Sines and cosines [..., width] of times [...], with periods from 2 pi to 20,000 pi."""
  half = -(-width // 2)
  frequency = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / half)
  angle = time[..., None].astype(jnp.float32) * frequency.reshape((1,) * time.ndim + (-1,))
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)[..., :width]


class InterestAutoencoder(nn.Module):
  """A variational autoencoder of single interests, given the directions of their channels."""

  @nn.compact
  def __call__(
    self, interests: jax.Array, channels: jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Reconstructed interests [B, K, D], from a code drawn with `key` or else its mean; KL [B, K].

    interests and channels are [B, K, D]; the code has width D, too.
    """
    width = interests.shape[-1]

    def perceptron(name, inputs, outputs):
      hidden = Dense(4 * width, name=f"{name}_hidden")(jnp.concatenate(inputs, axis=-1))
      return Dense(outputs, name=name)(jax.nn.swish(hidden))

    mean, log_variance = jnp.split(perceptron("encode", (interests, channels), 2 * width), 2, axis=-1)
    code = mean
    if key is not None:
      code = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)
    divergence = jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance
    return perceptron("decode", (code, channels), width), 0.5 * jnp.sum(divergence, axis=-1)


class ContrastHead(nn.Module):
  """Dense(4 D) relu Dense(D), to length one: a side of a contrast."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """x [..., D] to its shape."""
    hidden = jax.nn.relu(Dense(4 * x.shape[-1], name="hidden")(x))
    return normalize(Dense(x.shape[-1], name="output")(hidden))
