"""Mini-batch aware L2: the hand case, and each id counted once over all fields."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses.mini_batch_decay import mini_batch_decay, occurrence_shares


def test_hand_numbers_and_zero_gradient_of_absent_rows():
  table = jnp.array([[0.0, 0], [1, 2], [3, 0], [0, -1], [2, 2]])  # row 0 is padding
  counts = jnp.array([0.0, 4, 2, 1, 5])
  ids = {"hist": jnp.array([[0, 1, 2], [1, 1, 0]]), "target": jnp.array([2, 1])}
  shares = occurrence_shares(ids, counts)

  def penalty(table):
    return sum(mini_batch_decay(table[ids[name]], shares[name], 0.01) for name in ids)

  value, slope = jax.value_and_grad(penalty)(table)
  np.testing.assert_allclose(value, 0.02875, rtol=1e-6)
  np.testing.assert_allclose(
    slope, [[0, 0], [0.0025, 0.005], [0.015, 0], [0, 0], [0, 0]], atol=1e-8
  )


def test_shares_of_an_id_add_up_to_one_over_its_count():
  rng = np.random.default_rng(0)
  counts = rng.integers(0, 9, 50).astype(np.float32)
  ids = {
    "a": jnp.asarray(rng.integers(0, 50, (6, 5))),
    "b": jnp.asarray(rng.integers(0, 50, (6,))),
    "c": jnp.asarray(rng.integers(0, 50, (2, 2, 2))),
  }
  shares = jax.jit(occurrence_shares)(ids, jnp.asarray(counts))
  sums = np.zeros(50)
  for name, array in ids.items():
    assert shares[name].shape == array.shape
    np.add.at(sums, np.asarray(array), np.asarray(shares[name]))
  present = np.unique(np.concatenate([np.ravel(a) for a in ids.values()]))
  expected = np.zeros(50)
  expected[present] = 1 / np.maximum(counts[present], 1)
  expected[0] = 0
  np.testing.assert_allclose(sums, expected, rtol=1e-6)
