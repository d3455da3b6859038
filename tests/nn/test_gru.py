"""GRUs: equal to flax's cell, numbers by hand for those with attention, blind to padding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from recjax.errors import ConfigError
from recjax.nn.gru import EVOLUTIONS, GRU, AttentionalGRU


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


# A scalar state; in the order reset, update, candidate. The paper's update gate u is 1 - z.
INPUT, RECURRENT, BIAS = (0.2, 0.5, 1.0), (0.4, -0.3, 0.7), (0.0, 0.1, 0.0)
ATTENTION = jnp.array([[[0.2, 0.3, 0.5]]])
EVOLVED = {
  "agru": (0.091117, 0.118189, 0.391818),
  "augru": (0.053360, 0.071919, 0.250512),
  "aigru": (0.052664, 0.058504, 0.240939),
  "augru_code": (0.242148, 0.238275, 0.555400),
}


def scalar(kept=False):
  """Parameters of the scalar cell; with `kept` its gate is read as the share that is kept."""
  sign = jnp.array([1.0, 1.0 if kept else -1.0, 1.0])
  params = {
    "input": {"kernel": (sign * jnp.array(INPUT))[None], "bias": sign * jnp.array(BIAS)},
    "recurrent": (sign * jnp.array(RECURRENT))[None],
    "candidate_bias": jnp.zeros(1),
  }
  return {"params": params}


def evolve(kind, inputs, attention, steps=None):
  mask = jnp.arange(inputs.shape[1])[None] < (steps or inputs.shape[1])
  variables = scalar(kept=kind == "augru_code")
  return AttentionalGRU(1, kind).apply(variables, inputs, mask, attention)


@pytest.fixture(scope="module")
def extracted():
  states = GRU(1).apply(scalar(), jnp.array([[[1.0], [-0.5], [2.0]]]), jnp.ones((1, 3), bool))
  np.testing.assert_allclose(states[0, :, 0], [0.491728, 0.150432, 0.757064], atol=2e-6)
  return states


@pytest.mark.parametrize("kind", EVOLUTIONS)
def test_states_by_hand(extracted, kind):
  states = [evolve(kind, extracted, ATTENTION, steps)[0, 0, 0] for steps in (1, 2, 3)]
  np.testing.assert_allclose(states, EVOLVED[kind], atol=2e-6)


def test_full_attention_is_the_plain_unit(extracted):
  plain = GRU(1).apply(scalar(), extracted, jnp.ones((1, 3), bool))
  np.testing.assert_allclose(plain[0, :, 0], [0.266798, 0.255431, 0.518851], atol=2e-6)
  for kind in ("augru", "aigru"):
    got = evolve(kind, extracted, jnp.ones((1, 1, 3)))
    np.testing.assert_allclose(got[0, 0], plain[0, -1], atol=1e-6)


def test_one_step_from_a_state_at_the_ends_of_attention():
  # A first input, with attention 1, brings the state to .4; the second is 1.
  reached = lambda x: np.tanh(x) / (1 + np.exp(-0.5 * x - 0.1)) - 0.4
  first = {"augru": brentq(reached, 0, 3), "augru_code": np.arctanh(0.4)}

  def step(kind, attention):
    return evolve(kind, jnp.array([[[first[kind]], [1.0]]]), jnp.array([[[1.0, attention]]]))[0, 0, 0]

  np.testing.assert_allclose(step("augru", 0.0), 0.4, atol=1e-6)
  np.testing.assert_allclose(step("augru", 1.0), 0.661085, atol=2e-6)
  np.testing.assert_allclose(step("augru_code", 0.0), 0.561555, atol=2e-6)
  np.testing.assert_allclose(step("augru_code", 1.0), 0.822641, atol=2e-6)


def test_many_candidates_equal_one_at_a_time_and_padding_is_stepped_over():
  rng = np.random.default_rng(0)
  inputs = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
  attention = jnp.asarray(rng.uniform(size=(2, 5, 4)), jnp.float32)
  mask = jnp.array([[0, 1, 1, 0], [0, 0, 0, 0]], bool)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {
    "input": {"kernel": draw(3, 12), "bias": draw(12)}, "recurrent": draw(4, 12),
    "candidate_bias": draw(4),
  }
  for kind in EVOLUTIONS:
    apply = jax.jit(lambda *case, kind=kind: AttentionalGRU(4, kind).apply({"params": params}, *case))
    last = apply(inputs, mask, attention)
    one = apply(inputs[:1, 1:3], mask[:1, 1:3], attention[:1, 2:3, 1:3])
    np.testing.assert_allclose(one[0, 0], last[0, 2], atol=1e-6)
    np.testing.assert_array_equal(last[1], 0)
    total = lambda x, a, apply=apply: jnp.sum(jnp.square(apply(x, mask, a) + 1.0))
    for slope in jax.jit(jax.grad(total, (0, 1)))(inputs, attention):
      assert np.isfinite(slope).all() and not np.any(slope[1])


def test_an_unknown_kind_is_named():
  with pytest.raises(ConfigError, match="Unknown evolution 'augrou'. Did you mean 'augru'"):
    evolve("augrou", jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1)))
