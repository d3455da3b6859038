"""Interactions of features: products of pairs of fields, and cross layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.dense import Dense


def inner_products(fields: jax.Array) -> jax.Array:
  """Inner products [..., F (F - 1) / 2] of all pairs of fields [..., F, D]: (1, 2), (1, 3), ...."""
  left, right = np.triu_indices(fields.shape[-2], 1)
  products = jnp.einsum("...fd,...gd->...fg", fields, fields)
  return products[..., left, right]


def factorization(fields: jax.Array) -> jax.Array:
  """Second-order term [...] of a factorisation machine (Rendle, ICDM 2010) on fields [..., F, D].

  The sum of all `inner_products`, in time linear in F.
  """
  square_of_sum = jnp.square(jnp.sum(fields, axis=-2))
  return 0.5 * jnp.sum(square_of_sum - jnp.sum(jnp.square(fields), axis=-2), axis=-1)


class CrossLayers(nn.Module):
  """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, the cross network of DCN-V2 (Wang et al., WWW 2021).

  Attributes:
    layers: how many; products of up to layers + 1 features arise.
  """

  layers: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """x [..., F] to its shape."""
    start = x
    for index in range(self.layers):
      x = start * Dense(x.shape[-1], name=f"cross_{index}")(x) + x
    return x
