"""Dependence of weighted samples: numbers by hand, the exact criterion as twin, what weights can do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.evaluate import dependence as exact
from recjax.losses import independence as ind

rng = np.random.default_rng(0)
X = np.arange(4.0)[:, None]


@functools.partial(jax.jit, static_argnames=("steps", "momentum"))
def learn(features, real, spread, rate, steps, momentum=0.9):
  return ind.independent_weights(
    features, real, spread=spread, steps=steps, rate=rate, momentum=momentum
  )


def test_exact_criterion_by_hand():
  linear = lambda x, y: exact.hsic(exact.linear_kernel(x), exact.linear_kernel(y))
  gaussian = lambda x, y: exact.hsic(exact.gaussian_kernel(x, 1.0), exact.gaussian_kernel(y, 1.0))
  assert linear(X, X**2) == pytest.approx(25.0)  # the square of the sample covariance 5
  assert gaussian(X, X**2) == pytest.approx(0.2290774, abs=1e-7)
  product = np.array([[-1, -1, 1, 1], [1, -1, -1, 1.0]])[:, :, None]
  assert linear(*product) == pytest.approx(0.0, abs=1e-12)
  assert gaussian(*product) == pytest.approx(0.0, abs=1e-12)
  assert exact.median_distance(X) == 1.5
  # The trace with J written out.
  k, l = exact.gaussian_kernel(X, 1.5), exact.gaussian_kernel(X**2, 4.0)  # noqa: E741
  j = np.eye(4) - 0.25
  assert exact.hsic(k, l) == pytest.approx(np.trace(k @ j @ l @ j) / 9)
  assert np.isnan(exact.gaussian_hsic(X[:1], X[:1]))
  assert np.isnan(exact.gaussian_hsic(np.ones((4, 1)), X))


def test_random_features_come_near_the_exact_criterion():
  a = rng.normal(size=(50, 3))
  b = np.concatenate([a[:, :1] ** 2, rng.normal(size=(50, 1))], axis=1)
  for left, right, widths in ((X, X**2, (1.0, 1.0)), (a, b, (1.5, 2.0))):
    kernels = [exact.gaussian_kernel(v, s) for v, s in zip((left, right), widths, strict=True)]
    given_ = [jnp.asarray(v, jnp.float32) for v in (left, right)]
    found = ind.fourier_hsic(*given_, jax.random.key(1), 4000, widths)
    assert found == pytest.approx(exact.hsic(*kernels), rel=0.1)


def test_functions_of_coordinates_have_the_sum_of_their_kernels():
  values = rng.normal(size=(20, 3)).astype(np.float32)
  z = ind.fourier_features(jnp.asarray(values), ind.coordinate_features(jax.random.key(0), 3, 4000))
  assert z.shape == (20, 12_000)
  expected = sum(exact.gaussian_kernel(values[:, d : d + 1].astype(np.float64), 1.0) for d in range(3))
  np.testing.assert_allclose(z @ z.T / 4000, expected, atol=0.2)
  # A function reads one coordinate: the others may be anything.
  functions = ind.coordinate_features(jax.random.key(0), 3, 5)
  other = values.copy()
  other[:, 1] += 1.0
  changed = ind.fourier_features(other, functions) != ind.fourier_features(values, functions)
  np.testing.assert_array_equal(np.asarray(changed).any(0), np.repeat([False, True, False], 5))


def test_weighted_covariance_by_hand():
  half = np.pi / 2
  plain = ind.Features(jnp.eye(1), jnp.zeros(1))
  a, b = (
    ind.fourier_features(jnp.asarray(v, jnp.float32)[:, None], plain)
    for v in ([0, half, np.pi, half], [0, np.pi, half, half])
  )
  for weights, covariance, square in (
    ([0.25] * 4, 0.5, 0.25), ([0.4, 0.2, 0.2, 0.2], 0.72, 0.5184),
  ):
    weights = jnp.asarray(weights)
    np.testing.assert_allclose(ind.weighted_covariance(a, b, weights), [[covariance]], atol=1e-6)
    assert ind.dependence(jnp.stack([a, b]), weights) == pytest.approx(square, abs=1e-6)


def test_dependence_with_loops():
  features = rng.normal(size=(3, 12, 4)).astype(np.float32)
  weights = rng.dirichlet(np.ones(12)).astype(np.float32)
  expected = 0.0
  for a, b in ((0, 1), (0, 2), (1, 2)):
    for f in range(4):
      for g in range(4):
        x, y = features[a, :, f].astype(np.float64), features[b, :, g].astype(np.float64)
        expected += ((weights * x * y).sum() - (weights * x).sum() * (weights * y).sum()) ** 2
  found = ind.dependence(jnp.asarray(features), jnp.asarray(weights))
  assert found == pytest.approx(expected, rel=1e-4)


def test_binary_samples_become_uncorrelated():
  a = np.array([1, 1, 1, -1, -1, -1, 1, -1.0])
  b = np.array([1, 1, 1, -1, -1, -1, -1, 1.0])
  features = jnp.asarray(np.stack([a, b]), jnp.float32)[:, :, None]
  assert ind.dependence(features, jnp.full(8, 0.125)) == pytest.approx(0.25)
  weights, ratio = learn(features, jnp.ones(8, bool), 0.0, 0.1, 300, 0.0)
  np.testing.assert_allclose(weights, [1 / 12] * 6 + [1 / 4] * 2, atol=1e-6)
  assert ratio < 1e-6


def coupled(seed=0, count=256):
  """Two vectors that tell a coin and one that agrees with it nine times out of ten; their features."""
  draw = np.random.default_rng(seed)
  c = draw.integers(2, size=count)
  s = np.where(draw.random(count) < 0.9, c, 1 - c)
  maps = draw.normal(size=(2, 2, 4))
  values = np.stack([maps[0][c], maps[1][s]]) + 0.1 * draw.normal(size=(2, count, 4))
  keys = jax.random.split(jax.random.key(seed))
  features = jnp.stack([
    ind.fourier_features(jnp.asarray(v, jnp.float32), ind.coordinate_features(k, 4, 5))
    for v, k in zip(values, keys, strict=True)
  ])
  return c, s, features


def correlation(c, s, weights):
  both = np.cov(c, s, aweights=np.asarray(weights, np.float64), ddof=0)
  return both[0, 1] / np.sqrt(both[0, 0] * both[1, 1])


def test_the_learner_decorrelates_a_planted_pair():
  c, s, features = coupled()
  real = jnp.ones(256, bool)
  assert correlation(c, s, np.full(256, 1 / 256)) == pytest.approx(0.78, abs=0.04)
  found = {}
  for spread in (0.0, 0.3, 1.0):
    # The plain gradient with a step of 20.
    weights, ratio = learn(features, real, spread, 20 / 256 * (1 + spread), 300, 0.0)
    scaled = 256 * np.asarray(weights)
    found[spread] = (
      float(ratio), scaled[c == s].mean(), scaled[c != s].mean(), float(ind.effective_size(weights)),
      correlation(c, s, weights),
    )
  ratio, agree, differ, size, left = found[0.3]
  assert ratio <= 0.05 and differ >= 1.8 and left <= 0.25
  assert agree == pytest.approx(0.88, abs=0.05) and size == pytest.approx(157, abs=15)
  assert found[0.0][0] < 0.002 and found[0.0][3] == pytest.approx(92, abs=20)
  assert abs(found[0.0][4]) < 0.05
  assert found[1.0][0] == pytest.approx(0.193, abs=0.06)
  assert found[1.0][3] == pytest.approx(186, abs=10)
  # The short descent with momentum that models use comes as far as a tenth.
  weights, ratio = learn(features, real, 0.3, 0.05, 20)
  assert ratio < 0.1 and ind.effective_size(weights) > 128


FEATURES = jnp.asarray(rng.normal(size=(3, 16, 6)), jnp.float32)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 1e4), st.floats(0.01, 30.0), st.integers(0, 2**16 - 2), st.integers(0, 2**31))
def test_weights_of_any_descent(spread, rate, left_out, seed):
  real = np.array([not left_out >> i & 1 for i in range(16)])
  weights, ratio = (np.asarray(a) for a in learn(FEATURES, real, spread, rate, 10))
  assert weights.sum() == pytest.approx(1.0, abs=1e-4)
  assert (weights[~real] == 0).all() and (weights[real] >= 0).all() and np.isfinite(weights).all()
  count = real.sum()
  # It began at one and kept the best, so no weight can have paid for itself alone.
  assert ratio + spread * (count * np.square(weights).sum() - 1) <= 1 + 1e-3 * (1 + spread)
  order = np.random.default_rng(seed).permutation(16)
  if rate < 0.1:
    permuted, _ = learn(FEATURES[:, order], real[order], spread, rate, 10)
    np.testing.assert_allclose(permuted, weights[order], atol=1e-4)


def test_limits():
  real = jnp.arange(16) < 12
  equal = np.where(real, 1 / 12, 0.0)
  np.testing.assert_allclose(learn(FEATURES, real, 1e8, 0.05, 20)[0], equal, atol=1e-6)
  np.testing.assert_array_equal(learn(FEATURES[:1], real, 0.3, 0.05, 20)[0], equal.astype(np.float32))
  weights, _ = learn(FEATURES, real, 0.3, 0.05, 20)
  assert np.abs(weights - equal).max() > 1e-3
  nothing, _ = learn(FEATURES, jnp.zeros(16, bool), 0.3, 0.05, 20)
  np.testing.assert_array_equal(nothing, 0)
  assert ind.effective_size(jnp.full(16, 1 / 16)) == pytest.approx(16)


def test_standardized_numbers_have_unit_variance_and_constant_moments():
  values = jnp.asarray(rng.normal(3.0, 5.0, size=(30, 2, 4)), jnp.float32)
  real = jnp.arange(30) % 3 != 0
  found = np.asarray(ind.standardize(values, real))
  np.testing.assert_allclose(found[real].mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(found[real].std(0), 1, rtol=1e-4)
  assert not found[~np.asarray(real)].any()
  slope = jax.grad(lambda v: ind.standardize(v, real)[1, 0, 0])(values)
  assert np.count_nonzero(slope) == 1
  assert not np.any(ind.standardize(jnp.ones((5, 2)), jnp.ones(5, bool)))
