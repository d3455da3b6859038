"""A small convolutional encoder of square grey pictures to vectors of length one."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.multi_interest import normalize


class PictureEncoder(nn.Module):
  """3 x 3 convolutions of stride 1 then 2 (relu), the largest value of each channel, one linear map.

  Taking the largest value makes the vector say what is in the picture, not where.

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
      stride = 1 if index == 0 else 2
      x = nn.Conv(channels, (3, 3), (stride, stride), name=f"convolution_{index}")(x)
      x = jax.nn.relu(x)
    x = jnp.max(x, axis=(1, 2))
    return normalize(nn.Dense(self.width, name="output")(x), epsilon=1e-6).reshape(*lead, self.width)
