"""The running top-k by groups of columns equals one stable sort, ties and short rows included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn import running_top_k
from recjax.nn.running_top_k import running_top_k as best


def table(levels, columns=3000, rows=3):
  return np.random.default_rng(levels).integers(0, levels, (rows, columns)).astype(np.float32)


@pytest.mark.parametrize("levels", [3, 100_000])  # nearly all scores are tied, or hardly any
def test_groups_equal_one_stable_sort(levels):
  scores, k, block = table(levels), 5, 1024
  scores[2, 4:] = -np.inf  # fewer than k are there
  assert running_top_k._width(block, k) >= running_top_k._LEAST
  filled = jnp.pad(scores, ((0, 0), (0, block)), constant_values=-jnp.inf)
  score = lambda start: jax.lax.dynamic_slice_in_dim(filled, start, block, axis=1)
  columns, values = jax.jit(functools.partial(best, score, 3, 3000, block, k))()
  order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
  expected = np.take_along_axis(scores, order, axis=1)
  np.testing.assert_array_equal(values, expected)
  np.testing.assert_array_equal(columns, np.where(np.isneginf(expected), 0, order))


def test_less_is_sorted_than_is_scored():
  for count in (1024, 16_384, 65_536):
    for k in (1, 10, 100):
      width = running_top_k._width(count, k)
      if width >= running_top_k._LEAST:
        assert count / width >= k and count / width + k * width < count / 3
