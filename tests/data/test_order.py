"""The shuffled order: a bijection, the same from NumPy and JAX, without visible structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recjax.data.order import cursor, row_at


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_an_epoch_visits_every_row_once(count, seed, epoch):
  visited = row_at(np, np.uint32(seed), np.uint32(epoch), np.arange(count, dtype=np.uint32), count)
  assert sorted(visited.tolist()) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 943, 100_003])
def test_numpy_and_jax_agree_to_the_bit(count):
  position = np.arange(min(count * 2, 5000), dtype=np.uint32)
  host = row_at(np, np.uint32(5), np.uint32(9), position, count)
  device = jax.jit(lambda p: row_at(jnp, jnp.uint32(5), jnp.uint32(9), p, count))(position)
  np.testing.assert_array_equal(host, device)
  assert host.dtype == np.asarray(device).dtype == np.int32


def test_positions_past_the_end_belong_to_the_next_epoch():
  over = row_at(np, np.uint32(1), np.uint32(4), np.arange(8, 14, dtype=np.uint32), 10)
  last = row_at(np, np.uint32(1), np.uint32(4), np.arange(8, 10, dtype=np.uint32), 10)
  first = row_at(np, np.uint32(1), np.uint32(5), np.arange(4, dtype=np.uint32), 10)
  np.testing.assert_array_equal(over, np.concatenate([last, first]))


def test_cursor_is_exact_for_long_runs():
  assert cursor(10**9, 8192, 200_000_001) == divmod(10**9 * 8192, 200_000_001)


def test_rows_and_neighbours_are_uniform():
  """Chi-squared over positions and over pairs of neighbours, at a level a sound shuffle passes."""
  count, epochs = 40, 3000
  place = np.zeros((count, count))
  pairs = np.zeros((count, count))
  for epoch in range(epochs):
    visited = row_at(np, np.uint32(77), np.uint32(epoch), np.arange(count, dtype=np.uint32), count)
    place[np.arange(count), visited] += 1
    np.add.at(pairs, (visited[:-1], visited[1:]), 1)
  expected = epochs / count
  statistic = ((place - expected) ** 2 / expected).sum()
  assert stats.chi2.sf(statistic, (count - 1) ** 2) > 1e-4
  off = ~np.eye(count, dtype=bool)
  expected = epochs * (count - 1) / (count * (count - 1))
  statistic = ((pairs[off] - expected) ** 2 / expected).sum()
  assert stats.chi2.sf(statistic, count * (count - 1) - 1) > 1e-4
