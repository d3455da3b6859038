"""Ranking metrics against hand-worked numbers, a naive twin and metrax."""

import math

import jax.numpy as jnp
import metrax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError, DataError
from recjax.evaluate.ranking import (
  count_targets,
  hits_of_lists,
  hits_of_ranks,
  ranking_metrics,
)


def one(hits, num_targets, cutoffs, ideal="relevant"):
  metrics = ranking_metrics(np.array([hits], bool), np.array([num_targets]), cutoffs, ideal)
  return {name: float(value[0]) for name, value in metrics.items()}


def test_one_target_by_rank():
  hits = hits_of_ranks(np.array([0, 2, 9, 10]), 10)
  metrics = ranking_metrics(hits, np.ones(4, int), (10,))
  np.testing.assert_allclose(metrics["ndcg@10"], [1, 0.5, 0.2890648, 0], atol=1e-7)
  np.testing.assert_allclose(metrics["hr@10"], [1, 1, 1, 0])
  np.testing.assert_allclose(metrics["mrr@10"], [1, 1 / 3, 0.1, 0])
  np.testing.assert_allclose(metrics["recall@10"], metrics["hr@10"])
  np.testing.assert_allclose(metrics["map@10"], metrics["mrr@10"])
  np.testing.assert_allclose(metrics["precision@10"], [0.1, 0.1, 0.1, 0])


def test_two_variants_of_the_ideal_list():
  hits = [0, 1, 0, 1, 0, 0, 0, 0, 0, 0]
  assert one(hits, 10, (10,))["ndcg@10"] == pytest.approx(0.2336508, abs=1e-7)
  assert one(hits, 10, (10,), "retrieved")["ndcg@10"] == pytest.approx(0.6509209, abs=1e-7)
  ideal_of_ten = sum(1 / math.log2(j + 1) for j in range(1, 11))
  assert one(hits, 10, (10,))["ndcg@10"] * ideal_of_ten == pytest.approx(1.0616063, abs=1e-7)


def test_hand_worked_list():
  metrics = one([1, 0, 1, 0, 0], 3, (5,))
  assert metrics == {
    "hr@5": 1.0,
    "ndcg@5": pytest.approx(0.7039181, abs=1e-7),
    "mrr@5": 1.0,
    "recall@5": pytest.approx(0.6666667, abs=1e-7),
    "precision@5": pytest.approx(0.4),
    "map@5": pytest.approx(0.5555556, abs=1e-7),
  }
  assert one([1, 0, 1, 0, 0], 8, (5,))["map@5"] == pytest.approx(0.3333333, abs=1e-7)


def test_no_hits_give_zero_everywhere():
  for ideal in ("relevant", "retrieved"):
    assert set(one([0, 0, 0], 2, (1, 3), ideal).values()) == {0.0}


def test_errors():
  with pytest.raises(ConfigError, match="Did you mean 'retrieved'"):
    one([1], 1, (1,), "retreived")
  with pytest.raises(ConfigError, match="length 1"):
    one([1], 1, (2,))
  with pytest.raises(DataError, match="without targets"):
    one([1], 0, (1,))


def test_targets_are_counted_once():
  np.testing.assert_array_equal(
    count_targets(np.array([[3, 0, 3], [0, 0, 0], [1, 2, 3]])), [1, 0, 3]
  )


@pytest.mark.parametrize("target", [1, 3, 6, 9])
def test_a_constant_scorer_hits_nothing(target):
  ids = np.array([[1, 2, 3, 4, 5, 6]])
  assert not hits_of_lists(ids, np.full((1, 6), 0.7), np.array([[target]])).any()


def test_a_list_of_everything_hides_no_ties():
  # Four items in all, all alike: the target's rank is 3 whatever its place in the list.
  ids, scores = np.array([[1, 2, 3, 4, 0, 0]]), np.array([[1, 1, 1, 1, -np.inf, -np.inf]])
  for target in (1, 4):
    hits = hits_of_lists(ids, scores, np.array([[target]]))
    np.testing.assert_array_equal(hits, [[0, 0, 0, 1, 0]])


def test_padding_is_no_hit():
  ids, scores = np.array([[4, 0, 0]]), np.array([[1.0, -np.inf, -np.inf]])
  assert not hits_of_lists(ids, scores, np.array([[0, 0]])).any()


def naive_ranks(scores, targets):
  """rank(t) = #{j != t: s_j >= s_t} over all items."""
  return {t: sum(scores[j] >= scores[t] for j in range(1, len(scores)) if j != t) for t in targets}


def top_list(scores, length):
  order = sorted(range(1, len(scores)), key=lambda i: (-scores[i], i))[:length]
  pad = length - len(order)
  return (
    np.array([order + [0] * pad]),
    np.array([[scores[i] for i in order] + [-np.inf] * pad], np.float32),
  )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_target_is_exact_under_any_ties(data):
  items = data.draw(st.integers(1, 12))
  scores = [9] + data.draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
  target = data.draw(st.integers(1, items))
  longest = data.draw(st.integers(1, 8))
  ids, values = top_list(scores, longest + 1)
  hits = hits_of_lists(ids, values, np.array([[target]]))
  expected = hits_of_ranks(np.array([naive_ranks(scores, [target])[target]]), longest)
  np.testing.assert_array_equal(hits, expected)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_several_targets_are_never_ranked_too_well(data):
  items = data.draw(st.integers(2, 12))
  scores = [9] + data.draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
  targets = data.draw(st.lists(st.integers(1, items), min_size=1, max_size=4, unique=True))
  longest = data.draw(st.integers(1, 8))
  ids, values = top_list(scores, longest + 1)
  found = np.cumsum(hits_of_lists(ids, values, np.array([targets]))[0])
  order = sorted(range(1, items + 1), key=lambda i: (-scores[i], i in targets))
  exact = np.cumsum([i in targets for i in order] + [0] * longest)[:longest]
  assert (found <= exact).all()
  if len(set(scores)) == len(scores) or longest >= items:
    np.testing.assert_array_equal(found, exact)


def naive_metrics(hits, num_targets, k, ideal):
  hits = hits[:k]
  gain = sum(1 / math.log2(j + 2) for j, hit in enumerate(hits) if hit)
  right = min(num_targets, k) if ideal == "relevant" else sum(hits)
  best = sum(1 / math.log2(j + 2) for j in range(right))
  precisions = [sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits) if hit]
  return {
    f"hr@{k}": float(any(hits)),
    f"ndcg@{k}": gain / best if best else 0.0,
    f"mrr@{k}": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
    f"recall@{k}": sum(hits) / num_targets,
    f"precision@{k}": sum(hits) / k,
    f"map@{k}": sum(precisions) / min(num_targets, k),
  }


@settings(max_examples=200, deadline=None)
@given(
  hits=st.lists(st.booleans(), min_size=5, max_size=12),
  more=st.integers(0, 5),
  k=st.integers(1, 5),
  ideal=st.sampled_from(["relevant", "retrieved"]),
)
def test_equals_the_naive_twin(hits, more, k, ideal):
  num_targets = max(1, sum(hits) + more)
  expected = naive_metrics(hits, num_targets, k, ideal)
  assert one(hits, num_targets, (k,), ideal) == {n: pytest.approx(v) for n, v in expected.items()}


def test_retrieved_ideal_is_never_smaller():
  hits = np.random.default_rng(0).random((200, 10)) < 0.3
  num_targets = hits.sum(1) + np.random.default_rng(1).integers(1, 4, 200)
  relevant = ranking_metrics(hits, num_targets, (3, 10))
  retrieved = ranking_metrics(hits, num_targets, (3, 10), "retrieved")
  for k in (3, 10):
    assert (retrieved[f"ndcg@{k}"] >= relevant[f"ndcg@{k}"] - 1e-12).all()


def test_agrees_with_metrax_without_ties():
  rng = np.random.default_rng(0)
  users, items, cutoffs = 20, 30, (1, 5, 10)
  scores = rng.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)
  labels = (rng.random((users, items)) < 0.2).astype(np.float32)
  labels[:, 0] = 1
  order = np.argsort(-scores, axis=1)
  hits = np.take_along_axis(labels, order, axis=1)[:, :10] > 0
  ours = ranking_metrics(hits, labels.sum(1).astype(int), cutoffs)
  ks = jnp.asarray(cutoffs)
  theirs = {
    "ndcg": metrax.NDCGAtK,
    "mrr": metrax.MRR,
    "recall": metrax.RecallAtK,
    "precision": metrax.PrecisionAtK,
  }
  for name, metric in theirs.items():
    reference = metric.from_model_output(
      predictions=jnp.asarray(scores), labels=jnp.asarray(labels), ks=ks
    ).compute()
    mean = [ours[f"{name}@{k}"].mean() for k in cutoffs]
    np.testing.assert_allclose(mean, np.asarray(reference).ravel(), rtol=1e-5, err_msg=name)
