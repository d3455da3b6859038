"""A leaderboard from votes: ratings with intervals, ranks, win rates, effects of style, pairs.

Follows Search Arena (Miroyan et al., ICLR 2026, arXiv 2506.05334) and Music Arena (Kim et al., NeurIPS
2025, arXiv 2507.20900) and the code of both; the parts are in `bradley_terry` and `arena_intervals`:

    rating_i = center + 400 / ln 10 (theta_i - mean theta)        or anchored: one model has `center`
    rank_i = 1 + #{j: low_j > high_i}                             (Search Arena)

Where we depart: by default the rating is the estimate, not a bootstrap mean, and intervals are sandwich
ones, since the model-based ones are wrong for ties and cost no less; covariates are scaled but not
centred, so that swapping the sides of a vote changes nothing; a covariate that never varies is left
out and named. Search Arena's penalty is on ratings in its own unit, r = theta / ln 10; `SEARCH_RIDGE`
says it in ours.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from recjax.errors import ConfigError, DataError
from recjax.evaluate import arena_intervals
from recjax.evaluate import bradley_terry as bt
from recjax.evaluate import votes as vote_arrays
from recjax.evaluate.votes import Votes
from recjax.registry import unknown

# (of strengths, of coefficients): a quarter of the squared norm of r and of beta.
SEARCH_RIDGE = (0.5 / np.log(10) ** 2, 0.5)
INTERVALS = (*arena_intervals.KINDS, "bootstrap", "bootstrap_deviation")


class Board(NamedTuple):
  """A leaderboard; arrays are in the order of `fit.votes.models`.

  Attributes:
    fit: strengths and coefficients in log-odds.
    covariance: [M + F, M + F] of the parameters.
    rating, low, high: [M] points, with the interval.
    rank: [M] from the intervals.
    best_rank, worst_rank: [M] ranks that the significant pairs leave open.
    win_rate: [M] share of wins against the other models, ties apart, each opponent counting the same;
      NaN where a model met no other without a tie.
    expected_win_rate: [M] what the strengths say of that, at equal style.
    votes: [M] how many a model took part in.
    coefficient_low, coefficient_high: [F] intervals of the coefficients.
    pairs: every pair compared.
    undefined: resamples that were left out of a bootstrap.
    constant: covariates that never vary and were left out.
    condition: condition number of the information, scaled to a unit diagonal, apart from the scale's
      free constant.
    inflation: [F] variance inflation factors of the covariates.
  """

  fit: bt.Fit
  covariance: np.ndarray
  rating: np.ndarray
  low: np.ndarray
  high: np.ndarray
  rank: np.ndarray
  best_rank: np.ndarray
  worst_rank: np.ndarray
  win_rate: np.ndarray
  expected_win_rate: np.ndarray
  votes: np.ndarray
  coefficient_low: np.ndarray
  coefficient_high: np.ndarray
  pairs: arena_intervals.Pairs
  undefined: int
  constant: tuple[str, ...]
  condition: float
  inflation: np.ndarray


def leaderboard(
  votes: Votes,
  *,
  intervals: str = "sandwich",
  by: str = "vote",
  rounds: int = 1000,
  seed: int = 0,
  confidence: float = 0.95,
  ridge: float = 0.0,
  covariate_ridge: float = 0.0,
  center_covariates: bool = False,
  anchor: str = "",
  center: float = 1000.0,
) -> Board:
  """The board of votes whose covariates are as measured: they are scaled here.

  Args:
    intervals: model | sandwich | cluster (normal, from that covariance) | bootstrap (percentiles) |
      bootstrap_deviation (estimate and deviation of the resamples, as Music Arena's code).
    by: what a bootstrap resamples, "vote" or "cluster".
    anchor: model whose rating is `center`; it shifts all ratings by the same number, so that the
      anchor keeps an interval, too. Without one, the mean is `center`.
  """
  if intervals not in INTERVALS:
    raise ConfigError(unknown("kind of interval", intervals, INTERVALS))
  if not 0 < confidence < 1:
    raise ConfigError(f"confidence must be between 0 and 1, got {confidence}.")
  if anchor and anchor not in votes.models:
    raise DataError(unknown("anchor", anchor, votes.models))
  styled = vote_arrays.style(votes.x, votes.covariates, center=center_covariates)
  votes = votes._replace(x=styled.x, covariates=styled.covariates)
  fit = bt.fit(votes, ridge=ridge, covariate_ridge=covariate_ridge)
  size, undefined = len(votes.models), 0
  if intervals in arena_intervals.KINDS:
    covariance = arena_intervals.covariance(fit, intervals)
  else:
    drawn = arena_intervals.bootstrap(fit, rounds=rounds, by=by, seed=seed)
    covariance, undefined = np.atleast_2d(np.cov(drawn.parameters.T)), drawn.undefined
  tail = (1 - confidence) / 2
  if intervals == "bootstrap":
    low, high = np.quantile(drawn.parameters, [tail, 1 - tail], axis=0)
  else:
    half = stats.norm.isf(tail) * np.sqrt(np.maximum(np.diag(covariance), 0))
    low, high = fit.parameters - half, fit.parameters + half
  at = fit.strength[votes.models.index(anchor)] if anchor else fit.strength.mean()
  points = lambda strength: center + bt.ELO * (strength - at)
  compared = arena_intervals.pairs(fit, covariance)
  best, worst = arena_intervals.rank_ranges(compared, size, 1 - confidence)
  chance = special.expit(fit.strength[:, None] - fit.strength[None, :])
  return Board(
    fit=fit,
    covariance=covariance,
    rating=points(fit.strength),
    low=points(low[:size]),
    high=points(high[:size]),
    rank=arena_intervals.ranks(low[:size], high[:size]),
    best_rank=best,
    worst_rank=worst,
    win_rate=win_rate(votes),
    expected_win_rate=(chance.sum(axis=1) - 0.5) / (size - 1),
    votes=np.bincount(votes.a, minlength=size) + np.bincount(votes.b, minlength=size),
    coefficient_low=low[size:],
    coefficient_high=high[size:],
    pairs=compared,
    undefined=undefined,
    constant=styled.constant,
    condition=condition(fit),
    inflation=vote_arrays.variance_inflation(styled.x),
  )


def win_rate(votes: Votes) -> np.ndarray:
  """[M] mean over the opponents met of the share of votes won, ties left out; NaN without any."""
  size = len(votes.models)
  won = np.zeros((size, size))
  clear = votes.y != 0.5
  winner = np.where(votes.y == 1, votes.a, votes.b)[clear]
  loser = np.where(votes.y == 1, votes.b, votes.a)[clear]
  np.add.at(won, (winner, loser), votes.weight[clear])
  met = won + won.T
  share = np.divide(won, met, out=np.zeros_like(won), where=met > 0)
  opponents = (met > 0).sum(axis=1)
  return np.where(opponents > 0, share.sum(axis=1) / np.maximum(opponents, 1), np.nan)


def condition(fit: bt.Fit) -> float:
  """Largest over smallest eigenvalue of the scaled information, its free constant left out."""
  scale = np.sqrt(np.diag(fit.information))
  values = np.linalg.eigvalsh(fit.information / np.outer(scale, scale))
  smallest = values[0] if fit.ridge[0] else values[1]
  return float(values[-1] / smallest)
