"""Quotas by largest remainder and lists filled in shares: by hand, by properties, by a slow twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn.shares import fill_in_shares, largest_remainder

fill = jax.jit(fill_in_shares, static_argnums=2)
quotas_of = jax.jit(largest_remainder, static_argnums=1)


@pytest.mark.parametrize(
  ("weights", "total", "expected"),
  [
    ([0.5, 0.3, 0.2], 7, [4, 2, 1]),  # floors 3, 2, 1 and remainders .5, .1, .4
    ([0.3, 0.3, 0.4], 10, [3, 3, 4]),  # .3 x 10 is 3, whatever float32 makes of it
    ([1.0, 0.0, 0.0], 5, [5, 0, 0]),
    ([1.0, 1.0, 1.0], 4, [2, 1, 1]),  # among equals the first
    ([0.7, 0.1, 0.1], 9, [7, 1, 1]),
  ],
)
def test_quotas_by_hand(weights, total, expected):
  assert quotas_of(jnp.array(weights), total).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
  st.lists(st.integers(0, 1000), min_size=5, max_size=5).filter(any), st.sampled_from([7, 60])
)
def test_quotas_sum_to_the_total_and_keep_to_their_shares(weights, total):
  quotas = np.asarray(quotas_of(jnp.array(weights, jnp.float32), total))
  exact = total * np.array(weights) / np.sum(weights)
  assert quotas.sum() == total
  assert (quotas >= np.floor(exact - 1e-3)).all() and (quotas <= np.ceil(exact + 1e-3)).all()
  assert (quotas[np.array(weights) == 0] == 0).all()


def slow_fill(lists, weights, length):
  quotas = np.asarray(quotas_of(jnp.asarray(weights), length))
  chosen = []
  for c, items in enumerate(lists):
    mine = [i for i in items if i and i not in {item for _, _, item in chosen}][: quotas[c]]
    chosen += [((j + 0.5) / weights[c], c, item) for j, item in enumerate(mine)]
  ordered = [item for *_, item in sorted(chosen)]
  return ordered + [0] * (length - len(ordered))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(6, 30))
def test_filling_equals_a_slow_twin(seed, items):
  rng = np.random.default_rng(seed)
  lists = np.stack([rng.permutation(items)[:6] for _ in range(12)]).reshape(4, 3, 6)  # with id 0
  weights = -np.sort(-rng.integers(1, 6, (4, 3)), axis=1).astype(np.float32)
  merged = np.asarray(fill(jnp.asarray(lists), jnp.asarray(weights), 6))
  for row in range(4):
    expected = slow_fill(lists[row], weights[row], 6)
    assert merged[row].tolist() == expected
    real = merged[row][merged[row] != 0]
    assert len(set(real)) == len(real)


def test_the_beginning_is_shared_out_like_the_whole():
  lists = jnp.arange(1, 25).reshape(1, 2, 12)
  merged = np.asarray(fill(lists, jnp.array([[0.75, 0.25]]), 12))[0]
  assert merged.tolist() == [1, 2, 13, 3, 4, 5, 14, 6, 7, 8, 15, 9]


def test_places_stay_empty_only_where_all_lists_are_exhausted():
  lists = jnp.array([[[3, 1, 2, 0], [1, 2, 3, 0]]])  # three items in all, four places
  assert sorted(np.asarray(fill(lists, jnp.array([[0.5, 0.5]]), 4))[0].tolist()) == [0, 1, 2, 3]
