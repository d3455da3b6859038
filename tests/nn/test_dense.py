"""Linear maps over all leading axes: the functions of `nn.Dense` and `@`, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.dense import Dense, SplitDense, product

SHAPES = [(3,), (2, 3), (2, 4, 3), (2, 1, 4, 3), (0, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_is_the_one_of_flax(shape):
  x = jax.random.normal(jax.random.key(1), shape)
  own, other = Dense(5), nn.Dense(5)
  variables = own.init(jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
    jnp.shape, other.init(jax.random.key(0), x)
  )

  def value(layer):
    def total(variables, x):
      y = layer.apply(variables, x)
      assert y.shape == (*shape[:-1], 5)
      return jnp.sum(jnp.sin(y)), y

    return jax.grad(total, argnums=(0, 1), has_aux=True)(variables, x)

  for left, right in zip(*map(jax.tree.leaves, map(value, (own, other))), strict=True):
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


def test_a_layer_is_called_as_in_flax():
  class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
      return Dense(1)(Dense(2, use_bias=False, name="first")(x))

  found = Two().init(jax.random.key(0), jnp.ones((2, 3)))["params"]
  assert jax.tree.map(jnp.shape, found) == {
    "first": {"kernel": (3, 2)}, "Dense_0": {"kernel": (2, 1), "bias": (1,)},
  }


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_a_product(shape):
  x, kernel = np.random.default_rng(0).normal(size=shape), np.arange(12.0).reshape(3, 4)
  np.testing.assert_allclose(product(jnp.asarray(x), jnp.asarray(kernel)), x @ kernel, rtol=1e-5)


def test_split_dense_is_dense_of_what_is_joined():
  key, parts = jax.random.key(0), jax.random.normal(jax.random.key(1), (2, 5, 3))
  module = SplitDense(6, 4)
  both = lambda module: module.with_bias(module(parts[0], 0) + module(parts[1], 3))
  variables = module.init(key, method=both)
  joined = jnp.concatenate([parts[0], parts[1]], axis=-1)
  kernel = nn.Dense(4).init(key, joined)["params"]["kernel"]
  assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (6, 4), "bias": (4,)}
  np.testing.assert_allclose(jnp.std(variables["params"]["kernel"]), jnp.std(kernel), rtol=0.5)
  variables["params"]["bias"] = jnp.arange(4.0)
  np.testing.assert_allclose(
    module.apply(variables, method=both),
    np.asarray(joined) @ np.asarray(variables["params"]["kernel"]) + np.arange(4.0), atol=1e-5,
  )
