"""Paired tests against the sheet's vectors, SciPy and their nominal size."""

import numpy as np
import pytest
from scipy import stats

from recjax.errors import ConfigError, DataError
from recjax.evaluate import significance

P_VALUES = np.array([0.001, 0.012, 0.013, 0.04, 0.2])


def test_corrections_on_the_worked_vector():
  np.testing.assert_allclose(significance.holm(P_VALUES), [0.005, 0.048, 0.048, 0.08, 0.2])
  np.testing.assert_allclose(
    significance.benjamini_hochberg(P_VALUES), [0.005, 0.0216667, 0.0216667, 0.05, 0.2], atol=1e-7
  )
  np.testing.assert_allclose(significance.bonferroni(P_VALUES), [0.005, 0.06, 0.065, 0.2, 1])


def test_corrections_keep_the_order_of_the_tests():
  order = np.array([3, 0, 4, 1, 2])
  for correct in (significance.holm, significance.benjamini_hochberg, significance.bonferroni):
    np.testing.assert_allclose(correct(P_VALUES[order]), correct(P_VALUES)[order])
  shuffled = np.random.default_rng(0).random(30)
  np.testing.assert_allclose(
    significance.benjamini_hochberg(shuffled), stats.false_discovery_control(shuffled)
  )


def test_differences_pair_users_by_id():
  out = significance.paired_differences([3, 1, 2], [0.3, 0.1, 0.2], [1, 2, 3], [0.0, 0.1, 0.1])
  np.testing.assert_allclose(out, [0.1, 0.1, 0.2])
  # Two cases of a user are one observation.
  out = significance.paired_differences([1, 1, 2], [1.0, 0.0, 1.0], [1, 2, 1], [0.0, 1.0, 0.0])
  np.testing.assert_allclose(out, [0.5, 0.0])
  with pytest.raises(DataError, match="same users"):
    significance.paired_differences([1, 2], [0, 0], [1, 3], [0, 0])
  with pytest.raises(DataError, match="same users"):
    significance.paired_differences([1, 2, 2], [0, 0, 0], [1, 1, 2], [0, 0, 0])


def test_tests_agree_with_scipy():
  rng = np.random.default_rng(0)
  a, b = rng.normal(0.2, 1, 60), rng.normal(0, 1, 60)
  t = significance.paired_t(a - b)
  assert t == pytest.approx(tuple(stats.ttest_rel(a, b)))
  rank = significance.wilcoxon(a - b)
  assert rank == pytest.approx(tuple(stats.wilcoxon(a, b)))


def test_degenerate_differences():
  assert significance.paired_t(np.zeros(5)) == (0.0, 1.0)
  assert significance.wilcoxon(np.zeros(5)) == (0.0, 1.0)
  assert significance.paired_t(np.full(5, -0.25)) == (-np.inf, 0.0)
  assert significance.paired_bootstrap(np.full(5, 0.25)) == pytest.approx((0.25, 0.25, 0.25))
  with pytest.raises(DataError, match="two differences"):
    significance.paired_t(np.zeros(1))
  with pytest.raises(DataError, match="NaN"):
    significance.wilcoxon(np.array([0.1, np.nan]))


def test_bootstrap_agrees_with_scipy_and_the_normal_interval():
  differences = np.random.default_rng(1).normal(0.1, 1, 400)
  ours = significance.paired_bootstrap(differences)
  theirs = stats.bootstrap(
    (differences,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
  ).confidence_interval
  assert ours.mean == pytest.approx(differences.mean())
  assert ours[1:] == pytest.approx((theirs.low, theirs.high), abs=0.005)
  error = differences.std() / 20
  assert ours[1:] == pytest.approx((ours.mean - 1.96 * error, ours.mean + 1.96 * error), abs=0.005)


def test_bootstrap_is_a_function_of_its_seed(monkeypatch):
  differences = np.random.default_rng(1).integers(-1, 2, 300)
  first = significance.paired_bootstrap(differences, seed=3)
  assert first == significance.paired_bootstrap(differences, seed=3)
  assert first != significance.paired_bootstrap(differences, seed=4)
  monkeypatch.setattr(significance, "CHUNK", 100)
  assert first == significance.paired_bootstrap(differences, seed=3)
  with pytest.raises(ConfigError, match="confidence"):
    significance.paired_bootstrap(differences, confidence=95)


def test_tests_have_their_nominal_size():
  rng = np.random.default_rng(0)
  rounds = 400
  samples = rng.choice([-1.0, 0.0, 0.0, 1.0], (rounds, 120))
  intervals = [significance.paired_bootstrap(s, draws=400) for s in samples]
  rejected = {
    "bootstrap": np.mean([not (i.low <= 0 <= i.high) for i in intervals]),
    "t": np.mean([significance.paired_t(s).p_value < 0.05 for s in samples]),
    "wilcoxon": np.mean([significance.wilcoxon(s).p_value < 0.05 for s in samples]),
  }
  # Three standard errors of a share of 0.05 in 400 rounds.
  for name, share in rejected.items():
    assert 0.015 <= share <= 0.085, (name, share)


def test_seeds():
  a = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
  b = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
  summary = significance.summarise_seeds(a)
  assert summary.mean == pytest.approx(5 / 6)
  assert summary.std == pytest.approx(np.std([2 / 3, 1], ddof=1))
  np.testing.assert_allclose(summary.per_seed, [2 / 3, 1])
  np.testing.assert_allclose(summary.per_user, [1, 0.5, 1])
  compared = significance.compare_seeds(a, b, draws=200)
  assert compared.mean == pytest.approx(0.5)
  assert compared.over_seeds == pytest.approx(tuple(stats.ttest_rel([2 / 3, 1], [1 / 3, 1 / 3])))
  assert compared.over_users == significance.paired_bootstrap(np.full(3, 0.5), draws=200)
  with pytest.raises(DataError, match="two seeds"):
    significance.summarise_seeds(a[:1])
  with pytest.raises(DataError, match="pair up"):
    significance.compare_seeds(a, b[:, :2])
