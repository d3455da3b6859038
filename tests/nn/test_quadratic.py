"""Quadratic layers: numbers by hand, rows that collapse, what they are homogeneous in, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn.quadratic import QuadraticLayer, QuadraticTower

ALL = jnp.ones((1,), bool)


def apply(params, z, rows, norm="none", residual=True, **options):
  layer = QuadraticLayer(rows, norm, residual=residual)
  return layer.apply({"params": params}, z, jnp.ones(z.shape[:-1], bool), train=False, **options)


def test_by_hand():
  kernel = jnp.concatenate(
    [jnp.array([[1.0, 0.0], [2.0, 1.0]]).T, jnp.array([[0.0, 1.0], [1.0, -1.0]]).T], axis=1
  )
  params = {"kernel": kernel, "bias": jnp.array([0.1, 0.0, 0.0, -0.2]), "slope": jnp.asarray(0.25)}
  z = jnp.array([[1.0, -2.0]])
  np.testing.assert_allclose(apply(params, z, 2), [[0.775, -3.4]], atol=1e-6)
  np.testing.assert_allclose(apply(params, z, 2, residual=False), [[-0.225, -1.4]], atol=1e-6)
  one = {**params, "slope": jnp.asarray(1.0)}
  np.testing.assert_allclose(apply(one, z, 2, residual=False), [[-0.9, -5.6]], atol=1e-6)


def random_layer(seed, width=4, rows=3):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {
    "kernel": draw(width, rows * width), "bias": draw(rows * width), "slope": jnp.asarray(0.3),
  }
  return params, draw(2, 3, width)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_layer_equals_a_loop_over_rows_and_one_row_of_their_sums(seed, rows):
  params, z = random_layer(seed, rows=rows)
  got = np.asarray(apply(params, z, rows))
  for place in np.ndindex(2, 3):
    x, q = np.asarray(z[place]), np.zeros(4)
    for row in range(rows):
      part = slice(4 * row, 4 * row + 4)
      q += x * (x @ np.asarray(params["kernel"])[:, part] + np.asarray(params["bias"])[part])
    np.testing.assert_allclose(got[place], x + np.where(q > 0, q, 0.3 * q), rtol=1e-4, atol=1e-4)
  summed = {
    **params, "kernel": params["kernel"].reshape(4, rows, 4).sum(1),
    "bias": params["bias"].reshape(rows, 4).sum(0),
  }
  np.testing.assert_allclose(apply(summed, z, 1), got, rtol=1e-5, atol=1e-5)


def test_without_a_bias_it_is_homogeneous_of_degree_two():
  params, z = random_layer(0)
  params = {**params, "bias": params["bias"] * 0, "slope": jnp.asarray(1.0)}
  once = apply(params, z, 3, residual=False)
  np.testing.assert_allclose(apply(params, 3 * z, 3, residual=False), 9 * once, rtol=1e-4)


def test_without_a_map_it_is_the_identity_and_with_a_norm_adds_its_shift():
  params, z = random_layer(0)
  nothing = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_array_equal(apply(nothing, z, 3), z)
  shift = jnp.array([1.0, -2.0, 3.0, 0.5])
  nothing |= {"slope": jnp.asarray(1.0), "norm": {"scale": jnp.ones(4), "shift": shift}}
  np.testing.assert_allclose(apply(nothing, z, 3, "affine"), z + shift[None, None], atol=1e-6)


def test_dropout_drops_rows_one_by_one_and_keeps_the_mean():
  """In training each row of the map is dropped on its own, and so is the result."""
  width, rate = 2, 0.25
  params = {
    "kernel": jnp.zeros((width, 3 * width)), "bias": jnp.ones(3 * width), "slope": jnp.asarray(1.0)
  }
  z = jnp.ones((4000, width))
  layer = QuadraticLayer(3, "none", rate, residual=False)
  mask = jnp.ones(4000, bool)
  made = layer.apply({"params": params}, z, mask, train=True, rngs={"dropout": jax.random.key(0)})
  # One to three rows left of three, each scaled by 1 / (1 - rate), and then the same once more.
  values = np.unique(np.round(np.asarray(made) * (1 - rate) ** 2, 4))
  np.testing.assert_allclose(values, [0, 1, 2, 3], atol=1e-4)
  assert np.mean(made) == pytest.approx(3.0, abs=0.1)
  still = layer.apply({"params": params}, z, mask, train=False)
  np.testing.assert_allclose(still, 3.0, rtol=1e-6)


def test_statistics_count_real_entries_only_and_scoring_uses_running_ones():
  tower = QuadraticTower(2, 1, "batch")
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
  mask = jnp.array([1, 1, 1, 1, 1, 0], bool)
  variables = tower.init(jax.random.key(0), z, mask, train=False)
  moved = lambda z: tower.apply(variables, z, mask, train=True, mutable=["batch_stats"])[1]
  jax.tree.map(np.testing.assert_array_equal, moved(z), moved(z.at[5].set(100.0)))
  score = lambda z: tower.apply({**variables, **moved(z)}, z, mask, train=False)
  alone = tower.apply({**variables, **moved(z)}, z[:1], mask[:1], train=False)
  np.testing.assert_allclose(score(z)[:1], alone, atol=1e-6)


def test_parameters():
  tower = jax.eval_shape(
    lambda: QuadraticTower(4, 3, "batch").init(
      jax.random.key(0), jnp.zeros((2, 16)), jnp.ones(2, bool), train=False
    )
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(tower["params"]))
  assert count == 4 * (16 * 48 + 48 + 2 * 16 + 1) + 17


@pytest.mark.slow
def test_products_are_learned_with_fewer_parameters():
  """z = 2 sum_k (a_k . x)(b_k . x): one quadratic layer against an MLP of twice the parameters.

  Means of three seeds, each with the best of three learning rates; one without norm, as the paper's
  product is. The Bayes AUC is about .93.
  """
  import optax

  from recjax.data.sources.planted import auc
  from recjax.nn.tower import CTRTower

  def data(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(17_000, 32))
    a, b = rng.normal(size=(2, 32, 4)) / np.sqrt(32)
    z = 2 * np.sum((x @ a) * (x @ b), axis=1)
    return x.astype(np.float32), (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(np.float32)

  def trained(module, seed, rate, epochs, size=128):
    x, y = data(seed)
    variables = module.init(jax.random.key(seed), x[:2], ALL, train=False)
    optimizer = optax.adam(rate)
    state = optimizer.init(variables)

    @jax.jit
    def step(variables, state, x, y):
      def loss(variables):
        z = module.apply(variables, x, ALL, train=False)
        return jnp.mean(jax.nn.softplus(z) - y * z)

      updates, state = optimizer.update(jax.grad(loss)(variables), state)
      return optax.apply_updates(variables, updates), state

    rng = np.random.default_rng(seed)
    for _ in range(epochs):
      order = rng.permutation(12_000)
      for at in range(0, 12_000 - size + 1, size):
        rows = order[at : at + size]
        variables, state = step(variables, state, x[rows], y[rows])
    return auc(y[12_000:], np.asarray(module.apply(variables, x[12_000:], ALL, train=False)))

  def best(module, epochs):
    return np.mean([
      max(trained(module, seed, rate, epochs) for rate in (1e-3, 3e-3, 1e-2)) for seed in range(3)
    ])

  quadratic = best(QuadraticTower(1, 1, "none"), 6)
  perceptron = best(CTRTower((40, 24), "relu", "none"), 8)
  assert quadratic >= perceptron + 0.005
