"""InfoNCE: numbers by hand, rows that are left out, gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses.info_nce import clipped_scale, info_nce, symmetric_info_nce

ALL = jnp.ones(128, bool)


def test_equal_similarities_give_the_log_of_the_batch():
  same = jnp.ones((128, 4)) / 2
  loss, hits = info_nce(same, same, ALL, 0.05)
  np.testing.assert_allclose(loss, 4.852030, rtol=1e-6)
  np.testing.assert_array_equal(hits, 0)
  loss, _ = info_nce(jnp.zeros((3000, 1)), jnp.zeros((3000, 1)), jnp.ones(3000, bool), 0.05)
  np.testing.assert_allclose(loss, 8.006368, rtol=1e-6)


def test_orthonormal_pairs_are_all_but_certain():
  loss, hits = info_nce(jnp.eye(128), jnp.eye(128), ALL, 0.05)
  # 127 exp(-20); float32 rounds 20 + log(1 + that) to a multiple of 1.9e-6.
  np.testing.assert_allclose(loss, 2.618e-7, atol=2e-6)
  with jax.enable_x64(True):
    loss, _ = info_nce(jnp.eye(128, dtype=jnp.float64), jnp.eye(128, dtype=jnp.float64), ALL, 0.05)
  np.testing.assert_array_equal(hits, 1)


def test_further_keys_are_negatives_of_all():
  """Of 3 rows with 4 more keys, one of them not valid, all alike: log 6."""
  same = jnp.ones((7, 2))
  valid = jnp.array([1, 1, 1, 1, 0, 1, 1], bool)
  loss, hits = info_nce(same[:3], same, valid, 0.5)
  np.testing.assert_allclose(loss, np.log(6), rtol=1e-6)
  assert hits.shape == (3,)
  rng = np.random.default_rng(1)
  queries, keys = jnp.asarray(rng.normal(size=(3, 4))), jnp.asarray(rng.normal(size=(7, 4)))
  s = np.asarray(queries) @ np.asarray(keys).T / 0.5
  s[:, 4] = -np.inf
  expected = np.log(np.exp(s).sum(1)) - np.diagonal(s)
  np.testing.assert_allclose(info_nce(queries, keys, valid, 0.5)[0], expected, rtol=1e-5)
  rows = jnp.asarray(rng.random((3, 7)) < 0.5) | jnp.eye(3, 7, dtype=bool)
  s = np.where(rows, np.asarray(queries) @ np.asarray(keys).T / 0.5, -np.inf)
  expected = np.log(np.exp(s).sum(1)) - np.diagonal(s)
  np.testing.assert_allclose(info_nce(queries, keys, rows, 0.5)[0], expected, rtol=1e-5)


def test_left_out_rows_are_nobodys_negatives():
  rng = np.random.default_rng(0)
  queries, keys = (jnp.asarray(rng.normal(size=(6, 3)), jnp.float32) for _ in range(2))
  valid = jnp.array([True, True, False, True, True, False])
  value = lambda q, k: info_nce(q, k, valid, 0.5)[0].sum()
  total, slopes = jax.value_and_grad(value, (0, 1))(queries, keys)
  small = info_nce(queries[valid], keys[valid], jnp.ones(4, bool), 0.5)[0]
  np.testing.assert_allclose(total, small.sum(), rtol=1e-6)
  for slope in slopes:
    np.testing.assert_array_equal(slope[~valid], 0)
    assert np.abs(slope[valid]).min() > 0
  none = info_nce(queries, keys, valid & False, 0.5)
  np.testing.assert_array_equal(none[0], 0)


def test_symmetric_loss_by_hand_and_swapped():
  """Two orthonormal pairs: ln(1 + e^-s); without a scale ln B, whatever the vectors."""
  eye, both = jnp.eye(2), jnp.ones(2, bool)
  loss, hits = symmetric_info_nce(eye, eye, both, 1 / 0.07)
  np.testing.assert_allclose(loss, 6.2488e-7, atol=1e-6)  # float32 rounds 14 to multiples of 9.5e-7
  np.testing.assert_array_equal(hits, 1)
  np.testing.assert_allclose(symmetric_info_nce(eye, eye, both, 5.0)[0], 6.715348e-3, rtol=1e-4)
  rng = np.random.default_rng(2)
  first, second = (jnp.asarray(rng.normal(size=(5, 3)), jnp.float32) for _ in range(2))
  every = jnp.ones(5, bool)
  np.testing.assert_allclose(symmetric_info_nce(first, second, every, 0.0)[0], np.log(5), rtol=1e-6)
  value = lambda a, b: symmetric_info_nce(a, b, every, 3.0)[0]
  np.testing.assert_allclose(value(first, second), value(second, first), rtol=1e-6)
  s = 3.0 * np.asarray(first, np.float64) @ np.asarray(second, np.float64).T
  own = 2 * np.diagonal(s)
  expected = (np.log(np.exp(s).sum(1)) + np.log(np.exp(s).sum(0)) - own) / 2
  np.testing.assert_allclose(value(first, second), expected, rtol=1e-5)
  # What does not learn has no gradient, and the other side has the same as before.
  frozen = jax.grad(lambda a: value(jax.lax.stop_gradient(a), second).sum())(first)
  np.testing.assert_array_equal(frozen, 0)


def test_scales_are_clipped():
  np.testing.assert_allclose(clipped_scale(jnp.log(1 / 0.07)), 1 / 0.07, rtol=1e-5)
  np.testing.assert_allclose(clipped_scale(jnp.float32(9.0)), 100.0, rtol=1e-5)
