"""Linear maps of the last axis that see all leading axes as one.

The values are those of `nn.Dense` and of `@`. What differs is the speed of gradients on CPUs: of
x [B, L, D] @ kernel [D, H] the kernel's gradient is a sum over two axes, before which XLA moves both
sides about in memory; of a matrix [B L, D] it is one product. With B L = 51,200, D = 32 and H = 80 the
gradients took 13 ms instead of 33, with three seeds mapped (B L = 25,600) 23 instead of 68.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [..., D] @ kernel [D, H]; [..., H]."""
  return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(nn.Dense):
  """`nn.Dense` with all leading axes as one."""

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [..., D] to [..., features]."""
    rows = super().__call__(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], self.features)


class SplitDense(nn.Module):
  """A linear map of several inputs side by side, mapped one at a time.

  A part that many rows share is mapped once, before it is broadcast. The sum over all parts, given its
  `bias`, is what `Dense` makes of them joined, and starts like it.

  Attributes:
    inputs: width of all parts together.
    features: H.
  """

  inputs: int
  features: int

  def setup(self):
    shape = (self.inputs, self.features)
    self.kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
    self.bias = self.param("bias", nn.initializers.zeros, shape[1:], jnp.float32)

  def __call__(self, x: jax.Array, first: int) -> jax.Array:
    """Maps a part x [..., F] that begins at the input `first`, without bias; [..., H]."""
    return product(x, self.kernel[first : first + x.shape[-1]])

  def with_bias(self, total: jax.Array) -> jax.Array:
    """The sum over all parts, [..., H], with the bias."""
    return total + jnp.expand_dims(self.bias, tuple(range(total.ndim - 1)))
