"""Comparisons of files: figures worked by hand, and the house's own evaluator on the same lists."""

import numpy as np
import pytest
from scipy import stats

from recjax.errors import ConfigError
from recjax.evaluate import beyond_accuracy, comparison, ranking
from recjax.evaluate.list_files import Lists, Task

USERS, ITEMS, DEPTH = 60, 40, 6


@pytest.fixture(scope="module")
def task():
  rng = np.random.default_rng(0)
  right = [np.sort(rng.choice(ITEMS, rng.integers(1, 4), replace=False)) + 1 for _ in range(USERS)]
  seen = [np.sort(rng.choice(ITEMS, 5, replace=False)) + 1 for _ in range(USERS)]
  rows = lambda parts: (np.cumsum([0, *map(len, parts)]), np.concatenate(parts))
  return Task(
    np.arange(USERS).astype(str), ITEMS, rows(right), rows(seen),
    np.bincount(np.concatenate(seen), minlength=ITEMS + 1),
    np.concatenate([[0], rng.integers(1, 4, ITEMS)]),
    {"gender": np.where(np.arange(USERS) % 3 > 0, "F", "")}, {},
  )


def lists(seed, share):
  """Random lists; a share of them is cut short, and scores tie."""
  rng = np.random.default_rng(seed)
  ids = np.argsort(rng.random((USERS, ITEMS)), axis=1)[:, :DEPTH] + 1
  scores = -np.sort(-rng.integers(0, 4, ids.shape).astype(float), axis=1)
  short = rng.random(USERS) < share
  ids[short, 3:], scores[short, 3:] = 0, -np.inf
  return Lists(ids, scores, {})


@pytest.fixture(scope="module")
def judged(task):
  return {name: comparison.judge(task, lists(seed, 0.2), (3, 5)) for name, seed in
          (("a", 1), ("b", 2), ("c", 3))}


def test_metrics_are_those_of_the_evaluators_of_runs(task, judged):
  own = lists(1, 0.2)
  width = np.diff(task.relevant[0]).max()
  targets = np.zeros((USERS, width), np.int64)
  for user, (begin, end) in enumerate(zip(task.relevant[0][:-1], task.relevant[0][1:], strict=True)):
    targets[user, : end - begin] = task.relevant[1][begin:end]
  hits = ranking.hits_of_lists(own.ids, own.scores, targets)
  expected = ranking.ranking_metrics(hits, ranking.count_targets(targets), (3, 5))
  found, _ = judged["a"]
  assert set(expected) == set(found.per_case)
  for name, value in expected.items():
    np.testing.assert_allclose(found.per_case[name], value)
    assert found.values[name] == pytest.approx(value.mean())
  assert found.values["coverage@5"] == beyond_accuracy.coverage(own.ids[:, :5], ITEMS)
  assert found.values["novelty@5"] == beyond_accuracy.novelty(own.ids[:, :5], task.train_counts)
  assert found.values["diversity@5"] == beyond_accuracy.diversity(own.ids[:, :5], task.categories)


def test_seen_recommendations_are_counted(task, judged):
  own, histories = lists(1, 0.2).ids[:, :5], task.histories
  seen = sum(
    len(set(own[u]) & set(histories[1][histories[0][u] : histories[0][u + 1]])) for u in range(USERS)
  )
  assert judged["a"][0].facts["recommended although seen in training"] == seen > 0


def test_fairness_is_there_and_reasons_of_what_is_undefined(judged):
  found, reasons = judged["a"]
  assert 0 <= found.values["Jain_our"] <= 1
  assert "PUF-NDCG" in found.values
  undefined = {name for name, value in found.values.items() if np.isnan(value)}
  assert undefined == set(reasons)
  assert "IFD_div_ori" in undefined  # ranks outside of the lists are not known


def test_without_training_nothing_is_made_up(task):
  bare = task._replace(histories=None, train_counts=None, categories=None)
  found, _ = comparison.judge(bare, lists(1, 0.2), (5,))
  assert not [n for n in found.values if n.startswith(("popularity", "novelty", "diversity", "PUF"))]


def test_pairwise_tests_and_their_correction(judged):
  evaluations = {name: e for name, (e, _) in judged.items()}
  rows = comparison.pairwise(evaluations, ("ndcg@5", "hr@3"))
  assert [(r["metric"], r["system"], r["other"]) for r in rows[:3]] == [
    ("ndcg@5", "a", "b"), ("ndcg@5", "a", "c"), ("ndcg@5", "b", "c"),
  ]
  difference = evaluations["a"].per_case["ndcg@5"] - evaluations["b"].per_case["ndcg@5"]
  assert rows[0]["difference"] == pytest.approx(difference.mean())
  assert rows[0]["t_p"] == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
  low, high = rows[0]["bootstrap_95"]
  assert low < rows[0]["difference"] < high
  p = np.array([r["t_p"] for r in rows[:3]])
  assert rows[int(p.argmin())]["t_p_holm"] == pytest.approx(min(1, 3 * p.min()))


def test_groups_add_up_to_everybody(task, judged):
  evaluations = {"a": judged["a"][0]}
  (empty, women) = comparison.by_group(evaluations, task.groups, ("hr@5",))["gender"]
  assert (empty["value"], empty["users"], women["value"], women["users"]) == ("", 20, "F", 40)
  means = [group["systems"]["a"]["hr@5"]["mean"] for group in (empty, women)]
  assert (means[0] * 20 + means[1] * 40) / 60 == pytest.approx(evaluations["a"].values["hr@5"])
  values = evaluations["a"].per_case["hr@5"][task.groups["gender"] == "F"]
  assert women["systems"]["a"]["hr@5"]["error"] == pytest.approx(stats.sem(values))


def test_lists_of_another_depth_are_refused(task):
  with pytest.raises(ConfigError, match="6 deep"):
    comparison.judge(task, Lists(np.ones((USERS, 4), int), np.ones((USERS, 4)), {}), (5,))
