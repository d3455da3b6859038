"""How sure Bradley-Terry strengths are: covariances, bootstrap, ranks, pairs.

Covariances of the strengths are those of strengths with mean 0. A difference has the same error
however one fixes the scale. Interval and rank rules are those of Search Arena (arXiv 2506.05334) and
Music Arena (arXiv 2507.20900); rank ranges from Holm-corrected pairs are ours.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse, special, stats

from recjax.errors import ConfigError, DataError
from recjax.evaluate import bradley_terry as bt
from recjax.evaluate.significance import holm
from recjax.evaluate.votes import list_names
from recjax.registry import unknown

KINDS = ("model", "sandwich", "cluster")
CHUNK = 2**22  # numbers a bootstrap holds at once
# Resamples without a finite maximum that a bootstrap may leave out: half of what an interval leaves.
MOST_UNDEFINED = 0.025


def covariance(fit: bt.Fit, kind: str = "sandwich", *, small_sample: bool = True) -> np.ndarray:
  """Covariance [M + F, M + F] of a fit's parameters, strengths having mean 0.

  model: the inverse information; for independent votes that follow the model, which ties do not.
  sandwich: from the residuals of single votes; ties and wrong models are fine.
  cluster: from residuals summed over the votes of one user; `small_sample` multiplies by C / (C - 1).
  """
  if kind not in KINDS:
    raise ConfigError(unknown("kind of interval", kind, KINDS))
  inverse = _inverse(fit)
  if kind == "model":
    return inverse
  if kind == "sandwich":
    votes, cells = fit.votes, fit.cells
    meat = bt.assemble(cells, np.bincount(cells.cell, (votes.weight * _left(fit)) ** 2, len(cells.a)))
  else:
    score = cluster_scores(fit)
    if score.shape[0] < 2:
      raise DataError("Votes of a single user say nothing of how users differ.")
    meat = (score.T @ score).toarray()
    meat *= score.shape[0] / (score.shape[0] - 1) if small_sample else 1.0
  return inverse @ meat @ inverse


def _inverse(fit: bt.Fit) -> np.ndarray:
  """Inverse of the information on strengths of mean 0."""
  size = len(fit.votes.models)
  matrix = fit.information
  if fit.ridge[0]:
    return np.linalg.inv(matrix)
  mean = np.zeros(len(matrix))
  mean[:size] = 1 / np.sqrt(size)
  scale = np.trace(matrix) / len(matrix)
  inverse = np.linalg.inv(matrix + scale * np.outer(mean, mean)) - np.outer(mean, mean) / scale
  return (inverse + inverse.T) / 2


def _left(fit: bt.Fit) -> np.ndarray:
  """Residuals [V] of the votes, seen from the first model of their cell."""
  cells, size = fit.cells, len(fit.votes.models)
  logit = fit.parameters[cells.a] - fit.parameters[cells.b] + cells.x @ fit.parameters[size:]
  return cells.gain - special.expit(logit)[cells.cell]


def cluster_scores(fit: bt.Fit) -> sparse.csr_array:
  """Sparse [C, M + F]: each user's sum of w (y - p) z."""
  votes, cells = fit.votes, fit.cells
  if votes.cluster is None:
    raise ConfigError("Intervals by user need to know who voted: name the column of users.")
  _, user = np.unique(votes.cluster, return_inverse=True)
  left = votes.weight * _left(fit)
  size, users = len(votes.models), user.max() + 1
  score = sparse.csr_array(
    (
      np.concatenate([left, -left]),
      (np.tile(user, 2), np.concatenate([cells.a[cells.cell], cells.b[cells.cell]])),
    ),
    shape=(users, size),
  )
  by_user = sparse.csr_array((left, (user, np.arange(len(user)))), shape=(users, len(user)))
  return sparse.hstack([score, sparse.csr_array(by_user @ cells.x[cells.cell])], format="csr")


class Bootstrap(NamedTuple):
  """Refits on resampled votes.

  Attributes:
    parameters: [R, M + F] of the resamples that have a maximum.
    undefined: how many resamples have none, or lack a model; they are left out.
  """

  parameters: np.ndarray
  undefined: int


def bootstrap(fit: bt.Fit, *, rounds: int = 1000, by: str = "vote", seed: int = 0) -> Bootstrap:
  """Refits on `rounds` resamples of votes, or of users with all their votes (by="cluster").

  Resamples are counts of what the likelihood can tell apart, so that they cost as much for a million
  votes as for a thousand. With a ridge a model that a resample lacks keeps its strength (Music
  Arena's code); without one such a resample is undefined. DataError where more than 2.5 % are.
  """
  if by not in ("vote", "cluster"):
    raise ConfigError(unknown("unit of the bootstrap", by, ("vote", "cluster")))
  votes, cells = fit.votes, fit.cells
  size = len(votes.models)
  unit, count = _units(fit, by)
  rng = np.random.default_rng(seed)
  penalty = np.repeat(fit.ridge, [size, len(votes.covariates)])
  shape = (len(cells.a), len(count))
  gained = sparse.csr_array((votes.weight * cells.gain, (cells.cell, unit)), shape=shape)
  held = sparse.csr_array((votes.weight, (cells.cell, unit)), shape=shape)
  width = size + len(votes.covariates)
  at_once = max(1, min(rounds, CHUNK // max(len(cells.a), len(count), width**2)))
  parameters = []
  for begun in range(0, rounds, at_once):
    drawn = np.stack([_draw(rng, count) for _ in range(min(at_once, rounds - begun))], axis=1)
    drawn = drawn / count[:, None]
    won, met = gained @ drawn, held @ drawn
    defined = np.ones(drawn.shape[1], bool)
    if not fit.ridge[0]:
      defined = np.array([
        bt.strong_parts(cells, won[:, r], met[:, r], size)[0] == 1 for r in range(drawn.shape[1])
      ])
    found = np.full((width, drawn.shape[1]), np.nan)
    if defined.any():
      found[:, defined], _ = bt.solve(
        cells, won[:, defined], met[:, defined], penalty, fit.parameters
      )
    if fit.ridge[0]:
      absent = abs(cells.incidence) @ met == 0
      found[:size] = np.where(absent, fit.strength[:, None], found[:size])
    parameters.append(found.T)
  parameters = np.concatenate(parameters)
  defined = np.isfinite(parameters).all(axis=1)
  undefined = int(rounds - defined.sum())
  if undefined > MOST_UNDEFINED * rounds:
    raise DataError(
      f"{undefined} of {rounds} resamples have no finite strengths: some of "
      f"{list_names(_rarest(fit))} won, lost or met too little; use sandwich intervals or a ridge."
    )
  return Bootstrap(parameters[defined], undefined)


def _units(fit: bt.Fit, by: str) -> tuple[np.ndarray, np.ndarray]:
  """What is resampled: (unit of each vote [V], how often each unit occurs)."""
  votes, cells = fit.votes, fit.cells
  if by == "cluster":
    if votes.cluster is None:
      raise ConfigError("A bootstrap by user needs to know who voted: name the column of users.")
    unit = np.unique(votes.cluster, return_inverse=True)[1]
    return unit, np.ones(unit.max() + 1)
  if votes.covariates:
    return np.arange(len(votes.y)), np.ones(len(votes.y))
  _, weight = np.unique(votes.weight, return_inverse=True)
  code = (cells.cell * 3 + np.round(2 * cells.gain).astype(np.int64)) * (weight.max() + 1) + weight
  _, unit, count = np.unique(code, return_inverse=True, return_counts=True)
  return unit, count.astype(np.float64)


def _draw(rng: np.random.Generator, count: np.ndarray) -> np.ndarray:
  """How often each unit is drawn, as many draws with replacement as there are observations."""
  total = int(count.sum())
  if total == len(count):
    return np.bincount(rng.integers(0, total, total), minlength=total)
  return rng.multinomial(total, count / total)


def _rarest(fit: bt.Fit, number: int = 3) -> list[str]:
  """The models with the fewest wins or losses."""
  won, met = bt.totals(fit.cells, fit.votes.weight)
  size = len(fit.votes.models)
  total = lambda to_a, to_b: np.bincount(fit.cells.a, to_a, size) + np.bincount(fit.cells.b, to_b, size)
  least = np.minimum(total(won, met - won), total(met - won, won))
  return [fit.votes.models[i] for i in np.argsort(least, kind="stable")[:number]]


def ranks(low: np.ndarray, high: np.ndarray) -> np.ndarray:
  """Ranks [M] from intervals: 1 + how many models' lower ends lie above one's upper end."""
  low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
  return 1 + (low[None, :] > high[:, None]).sum(axis=1)


class Pairs(NamedTuple):
  """All pairs of models, compared.

  Attributes:
    first, second: [P] models.
    difference, error: [P] of strengths, log-odds.
    p, p_holm: [P] two-sided, and corrected for the number of pairs.
  """

  first: np.ndarray
  second: np.ndarray
  difference: np.ndarray
  error: np.ndarray
  p: np.ndarray
  p_holm: np.ndarray


def pairs(fit: bt.Fit, covariance: np.ndarray) -> Pairs:
  """Wald tests that two strengths are equal, for all pairs, with Holm's correction."""
  first, second = np.triu_indices(len(fit.votes.models), 1)
  difference = fit.strength[first] - fit.strength[second]
  spread = np.diag(covariance)
  error = np.sqrt(np.maximum(spread[first] + spread[second] - 2 * covariance[first, second], 0))
  with np.errstate(divide="ignore", invalid="ignore"):
    p = 2 * stats.norm.sf(np.abs(difference) / error)
  p = np.where(error > 0, p, np.where(difference == 0, 1.0, 0.0))
  return Pairs(first, second, difference, error, p, holm(p))


def rank_ranges(compared: Pairs, size: int, level: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
  """(best [M], worst [M]) rank of each model that the significant pairs leave open.

  Holm keeps the chance of any wrong pair at `level` or below, so all true ranks together lie inside
  with confidence 1 - level.
  """
  better = np.where(compared.difference > 0, compared.first, compared.second)
  worse = np.where(compared.difference > 0, compared.second, compared.first)
  sure = compared.p_holm <= level
  best = 1 + np.bincount(worse[sure], minlength=size)
  return best, size - np.bincount(better[sure], minlength=size)
