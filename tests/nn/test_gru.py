"""GRU: equal to flax's cell, blind to padding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.gru import GRU


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)
  module = GRU(4)
  variables = module.init(jax.random.key(0), x, jnp.ones((2, 5), bool))
  params = jax.tree.map(
    lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.1, jnp.float32),
    variables["params"],
  )
  return module, {"params": params}, x


def test_equals_the_flax_cell(case):
  module, variables, x = case
  params = variables["params"]
  cell, gates = {}, ("r", "z", "n")
  for gate, kernel, bias, recurrent in zip(
    gates,
    jnp.split(params["input"]["kernel"], 3, axis=1),
    jnp.split(params["input"]["bias"], 3),
    jnp.split(params["recurrent"], 3, axis=1),
    strict=True,
  ):
    cell["i" + gate] = {"kernel": kernel, "bias": bias}
    cell["h" + gate] = {"kernel": recurrent}
  cell["hn"]["bias"] = params["candidate_bias"]
  state = jnp.zeros((2, 4))
  got = module.apply(variables, x, jnp.ones((2, 5), bool))
  for t in range(5):
    state, _ = nn.GRUCell(4).apply({"params": cell}, state, x[:, t])
    np.testing.assert_allclose(got[:, t], state, atol=1e-6)


def test_padding_anywhere_is_stepped_over(case):
  module, variables, x = case
  mask = jnp.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
  got = module.apply(variables, x, mask)
  short = module.apply(variables, x[:1, jnp.array([1, 3, 4])], jnp.ones((1, 3), bool))
  np.testing.assert_allclose(got[0, jnp.array([1, 3, 4])], short[0], atol=1e-6)
  np.testing.assert_array_equal(got[1], 0)
  np.testing.assert_array_equal(got[0, jnp.array([0, 2])], 0)


def test_padding_gets_no_gradient(case):
  module, variables, x = case
  mask = jnp.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
  slope = np.asarray(jax.grad(lambda x: jnp.sum(module.apply(variables, x, mask)))(x))
  assert np.isfinite(slope).all()
  assert not slope[0, :2].any() and not slope[1].any() and slope[0, 2:].any()
