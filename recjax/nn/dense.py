"""Linear maps of the last axis that see all leading axes as one.

The values are those of `nn.Dense` and of `@`. What differs is the speed of gradients on CPUs: of
x [B, L, D] @ kernel [D, H] the kernel's gradient is a sum over two axes, before which XLA moves both
sides about in memory; of a matrix [B L, D] it is one product. With B L = 51,200, D = 32 and H = 80 the
gradients took 13 ms instead of 33, with three seeds mapped (B L = 25,600) 23 instead of 68.
"""

import flax.linen as nn
import jax


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [..., D] @ kernel [D, H]; [..., H]."""
  return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(nn.Dense):
  """`nn.Dense` with all leading axes as one."""

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [..., D] to [..., features]."""
    rows = super().__call__(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], self.features)
