"""Causal convolutions: by hand, receptive fields, padding; attention pooling by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.convolution import CausalConv, DilatedResidualBlock
from recjax.nn.pooling import AttentionPool, attention_pool

SIGNAL = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)


def ones(conv, x):
  return jax.tree.map(jnp.ones_like, conv.init(jax.random.key(0), x)["params"]) | {"bias": jnp.zeros(1)}


def test_dilated_sums_by_hand():
  y = SIGNAL
  for dilation, expected in ((1, [1, 3, 5, 7]), (2, [1, 3, 6, 10])):
    conv = CausalConv(1, kernel=2, dilation=dilation)
    y = conv.apply({"params": ones(conv, y)}, y)
    np.testing.assert_array_equal(y[0, :, 0], expected)


@pytest.mark.parametrize(("kernel", "field"), [(3, 15), (2, 8)])
def test_receptive_field_of_dilations_one_two_four(kernel, field):
  x = jnp.zeros((1, 20, 1))

  def last(x):
    for dilation in (1, 2, 4):
      conv = CausalConv(1, kernel, dilation)
      x = conv.apply({"params": ones(conv, x)}, x)
    return x[0, -1, 0]

  seen = np.flatnonzero(jax.grad(last)(x)[0, :, 0])
  assert len(seen) == field and seen[-1] == 19 and seen[0] == 20 - field


@pytest.mark.parametrize("dilation", [1, 2, 7])
def test_is_the_convolution_of_flax(dilation):
  import flax.linen as nn

  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 3)), jnp.float32)
  conv = CausalConv(4, 3, dilation)
  variables = conv.init(jax.random.key(0), x)
  twin = nn.Conv(4, (3,), kernel_dilation=dilation, padding="CAUSAL")
  np.testing.assert_allclose(conv.apply(variables, x), twin.apply(variables, x), atol=1e-5)
  stacked = conv.apply(variables, x.reshape(1, 2, 6, 3))
  np.testing.assert_allclose(stacked[0], conv.apply(variables, x), atol=1e-6)


def test_a_block_leaves_padding_zero_and_ignores_what_is_in_it():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.float32)
  mask = jnp.array([[False, False, True, True, True], [True] * 5])
  block = DilatedResidualBlock(3, (1, 2))
  variables = block.init(jax.random.key(0), x, mask)
  clean = block.apply(variables, x * mask[..., None], mask)
  np.testing.assert_array_equal(clean, block.apply(variables, x, mask))
  np.testing.assert_array_equal(clean[0, :2], 0)
  later = block.apply(variables, x.at[:, 3].add(1.0), mask)
  np.testing.assert_array_equal(later[:, :3], clean[:, :3])
  assert (np.abs(later - clean)[:, 3:].max(-1) > 1e-3).all()


def test_attention_pool_by_hand():
  states = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
  scores, mask = jnp.array([0.0, np.log(3), 0.0]), jnp.array([True, True, False])
  pooled, weights = attention_pool(scores, states, mask)
  np.testing.assert_allclose(weights, [0.25, 0.75, 0], rtol=1e-6)
  np.testing.assert_allclose(pooled, [0.25, 0.75], rtol=1e-6)


def test_attention_pool_of_nothing_is_zero():
  states = jnp.ones((2, 3, 4))
  pool = AttentionPool()
  variables = pool.init(jax.random.key(0), states, jnp.ones((2, 3), bool))
  mask = jnp.array([[False] * 3, [True] * 3])
  pooled, weights = pool.apply(variables, states, mask)
  np.testing.assert_array_equal(pooled[0], 0)
  np.testing.assert_array_equal(weights[0], 0)
  np.testing.assert_allclose(pooled[1], 1, rtol=1e-6)


def test_attention_pool_has_a_hidden_width_of_its_own():
  states, mask = jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool)
  for hidden, width in ((0, 4), (7, 7)):
    params = AttentionPool(hidden).init(jax.random.key(0), states, mask)["params"]
    assert params["hidden"]["kernel"].shape == (4, width)
    assert params["score"]["kernel"].shape == (width, 1)
