"""Several interests: capsules by hand and by loops, attention by hand, read-out and merging."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn import interests


def test_squash_by_hand():
  np.testing.assert_allclose(interests.squash(jnp.array([3.0, 4.0])), [0.5769231, 0.7692308], 1e-6)
  slope = jax.jacobian(interests.squash)(jnp.zeros(2))
  assert np.isfinite(slope).all() and not interests.squash(jnp.zeros(2)).any()


def test_the_first_step_of_a_routing_by_hand():
  votes = jnp.array([[[[3.0, 4.0], [0.0, 0.0]]]])
  capsules = interests.dynamic_routing(votes, jnp.zeros((1, 2, 2)), jnp.array([[True, True]]), 1)
  # Each of two capsules gets half of [3, 4]: [1.5, 2] before it is squashed.
  np.testing.assert_allclose(capsules[0], [[0.5172414, 0.6896552]] * 2, rtol=1e-6)


def test_capsules_of_equal_votes_and_logits_stay_equal_and_others_do_not():
  votes = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 5, 3)), jnp.float32)
  mask = jnp.ones((2, 5), bool)
  equal = interests.dynamic_routing(votes, jnp.zeros((1, 4, 5)), mask, 3)
  np.testing.assert_array_equal(equal, equal[:, :1] * np.ones((1, 4, 1), np.float32))
  start = jax.random.normal(jax.random.key(0), (1, 4, 5))
  apart = np.asarray(interests.dynamic_routing(votes, start, mask, 3))
  assert (np.abs(apart[:, :1] - apart[:, 1:]).max(axis=-1) > 1e-2).all()


def route_by_loops(votes, logits, mask, iterations):
  rows, count, length, width = votes.shape
  found = np.zeros((rows, count, width))
  for row in range(rows):
    b = logits[row].astype(np.float64).copy()
    for _ in range(iterations):
      v = np.zeros((count, width))
      for l in range(length):  # noqa: E741 - the position's usual name
        if mask[row, l]:
          share = np.exp(b[:, l]) / np.exp(b[:, l]).sum()
          for k in range(count):
            v[k] += share[k] * votes[row, k, l]
      norm = np.linalg.norm(v, axis=1, keepdims=True)
      v = v * norm / (1 + norm**2)
      for k in range(count):
        for l in range(length):  # noqa: E741
          b[k, l] += votes[row, k, l] @ v[k]
    found[row] = v
  return found


def test_routing_equals_loops():
  rng = np.random.default_rng(1)
  votes = rng.normal(size=(3, 2, 4, 3)).astype(np.float32)
  logits = rng.normal(size=(3, 2, 4)).astype(np.float32)
  mask = np.array([[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]], bool)
  for iterations in (1, 2, 3):
    found = interests.dynamic_routing(*map(jnp.asarray, (votes, logits, mask)), iterations)
    np.testing.assert_allclose(found, route_by_loops(votes, logits, mask, iterations), atol=1e-5)


def test_only_the_last_iteration_is_differentiated():
  rng = np.random.default_rng(2)
  votes = jnp.asarray(rng.normal(size=(1, 2, 3, 2)), jnp.float32)
  mask = jnp.ones((1, 3), bool)
  weight = jnp.asarray(rng.normal(size=(1, 2, 2)), jnp.float32)
  start = jnp.zeros((1, 2, 3))
  value = lambda votes: jnp.sum(weight * interests.dynamic_routing(votes, start, mask, 3))
  # Logits as two iterations leave them, then one iteration from there: the same slope.
  logits = np.zeros((1, 2, 3))
  for iteration in (1, 2):
    capsules = route_by_loops(np.asarray(votes), np.zeros((1, 2, 3)), np.asarray(mask), iteration)
    logits = logits + np.einsum("bkld,bkd->bkl", votes, capsules)
  last = lambda votes: jnp.sum(
    weight * interests.dynamic_routing(votes, jnp.asarray(logits, jnp.float32), mask, 1)
  )
  np.testing.assert_allclose(jax.grad(value)(votes), jax.grad(last)(votes), atol=1e-5)


def test_attention_without_preferences_is_the_mean_and_values_know_no_positions():
  module = interests.SelfAttentiveInterests(2, 6, 4)
  history = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, 2)), jnp.float32)
  mask = jnp.array([[False, True, True], [False, False, False]])
  params = module.init(jax.random.key(0), history, mask)["params"]
  flat = {**params, "score": {"kernel": jnp.zeros((6, 2))}}
  found = module.apply({"params": flat}, history, mask)
  np.testing.assert_allclose(found[0], [history[0, 1:].mean(axis=0)] * 2, rtol=1e-6)
  np.testing.assert_array_equal(found[1], 0)
  # By hand for given maps, the newest event at the last of four positions.
  rng = np.random.default_rng(4)
  first, second = rng.normal(size=(2, 6)), rng.normal(size=(6, 2))
  place = rng.normal(size=(4, 2))
  params = {
    "hidden": {"kernel": first}, "score": {"kernel": second}, "position": place,
  }
  params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
  found = module.apply({"params": params}, history, mask)
  scores = np.tanh((np.asarray(history[0, 1:]) + place[2:]) @ first) @ second
  weights = np.exp(scores) / np.exp(scores).sum(axis=0)
  np.testing.assert_allclose(found[0], weights.T @ np.asarray(history[0, 1:]), rtol=1e-4)


def test_the_nearest_interest_is_read_out():
  users = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [2.0, 0.0]]])
  targets = jnp.array([[0.2, 0.9], [1.0, 1.0]])
  np.testing.assert_array_equal(interests.read_out(users, targets), [[0, 1], [2, 0]])
  slope = jax.grad(lambda t: interests.read_out(users, t).sum())(targets)
  assert not slope.any()


_best_scores = jax.jit(interests.best_scores)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 8), st.integers(0, 2**31))
def test_merging_the_lists_of_all_interests_ranks_by_the_best_score(longest, seed):
  rng = np.random.default_rng(seed)
  user, vectors = rng.normal(size=(1, 3, 2)), rng.normal(size=(9, 2))
  best: dict[int, float] = {}
  for interest in user[0]:
    scores = vectors @ interest
    for item in np.argsort(-scores)[:longest]:
      best[item] = max(best.get(item, -np.inf), scores[item])
  merged = sorted(best, key=lambda item: -best[item])[:longest]
  scores = _best_scores(*(np.asarray(a, np.float32) for a in (user, vectors)))
  assert np.argsort(-np.asarray(scores[0]))[:longest].tolist() == merged
  one = _best_scores(*(np.asarray(a, np.float32) for a in (user[:, 0], vectors)))
  np.testing.assert_allclose(one[0], vectors @ user[0, 0], atol=1e-5)
