"""Ties as an outcome of their own: the models of Davidson and of Rao and Kupper.

With p = exp(theta):

    Davidson (JASA 1970)         P(i) = p_i / D, P(tie) = nu sqrt(p_i p_j) / D,
                                 D = p_i + p_j + nu sqrt(p_i p_j)
    Rao and Kupper (JASA 1967)   P(i) = p_i / (p_i + kappa p_j), P(tie) = (kappa^2 - 1) P(i) P(j)

nu = 0 and kappa = 1 are Bradley-Terry. They predict ties, which half a win (`bradley_terry`) does not;
the order of the models is nearly the same. Both losses are convex in the strengths and in log nu or
log kappa, and are minimised by Newton's method.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from recjax.errors import ConfigError, DataError
from recjax.evaluate import bradley_terry as bt
from recjax.evaluate.votes import Votes
from recjax.registry import unknown

KINDS = ("davidson", "rao_kupper")


class TieFit(NamedTuple):
  """Strengths [M] of mean 0 in log-odds, nu or kappa, and the negative log-likelihood."""

  strength: np.ndarray
  tie: float
  loss: float


def fit(votes: Votes, kind: str) -> TieFit:
  """Maximum-likelihood strengths and tie parameter; covariates are not part of these models.

  DataError where no vote is a tie, all are, or no finite strengths exist.
  """
  if kind not in KINDS:
    raise ConfigError(unknown("model of ties", kind, KINDS))
  if votes.covariates:
    raise ConfigError("Models of ties take no covariates: count ties as half a win instead.")
  cells = bt.add_up(votes)
  met = bt.totals(cells, votes.weight)[1]
  tie = np.bincount(cells.cell, votes.weight * (votes.y == 0.5), len(met))
  win = np.bincount(cells.cell, votes.weight * (cells.gain == 1), len(met))
  if not 0 < tie.sum() < met.sum():
    raise DataError("A model of ties needs votes that are ties, and votes that are not.")
  bt.check_connected(votes.models, cells, win + tie / 2, met)
  outcome = np.stack([win, met - win - tie, tie])
  terms = _davidson if kind == "davidson" else _rao_kupper
  size = len(votes.models)
  incidence = cells.incidence
  parameters = np.zeros(size + 1)
  parameters[size] = 0.0 if kind == "davidson" else 0.5
  value = terms(*_apart(cells, parameters), outcome)[0]
  for _ in range(bt.STEPS):
    _, slope, curve = terms(*_apart(cells, parameters), outcome)
    gradient = np.append(incidence @ slope[0], slope[1].sum())
    matrix = np.zeros((size + 1, size + 1))
    matrix[:size, :size] = bt.assemble(cells, curve[0]) + curve[0].sum() / size**2
    matrix[size, :size] = matrix[:size, size] = incidence @ curve[1]
    matrix[size, size] = curve[2].sum()
    move, share = np.linalg.solve(matrix, gradient), 1.0
    while True:
      tried = parameters - share * move
      reached = terms(*_apart(cells, tried), outcome)[0]
      if reached <= value + 1e-9 * (1 + abs(value)) or share < 1e-9:
        break
      share /= 2
    parameters, value = tried, reached
    if np.abs(share * move).max() < bt.SMALL_STEP:
      return TieFit(parameters[:size], float(np.exp(parameters[size])), float(value))
  raise DataError(
    "No finite strengths are the most likely with ties as an outcome: some model never lost or never "
    "won without a tie in between; count ties as half a win instead."
  )


def _apart(cells: bt.Cells, parameters: np.ndarray) -> tuple[np.ndarray, float]:
  return parameters[cells.a] - parameters[cells.b], parameters[-1]


def _davidson(apart: np.ndarray, log_nu: float, outcome: np.ndarray):
  """(loss, its slopes in difference and log nu [2][C], its three curvatures [3][C])."""
  win, lose, tie = outcome
  met = outcome.sum(axis=0)
  scores = np.stack([apart / 2, -apart / 2, np.full_like(apart, log_nu)])
  norm = special.logsumexp(scores, axis=0)
  p_win, p_lose, p_tie = np.exp(scores - norm)
  ahead = p_win - p_lose
  loss = (met * norm - (win - lose) * apart / 2 - tie * log_nu).sum()
  slope = (met * ahead - (win - lose)) / 2, met * p_tie - tie
  curve = (
    met * ((p_win + p_lose) - ahead**2) / 4, -met * p_tie * ahead / 2, met * p_tie * (1 - p_tie)
  )
  return loss, slope, curve


def _rao_kupper(apart: np.ndarray, log_kappa: float, outcome: np.ndarray):
  """As `_davidson`, in log kappa; infinite where that is not above 0."""
  win, lose, tie = outcome
  if log_kappa <= 0:
    return np.inf, (apart, apart), (apart, apart, apart)
  forth, back = win + tie, lose + tie
  u, v = apart - log_kappa, -apart - log_kappa
  gap = -np.expm1(-2 * log_kappa)
  loss = (
    forth * np.logaddexp(0, -u) + back * np.logaddexp(0, -v) - tie * (2 * log_kappa + np.log(gap))
  ).sum()
  du, dv = -forth * special.expit(-u), -back * special.expit(-v)
  duu = forth * special.expit(u) * special.expit(-u)
  dvv = back * special.expit(v) * special.expit(-v)
  slope = du - dv, -du - dv - 2 * tie / gap
  curve = duu + dvv, dvv - duu, duu + dvv + 4 * tie * np.exp(-2 * log_kappa) / gap**2
  return loss, slope, curve
