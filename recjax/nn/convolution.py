"""Causal convolutions over short windows, and the residual block of NextItNet."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dense import product


class CausalConv(nn.Module):
  """Convolution along the last axis but one that sees the present and the past only.

      y_l = b + sum_k x_{l - k dilation} W_k,  k = 0 .. kernel - 1,  x_l = 0 for l < 0

  One matrix product for all taps, whose results are shifted and added; taps that reach beyond the
  window cost nothing. The last row of the kernel is the present, as in an image convolution.
  """

  width: int
  kernel: int = 3
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """x [..., L, D] to [..., L, width]."""
    length, inputs = x.shape[-2:]
    kernel = self.param(
      "kernel", nn.initializers.lecun_normal(), (self.kernel, inputs, self.width), jnp.float32
    )
    bias = self.param("bias", nn.initializers.zeros_init(), (self.width,), jnp.float32)
    shifts = [k * self.dilation for k in range(self.kernel) if k * self.dilation < length]
    taps = jnp.concatenate([kernel[self.kernel - 1 - k] for k in range(len(shifts))], axis=1)
    parts = jnp.split(product(x, taps), len(shifts), axis=-1)
    y = jnp.expand_dims(bias, tuple(range(x.ndim - 1)))
    for part, shift in zip(parts, shifts, strict=True):
      before = jnp.zeros((*part.shape[:-2], shift, self.width), part.dtype)
      y = y + jnp.concatenate([before, part[..., : length - shift, :]], axis=-2)
    return y


class DilatedResidualBlock(nn.Module):
  """x + two causal convolutions with layer norm and ReLU behind each (Yuan et al., WSDM 2019).

  Zero where `mask` is False, in and out, so that padding stays padding at every depth.
  """

  kernel: int
  dilations: tuple[int, int]

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
    """x [..., L, D] and mask [..., L] to [..., L, D]."""
    real = mask[..., None].astype(x.dtype)
    x = y = x * real
    for index, dilation in enumerate(self.dilations):
      y = CausalConv(x.shape[-1], self.kernel, dilation, name=f"conv_{index}")(y)
      y = nn.relu(nn.LayerNorm(name=f"norm_{index}")(y)) * real
    return x + y
