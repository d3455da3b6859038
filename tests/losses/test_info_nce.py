"""InfoNCE: numbers by hand, rows that are left out, gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses.info_nce import info_nce

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
