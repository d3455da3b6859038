"""Catalogue softmax: equal to the naive loss in value and gradient, whatever the blocks."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.losses.softmax import full_softmax, sampled_softmax

ITEMS, WIDTH, POSITIONS = 11, 5, 23


def case(seed, extra_rows=3):
  rng = np.random.default_rng(seed)
  weights = rng.uniform(0.5, 2.0, POSITIONS) * (rng.uniform(size=POSITIONS) < 0.6)
  targets = np.where(weights > 0, rng.integers(1, ITEMS + 1, POSITIONS), 0)
  return (
    jnp.asarray(rng.normal(size=(POSITIONS, WIDTH)), jnp.float32),
    jnp.asarray(rng.normal(size=(ITEMS + 1 + extra_rows, WIDTH)), jnp.float32),
    jnp.asarray(targets, jnp.int32),
    jnp.asarray(weights, jnp.float32),
  )


def naive(queries, table, targets, weights):
  logits = queries @ table[1 : ITEMS + 1].T
  labels = jnp.maximum(targets - 1, 0)
  return jnp.sum(weights * optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def streamed(queries, table, targets, weights, block):
  return full_softmax(queries, table, targets, weights, num_items=ITEMS, block=block)[0]


@pytest.mark.parametrize("block", [1, 4, 7, 23, 64, None])
def test_equals_the_naive_loss_and_its_gradients(block):
  queries, table, targets, weights = case(0)
  expected, slopes = jax.value_and_grad(naive, (0, 1))(queries, table, targets, weights)
  got, got_slopes = jax.jit(jax.value_and_grad(streamed, (0, 1)), static_argnums=4)(
    queries, table, targets, weights, block
  )
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  for a, b in zip(got_slopes, slopes, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)
  np.testing.assert_allclose(streamed(queries, table, targets, weights, block), got, rtol=1e-6)


def test_cotangent_scales_the_gradient():
  queries, table, targets, weights = case(1)
  one = jax.grad(streamed)(queries, table, targets, weights, 4)
  three = jax.grad(lambda q: 3.0 * streamed(q, table, targets, weights, 4))(queries)
  np.testing.assert_allclose(three, 3.0 * one, rtol=1e-6)


@pytest.mark.parametrize("gradients", [False, True])
def test_vmap_over_seeds_equals_one_seed_at_a_time(gradients):
  cases = [case(seed) for seed in range(3)]
  stacked = [jnp.stack(parts) for parts in zip(*cases, strict=True)]

  def f(q, e, t, w):
    return streamed(q, e, t, w, 4)

  f = jax.value_and_grad(f, (0, 1)) if gradients else f
  got = jax.jit(jax.vmap(f))(*stacked)
  for seed, parts in enumerate(cases):
    one = jax.tree.map(lambda x, s=seed: x[s], got)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, f(*parts))


def test_vmap_with_a_shared_batch_equals_one_seed_at_a_time():
  queries, table, targets, weights = case(2)
  tables = jnp.stack([table, 2.0 * table])
  f = jax.grad(lambda e: streamed(queries, e, targets, weights, 4))
  np.testing.assert_allclose(jax.vmap(f)(tables)[1], f(tables[1]), atol=1e-6)


def test_positions_without_weight_have_no_effect_and_no_gradient():
  queries, table, targets, weights = case(3)
  gone = weights == 0
  other = jnp.where(gone[:, None], 100.0, queries)
  f = jax.value_and_grad(streamed, (0, 1))
  value, (d_queries, d_table) = f(queries, table, targets, weights, 4)
  value_other, (_, d_table_other) = f(other, table, targets, weights, 4)
  assert value == value_other
  np.testing.assert_array_equal(d_table, d_table_other)
  assert not np.any(np.asarray(d_queries)[np.asarray(gone)])


def test_nothing_to_predict_gives_zero():
  queries, table, targets, weights = case(3)
  f = jax.value_and_grad(streamed, (0, 1))
  value, slopes = f(queries, table, targets * 0, weights * 0, 4)
  assert value == 0
  assert all(not np.any(s) for s in slopes)


def test_rows_that_are_no_items_are_no_candidates():
  queries, table, targets, weights = case(4)
  loud = table.at[0].set(50.0).at[ITEMS + 1 :].set(50.0)
  f = jax.value_and_grad(streamed, 1)
  value, slope = f(queries, table, targets, weights, 8)
  value_loud, slope_loud = f(queries, loud, targets, weights, 8)
  assert value == value_loud
  np.testing.assert_array_equal(slope, slope_loud)
  assert not np.any(slope[0]) and not np.any(slope[ITEMS + 1 :])


def test_zero_vectors_give_the_log_of_the_catalogue():
  items = 12_101
  loss, hits = full_softmax(
    jnp.zeros((2, 3)), jnp.zeros((items + 1, 3)), jnp.array([1, 5]), jnp.ones(2), num_items=items
  )
  np.testing.assert_allclose(loss / 2, 9.4010434, rtol=1e-6)
  assert hits == 0  # a constant scorer ties, and a tie is a miss


def test_hits_count_the_weight_of_targets_on_top():
  table = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)])
  queries = jnp.eye(3)
  loss, hits = full_softmax(
    queries, table, jnp.array([1, 2, 1]), jnp.array([1.0, 0.5, 4.0]), num_items=3
  )
  assert hits == 1.5
  partition = math.log(math.e + 2)
  np.testing.assert_allclose(loss, 1.5 * (partition - 1) + 4 * partition, rtol=1e-6)


def test_a_table_without_room_for_padding_is_refused():
  with pytest.raises(ValueError, match="cannot hold 4 items and padding"):
    full_softmax(jnp.zeros((2, 3)), jnp.zeros((4, 3)), jnp.ones(2, int), jnp.ones(2), num_items=4)


def sampled(queries, table, targets, negatives, log_q, weights):
  zero = jnp.zeros(len(targets))
  return sampled_softmax(
    queries, table[targets], table[negatives], targets, negatives, zero, log_q, weights
  )


def test_every_item_drawn_once_is_the_full_softmax():
  queries, table, targets, weights = case(5)
  negatives = jnp.arange(1, ITEMS + 1)
  f = jax.value_and_grad(sampled, (0, 1))
  value, slopes = f(queries, table, targets, negatives, jnp.zeros(ITEMS), weights)
  expected, expected_slopes = jax.value_and_grad(streamed, (0, 1))(
    queries, table, targets, weights, 4
  )
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slopes, expected_slopes)


def test_the_correction_makes_the_partition_function_unbiased():
  # Three items, two draws with replacement: sum over all nine outcomes by hand.
  scores = np.array([0.0, 0.7, -0.4, 1.1])
  p = np.array([0.0, 0.2, 0.3, 0.5])
  table = jnp.asarray(scores[:, None], jnp.float32)
  query, target = jnp.ones((1, 1)), jnp.array([1])
  mean = 0.0
  for pair in itertools.product([1, 2, 3], repeat=2):
    negatives = jnp.asarray(pair)
    log_q = jnp.log(2 * jnp.asarray(p, jnp.float32)[negatives])
    loss = sampled(query, table, target, negatives, log_q, jnp.ones(1))
    mean += p[pair[0]] * p[pair[1]] * math.exp(float(loss) + scores[1])
  np.testing.assert_allclose(mean, np.exp(scores[1:]).sum(), rtol=1e-6)


def test_only_own_targets_drawn_leaves_nothing_to_lose():
  queries, table, _, _ = case(6)
  targets = jnp.full(POSITIONS, 3)
  value, slope = jax.value_and_grad(sampled)(
    queries, table, targets, jnp.array([3, 3]), jnp.zeros(2), jnp.ones(POSITIONS)
  )
  assert value == 0
  assert np.isfinite(slope).all() and not np.any(slope)
