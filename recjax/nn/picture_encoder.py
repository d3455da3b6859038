"""A small convolutional encoder of square grey pictures to vectors of length one."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dense import Dense
from recjax.nn.multi_interest import normalize


class PictureEncoder(nn.Module):
  """3 x 3 convolutions (relu), the largest value of each channel, one linear map.

  Taking the largest value makes the vector say what is in the picture, not where. Convolutions are maps
  of patches: products of matrices stay products of matrices when seeds are an axis.

  Attributes:
    channels: of the convolutions; those from the second on halve the size.
    width: M.
  """

  channels: tuple[int, ...]
  width: int

  @nn.compact
  def __call__(self, pixels: jax.Array) -> jax.Array:
    """Vectors [..., M] of pictures [..., H * H]."""
    lead, size = pixels.shape[:-1], math.isqrt(pixels.shape[-1])
    x = pixels.reshape(-1, size, size, 1)
    for index, channels in enumerate(self.channels):
      x = Dense(channels, name=f"convolution_{index}")(patches(x, 1 if index == 0 else 2))
      x = jax.nn.relu(x)
    x = jnp.max(x, axis=(1, 2))
    return normalize(Dense(self.width, name="output")(x), epsilon=1e-6).reshape(*lead, self.width)


def patches(x: jax.Array, stride: int) -> jax.Array:
  """The 3 x 3 fields around every `stride`-th place of x [N, H, W, C], zero outside: [N, h, w, 9 C]."""
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  high, wide = x.shape[1], x.shape[2]
  parts = [
    padded[:, down : down + high : stride, across : across + wide : stride]
    for down in range(3) for across in range(3)
  ]
  return jnp.concatenate(parts, axis=-1)
