"""Dice, PReLU and normalisations: the numbers of the paper's equations, masks, running averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.nn.activations import Activation
from recjax.nn.normalize import Moments, Normalize


def dice(column, alpha, mask=None):
  x = jnp.asarray(column, jnp.float32)[:, None]
  mask = jnp.ones(len(column), bool) if mask is None else jnp.asarray(mask)
  module = Activation("dice")
  variables = module.init(jax.random.key(0), x, mask, train=True)
  variables = {**variables, "params": {"alpha": jnp.array([alpha])}}
  return module.apply(variables, x, mask, train=True, mutable=["batch_stats"])[0][:, 0]


def test_dice_hand_numbers():
  np.testing.assert_allclose(
    dice([1, 2, 3, 4], 0.25), [0.405430, 1.085035, 2.122447, 3.378279], atol=1e-6
  )
  np.testing.assert_allclose(
    dice([-2, -1, 1, 2], 0.0), [-0.440259, -0.346954, 0.653046, 1.559741], atol=1e-6
  )
  np.testing.assert_allclose(dice([1, -2, 3, 4], 1.0), [1, -2, 3, 4], atol=1e-6)


def test_dice_of_a_row_by_hand():
  x, mask = jnp.array([[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]]), jnp.ones(2, bool)
  module = Activation("dice_layer")
  made = module.init(jax.random.key(0), x, mask, train=False)
  np.testing.assert_array_equal(made["params"]["alpha"], np.full(4, -0.25))
  ones = {"params": {"alpha": jnp.full(4, 0.25)}}
  got = module.apply(ones, x, mask, train=True)
  np.testing.assert_allclose(got[0], [0.405430, 1.085035, 2.122447, 3.378279], atol=1e-6)
  np.testing.assert_allclose(got[1], np.full(4, 2 * 0.625), atol=1e-6)  # no spread: half open
  slope = jax.grad(lambda x: module.apply(ones, x, mask, train=True).sum())(x)
  assert np.isfinite(slope).all()


def test_dice_statistics_ignore_masked_entries():
  got = dice([1, 2, 99, 3, -50, 4], 0.25, [True, True, False, True, False, True])
  np.testing.assert_allclose(
    got[jnp.array([0, 1, 3, 5])], [0.405430, 1.085035, 2.122447, 3.378279], atol=1e-6
  )


def test_dice_becomes_prelu_as_the_variance_vanishes():
  x = jnp.array([[-2.0], [-0.1], [0.1], [3.0]])
  mask = jnp.ones(4, bool)
  params = {"alpha": jnp.array([0.25])}
  moments = {"mean": jnp.zeros(1), "variance": jnp.zeros(1), "steps": jnp.ones(())}
  soft = Activation("dice").apply(
    {"params": params, "batch_stats": {"moments": moments}}, x, mask, train=False
  )
  hard = Activation("prelu").apply({"params": params}, x, mask, train=False)
  np.testing.assert_allclose(soft, hard, atol=1e-6)
  np.testing.assert_allclose(hard[:, 0], [-0.5, -0.025, 0.1, 3.0], atol=1e-6)


def test_moments_move_the_running_averages_and_serve_them():
  module = Moments(momentum=0.9)
  x, mask = jnp.array([[[1.0], [3.0], [7.0]]]), jnp.array([[True, True, False]])
  variables = module.init(jax.random.key(0), x, mask, train=True)
  assert variables["batch_stats"]["mean"] == 0 and variables["batch_stats"]["variance"] == 1
  (mean, variance), moved = module.apply(variables, x, mask, train=True, mutable=["batch_stats"])
  assert mean == 2 and variance == 1
  np.testing.assert_allclose(moved["batch_stats"]["mean"], 2.0, rtol=1e-6)
  np.testing.assert_allclose(moved["batch_stats"]["variance"], 1.0, rtol=1e-6)
  mean, variance = module.apply(moved, x, mask, train=False)
  np.testing.assert_allclose(mean, 2.0, rtol=1e-6)
  _, same = module.apply(moved, x, mask & False, train=True, mutable=["batch_stats"])
  np.testing.assert_array_equal(same["batch_stats"]["mean"], moved["batch_stats"]["mean"])


def test_averages_forget_where_they_began():
  module, mask = Moments(momentum=0.75), jnp.ones(2, bool)
  variables = module.init(jax.random.key(0), jnp.ones((2, 1)), mask, train=True)
  step = jax.jit(lambda v, x, m: module.apply(v, x, m, train=True, mutable=["batch_stats"])[1])
  expected = 0.0
  for number, centre in enumerate([4.0, 8.0, 6.0, 2.0, 10.0, 20.0]):
    variables = step(variables, jnp.array([[centre - 0.1], [centre + 0.1]]), mask)
    variables = step(variables, jnp.ones((2, 1)), mask & False)
    expected += (centre - expected) * max(1 / (number + 1), 0.25)
    np.testing.assert_allclose(variables["batch_stats"]["mean"], expected, rtol=1e-6)
    np.testing.assert_allclose(variables["batch_stats"]["variance"], 0.01, rtol=1e-4)
  assert expected == pytest.approx(9.6875)


def test_gradients_flow_through_the_batch_moments():
  module = Activation("dice")
  x, mask = jnp.array([[1.0], [2.0], [4.0]]), jnp.ones(3, bool)
  variables = module.init(jax.random.key(0), x, mask, train=True)

  def first(x):
    return module.apply(variables, x, mask, train=True, mutable=["batch_stats"])[0][0, 0]

  slope = jax.grad(first)(x)
  assert np.isfinite(slope).all() and np.abs(slope[1:]).min() > 0
  all_masked = jax.grad(
    lambda x: jnp.sum(
      module.apply(variables, x, mask & False, train=True, mutable=["batch_stats"])[0]
    )
  )(x)
  assert np.isfinite(all_masked).all()


def test_batch_norm_standardises_the_real_entries():
  x = jnp.array([[1.0, 5.0], [3.0, 9.0], [100.0, -100.0]])
  mask = jnp.array([True, True, False])
  module = Normalize("batch")
  variables = module.init(jax.random.key(0), x, mask, train=True)
  y, _ = module.apply(variables, x, mask, train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(y[:2], [[-1, -1], [1, 1]], atol=1e-4)


def test_affine_starts_as_the_identity_and_none_has_no_parameters():
  x, mask = jnp.array([[1.0, 5.0]]), jnp.ones(1, bool)
  y, variables = Normalize("affine").init_with_output(jax.random.key(0), x, mask, train=True)
  np.testing.assert_array_equal(y, x)
  assert set(variables) == {"params"} and set(variables["params"]) == {"scale", "shift"}
  y, variables = Normalize("none").init_with_output(jax.random.key(0), x, mask, train=True)
  assert not variables


def test_unknown_kinds_are_named():
  x, mask = jnp.ones((1, 2)), jnp.ones(1, bool)
  with pytest.raises(ConfigError, match="Unknown activation 'dise'. Did you mean 'dice'"):
    Activation("dise").init(jax.random.key(0), x, mask, train=True)
  with pytest.raises(ConfigError, match="Unknown norm 'batchnorm'"):
    Normalize("batchnorm").init(jax.random.key(0), x, mask, train=True)
