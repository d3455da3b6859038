"""Interests along channels: numbers by hand, orthonormality, routing, filtering, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.nn.multi_interest import aggregate, gram_schmidt, normalize, route_and_filter

COLUMNS = jnp.array([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
HISTORY = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0], [-3.0, -4.0, 1.0], [3.0, 4.0, 0.0]])
ALL = jnp.ones(4, bool)
rng = np.random.default_rng(0)


def route(relevance, mask, share=0.2, routing="top1", order="routed_first"):
  return route_and_filter(relevance, mask, share, routing, order)


def test_by_hand():
  basis = gram_schmidt(COLUMNS)
  np.testing.assert_allclose(basis, [[0.6, 0], [0.8, 0], [0, 1]], atol=1e-6)
  relevance = HISTORY @ basis
  np.testing.assert_allclose(relevance, [[1.4, 0], [0, 2], [-5, 1], [5, 0]], atol=1e-6)
  # Routed to 0, 1, 1, 0; one of four may stay in each channel.
  routed = route(relevance, ALL, share=1.0)
  np.testing.assert_array_equal(routed, [[1, 0], [0, 1], [0, 1], [1, 0]])
  keep = route(relevance, ALL)
  np.testing.assert_array_equal(keep, [[0, 0], [0, 1], [0, 0], [1, 0]])
  interests = aggregate(
    HISTORY[None], relevance[None, None], keep[None, None], ALL[None], "real"
  )
  np.testing.assert_allclose(interests[0, 0], [[3.75, 5, 0], [0, 0, 1]], atol=1e-5)
  np.testing.assert_allclose(normalize(interests)[0, 0], [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_channels_are_orthonormal_and_follow_their_columns(count):
  columns = jnp.asarray(rng.normal(size=(50, 8, count)), jnp.float32)
  # Nearly dependent columns, where a single pass loses orthogonality.
  columns = columns.at[:, :, 1:].set(columns[:, :, :1] + 1e-2 * columns[:, :, 1:])
  basis = gram_schmidt(columns)
  product = jnp.einsum("bdk,bdj->bkj", basis, basis)
  np.testing.assert_allclose(product, np.broadcast_to(np.eye(count), product.shape), atol=1e-5)
  # M = O R with R upper triangular and its diagonal positive.
  upper = np.asarray(jnp.einsum("bdk,bdj->bkj", basis, columns))
  np.testing.assert_allclose(np.tril(upper, -1), 0, atol=1e-5)
  assert (np.diagonal(upper, axis1=1, axis2=2) > 0).all()


def test_gram_schmidt_has_the_gradient_of_differences():
  columns = np.asarray(rng.normal(size=(5, 3)))
  weights = rng.normal(size=(5, 3))
  with jax.enable_x64(True):
    value = lambda m: jnp.sum(gram_schmidt(m) * weights)
    slope = jax.grad(value)(jnp.asarray(columns))
    step = 1e-6 * np.eye(15).reshape(15, 5, 3)
    numeric = [(value(columns + s) - value(columns - s)) / 2e-6 for s in step]
    np.testing.assert_allclose(np.ravel(slope), numeric, rtol=1e-5, atol=1e-6)


def test_zero_columns_are_harmless():
  assert not np.any(gram_schmidt(jnp.zeros((4, 2))))
  assert np.isfinite(jax.grad(lambda m: gram_schmidt(m).sum())(jnp.zeros((4, 2)))).all()


@pytest.mark.parametrize("order", ["routed_first", "topk_first"])
def test_a_behaviour_is_in_one_channel_and_padding_in_none(order):
  relevance = jnp.asarray(rng.normal(size=(6, 3, 15, 4)), jnp.float32)
  mask = jnp.asarray(rng.random((6, 1, 15)) < 0.7).at[0].set(False).at[1].set(True)
  mask = jnp.broadcast_to(mask, (6, 3, 15))
  keep = np.asarray(route(relevance, mask, order=order))
  assert set(np.unique(keep)) == {0.0, 1.0}
  assert keep.sum(-1).max() == 1 and not keep[~np.asarray(mask)].any()
  real = np.asarray(mask).sum(-1)[..., None]
  assert (keep.sum(2) <= np.maximum(np.ceil(0.2 * real - 1e-9), 1)).all()
  assert keep[1].sum(1).max() == 3  # a fifth of 15, not one more for a rounding error
  # The same with loops.
  values, real = np.asarray(relevance), np.asarray(mask)
  for b, c in np.ndindex(6, 3):
    quota = max(int(np.ceil(0.2 * real[b, c].sum() - 1e-9)), 1)
    best = values[b, c].argmax(1)
    for k in range(4):
      routed = real[b, c] & (best == k)
      pool = np.flatnonzero(routed if order == "routed_first" else real[b, c])
      chosen = set(pool[np.argsort(-values[b, c, pool, k])][:quota])
      expected = [float(j in chosen and routed[j]) for j in range(15)]
      np.testing.assert_array_equal(keep[b, c, :, k], expected)


def test_ties_stay_together():
  relevance = jnp.array([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  keep = route(relevance, ALL)
  np.testing.assert_array_equal(keep[:, 0], [1, 1, 0, 0])


def test_soft_routing_shares_behaviours_and_has_a_gradient():
  relevance = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
  mask = jnp.array([True, True, False, True, True])
  shares = route(relevance, mask, 1.0, "soft")
  np.testing.assert_allclose(shares.sum(1), [1, 1, 0, 1, 1], rtol=1e-6)
  pull = lambda routing: jax.grad(lambda a: (route(a, mask, 1.0, routing)[:, 0]).sum())(relevance)
  assert np.abs(pull("soft")).max() > 0.05
  np.testing.assert_array_equal(pull("top1"), 0)


def test_denominators_and_relevance_scale_the_sum():
  mask = jnp.array([[True, True, False, True]])
  weights, keep = jnp.full((1, 2, 4, 1), 2.0), jnp.ones((1, 2, 4, 1)).at[:, :, 2].set(0.0)
  total = 2 * (HISTORY[0] + HISTORY[1] + HISTORY[3])
  for name, count in (("real", 3), ("length", 4)):
    made = aggregate(HISTORY[None], weights, keep, mask, name)
    np.testing.assert_allclose(made, np.broadcast_to(total / count, (1, 2, 1, 3)), rtol=1e-6)


def test_names_that_nobody_knows():
  with pytest.raises(ConfigError, match="Unknown routing 'top2'. Did you mean 'top1'"):
    route(HISTORY, ALL, routing="top2")
  with pytest.raises(ConfigError, match="Unknown filter order 'first'"):
    route(HISTORY, ALL, order="first")
  with pytest.raises(ConfigError, match="Unknown denominator 'all'"):
    aggregate(HISTORY[None], jnp.ones((1, 1, 4, 1)), jnp.ones((1, 1, 4, 1)), ALL[None], "all")
