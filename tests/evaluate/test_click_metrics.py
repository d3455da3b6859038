"""Click metrics against hand-worked numbers, a naive twin and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from recjax.errors import ConfigError, DataError
from recjax.evaluate import click

USERS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
LABELS = np.array([1, 0, 0, 1, 0, 1, 0, 1, 1])
SCORES = np.array([0.9, 0.8, 0.3, 0.4, 0.2, 0.6, 0.7, 0.5, 0.1])
TIED = np.array([0.9, 0.8, 0.3, 0.4, 0.2, 0.6, 0.6, 0.5, 0.1])


def test_worked_case():
  assert click.auc(LABELS, SCORES) == pytest.approx(0.5)
  grouped = click.grouped_auc(USERS, LABELS, SCORES)
  np.testing.assert_array_equal(grouped.group, [0, 1])
  np.testing.assert_allclose(grouped.auc, [0.75, 0.5])
  np.testing.assert_array_equal(grouped.rows, [4, 3])
  assert grouped.dropped == 1
  assert grouped.gauc == pytest.approx(0.642857, abs=1e-6)
  assert grouped.avg_auc == pytest.approx(0.625)
  assert click.logloss(LABELS, logit(SCORES)) == pytest.approx(0.880160, abs=1e-6)


def test_worked_case_with_a_tie():
  assert click.auc(LABELS, TIED) == pytest.approx(0.525)
  np.testing.assert_allclose(click.grouped_auc(USERS, LABELS, TIED).auc, [0.75, 0.75])
  np.testing.assert_allclose(click.grouped_auc(USERS, LABELS, TIED, "wrong").auc, [0.75, 0.5])


def test_other_worked_numbers():
  scores = [0.9, 0.4, 0.4, 0.1, 0.8, 0.7]
  assert click.auc([1, 1, 0, 0, 1, 0], scores) == pytest.approx(0.8333333, abs=1e-7)
  assert click.relative_improvement(0.8818, 0.8624) == pytest.approx(5.353201, abs=1e-6)
  assert click.relative_improvement(0.8871, 0.8624) == pytest.approx(6.815673, abs=1e-6)
  assert click.relative_improvement(0.6083, 0.5970) == pytest.approx(11.649485, abs=1e-6)


def test_gauc_weighs_groups_by_their_rows():
  # 25 pairs of which 20 are right, and 225 of which 135 are.
  first = ([1] * 5 + [0] * 5, [5] * 4 + [0] + [1] * 5)
  second = ([1] * 15 + [0] * 15, [5] * 9 + [0] * 6 + [1] * 15)
  labels, scores = np.array(first[0] + second[0]), np.array(first[1] + second[1])
  grouped = click.grouped_auc(np.repeat([7, 3], [10, 30]), labels, scores)
  np.testing.assert_allclose(grouped.auc, [0.6, 0.8])
  assert grouped.gauc == pytest.approx(0.65)


def test_a_missing_class_is_not_a_number():
  assert math.isnan(click.auc([1, 1], [0.1, 0.2]))
  grouped = click.grouped_auc(np.array([1, 2]), np.array([1, 0]), np.array([0.1, 0.2]))
  assert math.isnan(grouped.gauc) and math.isnan(grouped.avg_auc) and grouped.dropped == 2
  assert math.isnan(click.calibration_ratio([0, 0], [0.1, 0.2]))


def test_against_scikit_learn_with_ties_and_weights():
  rng = np.random.default_rng(0)
  labels, scores = rng.integers(0, 2, 500), rng.integers(0, 20, 500) / 20
  weights = rng.random(500)
  assert click.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
  reference = roc_auc_score(labels, scores, sample_weight=weights)
  assert click.auc(labels, scores, weights) == pytest.approx(reference)
  groups = rng.integers(0, 30, 500)
  grouped = click.grouped_auc(groups, labels, scores)
  for group, value in zip(grouped.group, grouped.auc, strict=True):
    inside = groups == group
    assert value == pytest.approx(roc_auc_score(labels[inside], scores[inside]))


def naive_group(labels, scores, ties):
  pairs = [
    1.0 if p > n else (ties if p == n else 0.0)
    for p, y in zip(scores, labels, strict=True)
    if y
    for n, z in zip(scores, labels, strict=True)
    if not z
  ]
  return sum(pairs) / len(pairs) if pairs else None


@settings(max_examples=150, deadline=None)
@given(
  rows=st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.sampled_from([-1.0, 0.0, 2.0, math.inf])),
    min_size=1,
    max_size=30,
  ),
  ties=st.sampled_from(["half", "wrong"]),
)
def test_grouped_auc_equals_the_naive_twin(rows, ties):
  groups, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
  grouped = click.grouped_auc(groups, labels, scores, ties)
  expected = {
    g: naive_group(labels[groups == g], scores[groups == g], click.TIES[ties])
    for g in sorted(set(groups))
  }
  kept = {g: value for g, value in expected.items() if value is not None}
  assert list(grouped.group) == list(kept)
  np.testing.assert_allclose(grouped.auc, list(kept.values()))
  assert grouped.dropped == len(expected) - len(kept)


def test_order_of_rows_does_not_matter():
  order = np.random.default_rng(0).permutation(len(USERS))
  again = click.grouped_auc(USERS[order], LABELS[order], TIED[order])
  assert again.gauc == click.grouped_auc(USERS, LABELS, TIED).gauc


def test_logloss_is_clipped():
  assert click.logloss([1], [-1000.0]) == pytest.approx(-math.log(1e-7))
  assert click.logloss([0], [1000.0]) == pytest.approx(-math.log(1e-7))
  assert click.logloss([0, 1], [0.0, 0.0]) == pytest.approx(math.log(2))
  assert click.logloss([0, 1], [0.0, 50.0], np.array([1, 0])) == pytest.approx(math.log(2))


def test_calibration():
  labels, probability = np.array([0, 1, 1, 0]), np.array([0.1, 0.7, 0.72, 0.15])
  assert click.calibration_ratio(labels, probability) == pytest.approx(1.67 / 2)
  # Bins: {.1, .15} mean .125 against 0, {.7, .72} mean .71 against 1; both hold half of the rows.
  assert click.calibration_error(labels, probability) == pytest.approx((0.125 + 0.29) / 2)
  assert click.calibration_error([1, 0], [1.0, 0.0]) == 0


def test_negative_sampling_is_undone():
  assert click.undo_negative_sampling(0.5, 0.1) == pytest.approx(1 / 11)
  assert click.undo_negative_sampling(0.3, 1.0) == pytest.approx(0.3)
  logits = np.linspace(-3, 3, 7)
  probability = click.undo_negative_sampling(1 / (1 + np.exp(-logits)), 0.2)
  np.testing.assert_allclose(logit(probability), logits + np.log(0.2))
  with pytest.raises(ConfigError, match=r"\(0, 1\]"):
    click.undo_negative_sampling(0.5, 0.0)


def test_histogram_is_near_the_exact_auc_and_adds_up():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, 20_000)
  logits = rng.normal(labels, 2)
  logits[:3] = [-40, 40, 0]
  whole = click.count_logits(labels, logits)
  parts = click.empty_histogram()
  for start in range(0, 20_000, 3000):
    part = slice(start, start + 3000)
    parts = click.merge_histograms(parts, click.count_logits(labels[part], logits[part]))
  np.testing.assert_array_equal(whole.positive, parts.positive)
  np.testing.assert_array_equal(whole.negative, parts.negative)
  value, tied = click.histogram_auc(whole)
  assert 0 < tied < 1e-3
  assert abs(value - click.auc(labels, logits)) <= tied / 2
  assert all(map(math.isnan, click.histogram_auc(click.empty_histogram())))


def test_histogram_of_a_constant_is_all_ties():
  assert click.histogram_auc(click.count_logits([0, 1, 1], [0.3, 0.3, 0.3])) == (0.5, 1.0)


def test_errors():
  with pytest.raises(DataError, match="NaN"):
    click.auc([0, 1], [0.0, np.nan])
  with pytest.raises(DataError, match="0 or 1"):
    click.auc([0, 2], [0.0, 1.0])
  with pytest.raises(DataError, match="equally long"):
    click.auc([0, 1], [0.0])
  with pytest.raises(ConfigError, match="Known"):
    click.grouped_auc(USERS, LABELS, SCORES, "right")
