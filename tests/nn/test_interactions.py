"""Interactions of features: numbers by hand, and that they agree with one another."""

import jax.numpy as jnp
import numpy as np

from recjax.nn.interactions import CrossLayers, factorization, inner_products

FIELDS = jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])


def test_products_and_their_sum_by_hand():
  np.testing.assert_allclose(inner_products(FIELDS), [2.0, 1.0, -1.0])
  np.testing.assert_allclose(factorization(FIELDS), 2.0)
  batch = jnp.stack([FIELDS, 2 * FIELDS])[None]
  np.testing.assert_allclose(inner_products(batch).sum(-1), factorization(batch), rtol=1e-6)
  assert inner_products(FIELDS[:1]).shape == (0,) and factorization(FIELDS[:1]) == 0


def test_cross_layers_by_hand():
  layer = {"kernel": jnp.array([[1.0, 0.0], [1.0, -1.0]]).T, "bias": jnp.array([0.0, 0.5])}
  apply = lambda count: CrossLayers(count).apply(
    {"params": {f"cross_{i}": layer for i in range(count)}}, jnp.array([[1.0, 2.0]])
  )
  np.testing.assert_allclose(apply(1), [[2.0, 1.0]])
  np.testing.assert_allclose(apply(2), [[4.0, 4.0]])
