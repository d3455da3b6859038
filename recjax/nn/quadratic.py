"""Quadratic layers: a vector times a linear map of itself, so that products need no hidden units.

    h = Dropout(W z + b) in R rows of the width of z,  q = sum_r z * h_r
    layer(z) = z + Dropout(PReLU(Norm(q)))

Li et al., WWW 2025 workshop, arXiv 2504.17699, after the quadratic networks of arXiv 2505.17999. A
stack of N layers holds products of up to 2^N features. Without dropout the rows add up to one linear
map, (sum_r W_r) z + sum_r b_r, and are computed as one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dense import Dense, product
from recjax.nn.normalize import Normalize

_SLOPE = 0.25  # of PReLU, where it starts


class QuadraticLayer(nn.Module):
  """One layer.

  Attributes:
    rows: R.
    norm: one of `normalize.NORMS`.
    dropout: rate of the linear map and of the result.
    residual: whether z is added.
  """

  rows: int
  norm: str
  dropout: float = 0.0
  residual: bool = True

  @nn.compact
  def __call__(self, z: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    """z [..., D] to its shape; batch statistics are over the entries where mask [...]."""
    width, rows = z.shape[-1], self.rows
    glorot = nn.initializers.glorot_normal()
    kernel = self.param("kernel", glorot, (width, rows * width), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (rows * width,), jnp.float32)
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x)
    if train and self.dropout:
      mapped = drop(product(z, kernel) + jnp.expand_dims(bias, range(z.ndim - 1)))
      mapped = mapped.reshape(*z.shape[:-1], rows, width).sum(-2)
    else:
      shift = bias.reshape(rows, width).sum(0)
      mapped = product(z, kernel.reshape(width, rows, width).sum(1))
      mapped = mapped + jnp.expand_dims(shift, range(z.ndim - 1))
    q = Normalize(self.norm, name="norm")(z * mapped, mask, train=train)
    slope = self.param("slope", nn.initializers.constant(_SLOPE), (), jnp.float32)
    q = drop(jnp.where(q > 0, q, slope * q))
    return z + q if self.residual else q


class QuadraticTower(nn.Module):
  """Quadratic layers, then Dense(1), a logit.

  Attributes:
    layers: N.
    rows, norm, dropout: of each layer.
  """

  layers: int
  rows: int
  norm: str
  dropout: float = 0.0

  @nn.compact
  def __call__(self, z: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    """Logits [...] for z [..., D]; batch statistics are over the entries where mask [...]."""
    for index in range(self.layers):
      layer = QuadraticLayer(self.rows, self.norm, self.dropout, name=f"layer_{index}")
      z = layer(z, mask, train=train)
    return Dense(1, kernel_init=nn.initializers.glorot_normal(), name="logit")(z)[..., 0]
