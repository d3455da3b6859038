"""Agreement: worked numbers, definitions by loops, scikit-learn, limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from recjax.errors import ConfigError, DataError
from recjax.evaluate import agreement, judges

FLEISS = np.array([
  [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
  [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
])
RATERS = np.array([
  [np.nan if mark == "." else float(mark) for mark in row.split()]
  for row in (
    "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .",
  )
])


def test_worked_cohen():
  assert agreement.cohen([[20, 5], [10, 15]]).value == pytest.approx(0.4)
  table = [[10, 3, 1], [2, 12, 4], [0, 3, 15]]
  for weights, value in (("none", 0.6055825), ("linear", 0.6735075), ("quadratic", 0.7448980)):
    assert agreement.cohen(table, weights).value == pytest.approx(value, abs=1e-7)
  paradox = [[90, 5], [5, 0]]
  assert agreement.cohen(paradox).value == pytest.approx(-0.0526316, abs=1e-7)
  assert agreement.gwet(paradox).value == pytest.approx(0.8895028, abs=1e-7)


def test_worked_fleiss():
  assert agreement.fleiss(FLEISS).value == pytest.approx(0.2099307, abs=1e-7)


@pytest.mark.parametrize(
  ("level", "value"),
  [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)],
)
def test_worked_krippendorff(level, value):
  assert agreement.krippendorff(RATERS, level).value == pytest.approx(value, abs=1e-6)


def test_worked_correlations():
  x, y = [1, 2, 2, 3, 4, 5, 5, 6], [2, 1, 2, 4, 3, 5, 6, 6]
  assert agreement.spearman(x, y).value == pytest.approx(0.9024390, abs=1e-7)
  assert agreement.kendall(x, y).value == pytest.approx(0.7692308, abs=1e-7)
  assert agreement.pearson(x, y).value == pytest.approx(0.9011289, abs=1e-7)


def krippendorff_by_loops(ratings, level):
  """Coincidences pair by pair."""
  units = [u[~np.isnan(u)] for u in ratings.T]
  units = [u for u in units if len(u) > 1]
  kinds = sorted({v for u in units for v in u})
  seen = {pair: 0.0 for pair in itertools.product(kinds, kinds)}
  for u in units:
    for i, j in itertools.permutations(range(len(u)), 2):
      seen[u[i], u[j]] += 1 / (len(u) - 1)
  n = {c: sum(seen[c, k] for k in kinds) for c in kinds}

  def apart(c, k):
    if level == "nominal":
      return float(c != k)
    if level == "interval":
      return (c - k) ** 2
    if level == "ratio":
      return ((c - k) / (c + k)) ** 2 if c != k else 0.0
    between = [g for g in kinds if min(c, k) <= g <= max(c, k)]
    return (sum(n[g] for g in between) - (n[c] + n[k]) / 2) ** 2

  observed = sum(seen[c, k] * apart(c, k) for c, k in seen)
  expected = sum(n[c] * n[k] * apart(c, k) for c, k in seen)
  return 1 - (sum(n.values()) - 1) * observed / expected


@given(seed=st.integers(0, 10**6), level=st.sampled_from(agreement.LEVELS))
@settings(max_examples=30, deadline=None)
def test_krippendorff_is_its_definition(seed, level):
  rng = np.random.default_rng(seed)
  ratings = rng.integers(0, 5, (3, 12)).astype(float)
  ratings[rng.random(ratings.shape) < 0.25] = np.nan
  ours = agreement.krippendorff(ratings, level)
  assert ours.value == pytest.approx(krippendorff_by_loops(ratings, level))
  order = rng.permutation(12)
  assert agreement.krippendorff(ratings[rng.permutation(3)][:, order], level).value == pytest.approx(
    ours.value
  )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_cohen_is_scikit_learns(seed):
  rng = np.random.default_rng(seed)
  one, two = rng.integers(0, 4, (2, 60))
  table = agreement.confusion(one, two, 4)
  for ours, theirs in (("none", None), ("linear", "linear"), ("quadratic", "quadratic")):
    assert agreement.cohen(table, ours).value == pytest.approx(
      metrics.cohen_kappa_score(one, two, weights=theirs)
    )
  # The second rater's name for the first one's categories does not matter, told of both.
  new = rng.permutation(4)
  assert agreement.cohen(agreement.confusion(new[one], new[two], 4)).value == pytest.approx(
    agreement.cohen(table).value
  )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_perfect_agreement_is_1(seed):
  marks = np.random.default_rng(seed).permutation(np.arange(30) % 3)
  table = agreement.confusion(marks, marks, 3)
  assert agreement.cohen(table).value == agreement.gwet(table).value == 1
  assert agreement.fleiss(4 * np.eye(3)[marks]).value == pytest.approx(1)
  for level in agreement.LEVELS:
    assert agreement.krippendorff(np.tile(marks.astype(float), (3, 1)), level).value == 1
  assert agreement.spearman(marks, marks).value == pytest.approx(1)
  assert agreement.kendall(marks, -marks).value == pytest.approx(-1)


def test_chance_agreement_is_0():
  table = np.outer([10, 20, 30], [2, 3, 5])
  for weights in agreement.WEIGHTS:
    assert agreement.cohen(table, weights).value == pytest.approx(0, abs=1e-12)
  ratings = np.random.default_rng(0).integers(0, 3, (5, 20_000)).astype(float)
  counts = np.stack([(ratings == k).sum(axis=0) for k in range(3)], axis=1)
  assert agreement.fleiss(counts).value == pytest.approx(0, abs=0.01)
  for level in agreement.LEVELS:
    assert agreement.krippendorff(ratings, level).value == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
  ("measured", "reason"),
  [
    (lambda: agreement.cohen([[9, 0], [0, 0]]), "both raters always gave the same one answer"),
    (lambda: agreement.cohen(np.zeros((2, 2))), "nobody judged anything"),
    (lambda: agreement.gwet([[3]]), "one category only"),
    (lambda: agreement.fleiss([[3, 0], [3, 0]]), "all raters always gave the same one answer"),
    (lambda: agreement.fleiss([[1, 0], [0, 1]]), "no item has two raters"),
    (lambda: agreement.krippendorff([[1, 1], [1, 1]]), "all ratings are the same"),
    (lambda: agreement.krippendorff([[1, np.nan], [np.nan, 1]]), "no unit has two ratings"),
    (lambda: agreement.spearman([1, 1], [1, 2]), "one side is constant"),
    (lambda: agreement.kendall([1], [2]), "fewer than two pairs"),
  ],
)
def test_what_is_undefined_is_nan_with_a_reason(measured, reason):
  found = measured()
  assert np.isnan(found.value) and reason in found.reason


@pytest.mark.parametrize(
  ("attempt", "message"),
  [
    (lambda: agreement.fleiss([[3, 0], [2, 0]]), "use Krippendorff's alpha"),
    (lambda: agreement.cohen([[1, -1], [0, 1]]), "counts are 0 or more"),
    (lambda: agreement.krippendorff([1.0, 2.0]), "raters by units"),
    (lambda: agreement.krippendorff([[-1.0, 2.0], [1, 2]], "ratio"), "ratio scale"),
    (lambda: agreement.confusion([0, 1], [0], 2), "same items"),
    (lambda: agreement.confusion([0, 2], [0, 1], 2), "from 0 to 1"),
    (lambda: agreement.spearman([1, np.nan], [1, 2]), "NaN or infinite"),
  ],
)
def test_bad_ratings(attempt, message):
  with pytest.raises(DataError, match=message):
    attempt()


def test_unknown_names():
  with pytest.raises(ConfigError, match="Did you mean 'ordinal'"):
    agreement.krippendorff(RATERS, "ordinl")
  with pytest.raises(ConfigError, match="Unknown weighting"):
    agreement.cohen([[1, 1], [1, 1]], "cubic")


def test_wilson():
  assert agreement.wilson(155, 206) == pytest.approx((0.6892, 0.8064), abs=5e-5)
  theirs = stats.binomtest(31, 47).proportion_ci(method="wilson")
  assert agreement.wilson(31, 47) == pytest.approx((theirs.low, theirs.high))
  assert np.isnan(agreement.wilson(0, 0)).all()


def test_worked_pointwise_judge():
  found = judges.numbers(judges.pointwise_table([[23, 35], [16, 132]]))
  for name, value in {
    "n": 206, "accuracy": 0.7524272, "kappa": 0.3203519, "balanced_accuracy": 0.6442218,
    "sensitivity": 0.8918919, "specificity": 0.3965517, "f1": 0.8380952, "mcc": 0.3311427,
    "constant_accuracy": 0.7184466,
  }.items():
    assert found[name] == pytest.approx(value, abs=1e-7), name
  assert found["accuracy_95"] == pytest.approx((0.6892, 0.8064), abs=5e-5)
  always = judges.numbers(judges.pointwise_table([[0, 58], [0, 148]]))
  assert always["accuracy"] == pytest.approx(0.7184466, abs=1e-7)
  assert always["balanced_accuracy"] == 0.5 and always["kappa"] == 0


def test_worked_pairwise_judge():
  found = judges.numbers(judges.pairwise_table([[20, 4, 0], [4, 10, 0], [7, 1, 1]]))
  assert found["match"] == pytest.approx(31 / 47) and found["n"] == 47
  assert found["kappa"] == pytest.approx(0.3964687, abs=1e-7)
  assert found["match_95"] == pytest.approx((0.5167, 0.7783), abs=5e-5)
  assert found["strict_match"] == pytest.approx(0.7894737, abs=1e-7) and found["strict_n"] == 38
  assert found["strict_kappa"] == pytest.approx(0.5476190, abs=1e-7)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_auc_of_hard_answers_is_balanced_accuracy(seed):
  rng = np.random.default_rng(seed)
  human, judge = np.append(rng.integers(0, 2, (2, 40)), [[0, 1], [1, 0]], axis=1)
  found = judges.pointwise(human, judge)
  assert found["balanced_accuracy"].value == pytest.approx(metrics.roc_auc_score(human, judge))
  assert found["mcc"].value == pytest.approx(metrics.matthews_corrcoef(human, judge))
  assert found["f1"].value == pytest.approx(metrics.f1_score(human, judge))


def test_unreadable_answers_are_left_out_and_counted():
  human, judge = np.array([1, 0, 1, 0]), np.array([1, 0, -1, -1])
  found = judges.pointwise(human, judge)
  assert found["unreadable"] == 2 and found["n"] == 2 and found["accuracy"].value == 1
  empty = judges.pairwise(np.array([0]), np.array([-1]))
  assert np.isnan(empty["match"].value) and empty["match"].reason == "nothing was judged"
  with pytest.raises(DataError, match="questions"):
    judges.pointwise(human, judge[:2])


def test_strong_misalignment():
  bad = np.array([True, True, True, False])
  assert judges.strong_misalignment_recall(bad, np.zeros(4)).value == 1
  assert judges.strong_misalignment_recall(bad, np.ones(4)).value == 0
  assert judges.strong_misalignment_recall(bad, np.array([0, 1, -1, 0])).value == 0.5
  assert "rejected nothing" in judges.strong_misalignment_recall(~bad[:1], np.ones(1)).reason


def test_swapping_the_lists_changes_nothing():
  rng = np.random.default_rng(0)
  human, judge = rng.integers(0, 3, (2, 200))
  swapped = rng.random(200) < 0.5
  plain = judges.pairwise(human, judge)
  other = judges.pairwise(judges.unshuffled(human, swapped), judges.unshuffled(judge, swapped))
  assert plain["match"] == other["match"]
  np.testing.assert_array_equal(
    judges.unshuffled(judges.unshuffled(judge, swapped), swapped), judge
  )


def test_a_judge_that_always_says_first():
  swapped = np.random.default_rng(0).random(4000) < 0.5
  verdict = judges.unshuffled(np.zeros(4000, int), swapped)
  assert (verdict == judges.FIRST).mean() == pytest.approx(0.5, abs=0.03)
  bias = judges.position_bias(np.zeros(10, int), np.zeros(10, int))
  assert bias["consistency"].value == 0 and bias["first_preference"].value == 1
  fair = judges.position_bias(np.array([0, 1, 2, -1]), np.array([1, 0, 2, 0]))
  assert fair["consistency"].value == 1 and fair["first_preference"].value == 0


def test_real_raters(data_dir):
  """PandaLM's three annotators."""
  from recjax.evaluate.trials import judged_pairs

  if not judged_pairs.available():
    pytest.skip("the annotations are not there")
  _, labels = judged_pairs.read()
  kappas = [
    agreement.cohen(agreement.confusion(labels[i], labels[j], 3)).value
    for i, j in itertools.combinations(range(3), 2)
  ]
  np.testing.assert_allclose(sorted(kappas), sorted([0.852023, 0.878944, 0.861661]), atol=1e-6)
  counts = np.stack([(labels == k).sum(axis=0) for k in range(3)], axis=1)
  assert agreement.fleiss(counts).value == pytest.approx(0.8641754, abs=1e-7)
  assert agreement.krippendorff(labels.astype(float)).value == pytest.approx(0.8642207, abs=1e-7)
