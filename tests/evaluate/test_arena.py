"""Intervals, ranks, pairs and boards: worked numbers, loops as twins, what must not change them."""

import arenas
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from recjax.errors import ConfigError, DataError
from recjax.evaluate import arena, arena_intervals, board_report, votes
from recjax.evaluate import bradley_terry as bt


def errors(covariance):
  return np.sqrt(np.diag(covariance))


def apart(covariance, i, j):
  return np.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])


def test_worked_errors():
  fit = bt.fit(arenas.table(arenas.WINS))
  model = arena_intervals.covariance(fit, "model")
  np.testing.assert_allclose(errors(model), [0.250125, 0.225611, 0.233755, 0.254934], atol=1e-6)
  assert apart(model, 0, 3) == pytest.approx(0.429371, abs=1e-6)
  sandwich = arena_intervals.covariance(fit)
  np.testing.assert_allclose(errors(sandwich), [0.254301, 0.223273, 0.230294, 0.260532], atol=1e-6)
  assert bt.ELO * apart(sandwich, 0, 3) == pytest.approx(76.437069, abs=1e-4)
  two = bt.fit(arenas.table([[0, 30], [10, 0]]))
  assert apart(arena_intervals.covariance(two, "model"), 0, 1) == pytest.approx(0.3651484, abs=1e-7)


def test_worked_bootstrap():
  fit = bt.fit(arenas.table(arenas.WINS))
  drawn = arena_intervals.bootstrap(fit, rounds=400)
  assert drawn.undefined == 0 and drawn.parameters.shape == (400, 4)
  np.testing.assert_allclose(drawn.parameters.std(axis=0), [0.277, 0.233, 0.236, 0.272], atol=0.03)
  same = arena_intervals.bootstrap(fit, rounds=400)
  np.testing.assert_array_equal(drawn.parameters, same.parameters)
  other = arena_intervals.bootstrap(fit, rounds=400, seed=1)
  assert not np.array_equal(drawn.parameters, other.parameters)


def test_worked_clusters():
  """Ten users cast four equal votes each: by user the error is twice as large."""
  won = np.repeat([1.0] * 8 + [0.0] * 2, 4)
  cast = votes.make(
    ["p", "q"], np.zeros(40, int), np.ones(40, int), won, cluster=np.repeat(np.arange(10), 4)
  )
  fit = bt.fit(cast)
  assert fit.strength[0] - fit.strength[1] == pytest.approx(1.3862944)
  assert apart(arena_intervals.covariance(fit), 0, 1) == pytest.approx(0.3952847)
  by_user = arena_intervals.covariance(fit, "cluster", small_sample=False)
  assert apart(by_user, 0, 1) == pytest.approx(0.7905694)
  corrected = arena_intervals.covariance(fit, "cluster")
  np.testing.assert_allclose(corrected, by_user * 10 / 9)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["sandwich", "cluster"])
def test_sandwich_is_the_definition(kind, ridge):
  """Scores vote by vote in a dense design, and a pseudo-inverse for the free constant."""
  cast = arenas.random(6, covariates=2, users=40)
  cast = cast._replace(weight=np.random.default_rng(0).uniform(0.5, 2, len(cast.y)))
  fit = bt.fit(cast, ridge=ridge, covariate_ridge=ridge)
  meat, bread = np.zeros((7, 7)), np.zeros((7, 7))
  by_user = {}
  for v in range(len(cast.y)):
    z = np.zeros(7)
    z[cast.a[v]], z[cast.b[v]], z[5:] = 1, -1, cast.x[v]
    p = special.expit(z @ fit.parameters)
    bread += cast.weight[v] * p * (1 - p) * np.outer(z, z)
    score = cast.weight[v] * (cast.y[v] - p) * z
    meat += np.outer(score, score)
    by_user[cast.cluster[v]] = by_user.get(cast.cluster[v], 0) + score
  if kind == "cluster":
    scores = np.stack(list(by_user.values()))
    meat = scores.T @ scores * len(scores) / (len(scores) - 1)
  inverse = np.linalg.pinv(bread + ridge * np.eye(7), rcond=1e-10)
  np.testing.assert_allclose(
    arena_intervals.covariance(fit, kind), inverse @ meat @ inverse, atol=1e-10
  )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_twice_the_votes_are_surer_by_the_root_of_two(seed):
  cast = arenas.random(seed, users=30)
  twice = lambda column: np.concatenate([column, column])
  double = votes.make(cast.models, twice(cast.a), twice(cast.b), twice(cast.y))
  for kind in ("model", "sandwich"):
    np.testing.assert_allclose(
      errors(arena_intervals.covariance(bt.fit(cast), kind)),
      np.sqrt(2) * errors(arena_intervals.covariance(bt.fit(double), kind)), rtol=1e-9,
    )
  # Told by user, the same votes once more say nothing new.
  again = double._replace(cluster=twice(cast.cluster))
  np.testing.assert_allclose(
    errors(arena_intervals.covariance(bt.fit(cast), "cluster")),
    errors(arena_intervals.covariance(bt.fit(again), "cluster")), rtol=1e-9,
  )


def test_bootstraps_agree_with_sandwiches():
  cast = arenas.random(8, count=1500, covariates=1, users=200)
  fit = bt.fit(cast)
  for by, kind in (("vote", "sandwich"), ("cluster", "cluster")):
    drawn = arena_intervals.bootstrap(fit, rounds=300, by=by)
    np.testing.assert_allclose(
      drawn.parameters.std(axis=0), errors(arena_intervals.covariance(fit, kind)), rtol=0.15
    )
  plain = bt.fit(arenas.random(8, count=1500))
  drawn = arena_intervals.bootstrap(plain, rounds=300)
  np.testing.assert_allclose(
    drawn.parameters.std(axis=0), errors(arena_intervals.covariance(plain)), rtol=0.15
  )


def test_bootstrap_in_parts_is_the_same(monkeypatch):
  fit = bt.fit(arenas.random(8))
  whole = arena_intervals.bootstrap(fit, rounds=50)
  monkeypatch.setattr(arena_intervals, "CHUNK", 200)
  np.testing.assert_allclose(
    whole.parameters, arena_intervals.bootstrap(fit, rounds=50).parameters, atol=1e-8
  )


def test_resamples_without_a_maximum():
  """The weakest won once: a third of all resamples lack that vote."""
  wins = np.array([[0, 9, 20], [8, 0, 20], [1, 0, 0]])
  fit = bt.fit(arenas.table(wins))
  with pytest.raises(DataError, match=r"of 200 resamples have no finite strengths: some of 'm2'"):
    arena_intervals.bootstrap(fit, rounds=200)
  ridge = bt.fit(arenas.table(wins), ridge=1.0)
  assert arena_intervals.bootstrap(ridge, rounds=200).undefined == 0


def test_a_model_that_a_resample_lacks_keeps_its_strength():
  wins = np.array([[0, 30, 1], [30, 0, 0], [0, 0, 0]])
  fit = bt.fit(arenas.table(wins), ridge=1.0)
  drawn = arena_intervals.bootstrap(fit, rounds=200)
  kept = np.isclose(drawn.parameters[:, 2], fit.strength[2], atol=1e-12)
  assert 0.2 < kept.mean() < 0.6  # a vote of 61 is missed with probability 1 / e


def test_worked_ranks():
  np.testing.assert_array_equal(
    arena_intervals.ranks([1080, 1030, 1015, 880], [1120, 1075, 1062, 925]), [1, 2, 2, 4]
  )


def test_pairs_and_rank_ranges_by_loops():
  cast = arenas.random(11, count=800)
  fit = bt.fit(cast)
  covariance = arena_intervals.covariance(fit)
  pairs = arena_intervals.pairs(fit, covariance)
  better = np.zeros((5, 5), bool)
  for i, j, difference, error, p, holm in zip(*pairs, strict=True):
    z = (fit.strength[i] - fit.strength[j]) / apart(covariance, i, j)
    assert difference / error == pytest.approx(z)
    assert p == pytest.approx(2 * stats.norm.cdf(-abs(z)))
    assert holm >= p
    better[(i, j) if difference > 0 else (j, i)] = holm <= 0.05
  best, worst = arena_intervals.rank_ranges(pairs, 5)
  assert better.any()
  for i in range(5):
    assert best[i] == 1 + sum(better[j, i] for j in range(5))
    assert worst[i] == 5 - sum(better[i, j] for j in range(5))


def test_anchor_and_mean():
  cast = arenas.random(12)
  mean, anchored = arena.leaderboard(cast), arena.leaderboard(cast, anchor="m2")
  assert mean.rating.mean() == pytest.approx(1000, abs=1e-9)
  assert anchored.rating[2] == pytest.approx(1000, abs=1e-9)
  shift = mean.rating - anchored.rating
  np.testing.assert_allclose(shift, shift[0])
  np.testing.assert_allclose(mean.low - anchored.low, shift[0])
  assert anchored.low[2] < 1000 < anchored.high[2]  # the anchor has an interval, too
  np.testing.assert_array_equal(mean.rank, anchored.rank)
  np.testing.assert_allclose(
    mean.expected_win_rate,
    [np.mean([special.expit((r - s) / bt.ELO) for s in np.delete(mean.rating, i)])
     for i, r in enumerate(mean.rating)],
  )


def test_win_rates_count_every_opponent_the_same():
  wins = np.array([[0, 8, 1], [2, 0, 5], [3, 5, 0]])
  board = arena.leaderboard(arenas.table(wins, np.array([[0, 9, 0], [9, 0, 0], [0, 0, 0]])))
  np.testing.assert_allclose(board.win_rate, [(0.8 + 0.25) / 2, (0.2 + 0.5) / 2, (0.75 + 0.5) / 2])
  np.testing.assert_array_equal(board.votes, [23, 29, 14])


@pytest.mark.parametrize("intervals", arena.INTERVALS)
def test_every_kind_of_interval_makes_a_board(intervals):
  cast = arenas.random(13, covariates=1, users=60)
  cast = cast._replace(x=np.hstack([cast.x * 3, np.zeros((300, 1))]), covariates=("length", "flat"))
  board = arena.leaderboard(cast, intervals=intervals, rounds=60)
  assert (board.low < board.rating).all() and (board.rating < board.high).all()
  assert board.constant == ("flat",) and board.fit.votes.covariates == ("length",)
  assert board.coefficient_low[0] < board.fit.coefficients[0] < board.coefficient_high[0]
  assert board.condition >= 1
  np.testing.assert_allclose(board.inflation, 1.0)
  report = board_report.as_json(board, np.zeros(5))
  ratings = [row["rating"] for row in report["models"]]
  assert ratings == sorted(ratings, reverse=True)


def test_wider_confidence_is_wider():
  cast = arenas.random(14)
  narrow, wide = (arena.leaderboard(cast, confidence=c) for c in (0.8, 0.99))
  assert (wide.high - wide.low > 1.5 * (narrow.high - narrow.low)).all()


def test_search_arenas_penalty():
  """A quarter of the squared norm of ratings in units of ln 10, and of coefficients."""
  cast = arenas.random(15, covariates=1)
  ours = bt.fit(cast, ridge=arena.SEARCH_RIDGE[0], covariate_ridge=arena.SEARCH_RIDGE[1])

  def value(parameters):
    r, beta = parameters[:5], parameters[5:]
    e = np.log(10) * (r[cast.a] - r[cast.b]) + cast.x @ beta
    return (np.logaddexp(0, e) - cast.y * e).sum() + (parameters @ parameters) / 4

  there = np.append(ours.strength / np.log(10), ours.coefficients)
  for unit in np.eye(6):
    slope = (value(there + 1e-5 * unit) - value(there - 1e-5 * unit)) / 2e-5
    assert slope == pytest.approx(0, abs=1e-5)


def test_mistakes():
  cast = arenas.random(0)
  with pytest.raises(ConfigError, match="Did you mean 'sandwich'"):
    arena.leaderboard(cast, intervals="sandwhich")
  with pytest.raises(DataError, match="Unknown anchor 'm9'"):
    arena.leaderboard(cast, anchor="m9")
  with pytest.raises(ConfigError, match="confidence must be between 0 and 1"):
    arena.leaderboard(cast, confidence=95.0)
  with pytest.raises(ConfigError, match="who voted"):
    arena.leaderboard(cast, intervals="cluster")
  with pytest.raises(ConfigError, match="who voted"):
    arena.leaderboard(cast, intervals="bootstrap", by="cluster")
  with pytest.raises(ConfigError, match="Unknown unit of the bootstrap 'user'"):
    arena_intervals.bootstrap(bt.fit(cast), by="user")
  with pytest.raises(DataError, match="single user"):
    arena.leaderboard(cast._replace(cluster=np.zeros(300, int)), intervals="cluster")
