"""Positions and gaps seen from the target, and the interaction: numbers by hand, limits, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError
from recjax.nn.temporal import (
  GAP_BUCKETS,
  TemporalEncoding,
  gap_buckets,
  target_interaction,
  target_positions,
)

HISTORY = jnp.array([[[1.0, 2.0], [0.0, 1.0]]])  # older, newer
CANDIDATE = jnp.array([[[1.0, -1.0]]])
POSITIONS = jnp.array([[0.1, 0.2], [0.5, 0.0], [0.0, -0.5]])
MASK = jnp.ones((1, 2), bool)


def encode(history, mask, positions=POSITIONS, candidates=CANDIDATE):
  module = TemporalEncoding("position", len(positions) - 1, 0.1)
  return module.apply({"params": {"position": positions}}, candidates, history, mask)


def test_by_hand():
  candidate, history = encode(HISTORY, MASK)
  np.testing.assert_allclose(history[0], [[1.0, 1.5], [0.5, 1.0]], atol=1e-6)
  np.testing.assert_allclose(candidate[0, 0], [1.1, -0.8], atol=1e-6)
  made = target_interaction(candidate, history, MASK)
  np.testing.assert_allclose(made.weights[0, 0], [0.526492, 0.473508], atol=1e-6)
  np.testing.assert_allclose(made.pooled[0, 0], [0.763246, 1.263246], atol=1e-6)
  np.testing.assert_allclose(made.product[0, 0], [0.839570, -1.010597], atol=1e-6)
  one_by_one = jnp.einsum("l,ld->d", made.weights[0, 0], history[0] * candidate[0])
  np.testing.assert_allclose(made.product[0, 0], one_by_one, atol=1e-6)
  even = target_interaction(candidate, history, MASK, attention=False)
  np.testing.assert_allclose(even.weights[0, 0], [0.5, 0.5])
  np.testing.assert_allclose(even.pooled[0, 0], [0.75, 1.25], atol=1e-6)


def test_one_behaviour_and_none():
  candidate, history = encode(HISTORY, jnp.array([[False, True]]))
  made = target_interaction(candidate, history, jnp.array([[False, True]]))
  np.testing.assert_allclose(made.weights[0, 0], [0, 1])
  np.testing.assert_allclose(made.product[0, 0], (HISTORY[0, 1] + POSITIONS[1]) * candidate[0, 0])
  candidate, history = encode(HISTORY, MASK & False)
  for array in target_interaction(candidate, history, MASK & False):
    np.testing.assert_array_equal(array, 0)


def test_positions_by_hand():
  for mask in ([0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]):
    places = target_positions(jnp.array([mask], bool))[0]
    np.testing.assert_array_equal(places[np.array(mask, bool)], [3, 2, 1])
    assert not places[~np.array(mask, bool)].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_positions_equal_a_loop(mask):
  expected, after = [], 0
  for real in reversed(mask):
    after += real
    expected.append(after if real else 0)
  np.testing.assert_array_equal(target_positions(jnp.array([mask]))[0], expected[::-1])


def test_buckets_of_gaps():
  gaps = np.array([-5, 0, 59, 60, 119, 120, 60 * 2**20 - 1, 60 * 2**20, 2**31 - 1])
  np.testing.assert_array_equal(gap_buckets(jnp.asarray(gaps)), [0, 0, 0, 1, 1, 2, 20, 21, 21])
  assert GAP_BUCKETS == 22


def test_older_behaviours_share_the_last_row():
  history, mask = jnp.zeros((1, 5, 2)), jnp.ones((1, 5), bool)
  encoded = encode(history, mask)[1][0]
  np.testing.assert_allclose(encoded, POSITIONS[jnp.array([2, 2, 2, 2, 1])])


@pytest.mark.parametrize("kind", ["none", "position", "gap", "both"])
def test_what_each_kind_adds(kind):
  history, mask = jnp.ones((1, 3, 2)), jnp.array([[False, True, True]])
  gaps = jnp.array([[3, 130, 0]])
  module = TemporalEncoding(kind, 4, 0.5)
  variables = module.init(jax.random.key(0), CANDIDATE, history, mask, gaps)
  tables = variables.get("params", {})
  assert {n: t.shape for n, t in tables.items()} == {
    name: (rows, 2) for name, rows in (("position", 5), ("gap", 23)) if kind in (name, "both")
  }
  candidate, encoded = module.apply(variables, CANDIDATE, history, mask, gaps)
  of_history, of_candidate = np.zeros((3, 2)), np.zeros(2)
  for name, rows in (("position", [2, 1]), ("gap", [1 + 2, 1 + 0])):
    if name in tables:
      of_history[1:] += tables[name][jnp.array(rows)]
      of_candidate += tables[name][0]
  np.testing.assert_allclose(encoded[0, 1:], 1 + of_history[1:], atol=1e-6)
  np.testing.assert_array_equal(encoded[0, 0], 0)
  np.testing.assert_allclose(candidate[0, 0], CANDIDATE[0, 0] + of_candidate, atol=1e-6)


def test_a_constant_on_all_rows_but_the_targets_leaves_the_weights():
  shifted = POSITIONS.at[1:].add(jnp.array([0.7, -0.3]))
  one, other = (target_interaction(*encode(HISTORY, MASK, p), MASK) for p in (POSITIONS, shifted))
  np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
  np.testing.assert_allclose(other.pooled - one.pooled, [[[0.7, -0.3]]], atol=1e-6)


def test_rows_of_positions_that_no_behaviour_has_get_no_gradient():
  mask = jnp.array([[False, False, True, True]])
  history = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 2)), jnp.float32)
  table = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)), jnp.float32)

  def total(table):
    return jnp.sum(target_interaction(*encode(history, mask, table), mask).product)

  slope = jax.grad(total)(table)
  assert not np.any(slope[3:]) and np.all(np.any(slope[:3] != 0, axis=1))


def test_unknown_encoding():
  with pytest.raises(ConfigError, match="Unknown encoding 'positions'. Did you mean 'position'"):
    TemporalEncoding("positions", 3, 0.1).init(jax.random.key(0), CANDIDATE, HISTORY, MASK)
