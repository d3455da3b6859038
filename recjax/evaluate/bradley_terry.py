"""Bradley-Terry strengths by maximum likelihood, with covariates, for many weightings at once.

Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 1952. With strengths theta,
covariates x and coefficients beta,

    P(a beats b) = sigmoid(e),  e = theta_a - theta_b + x . beta
    loss = sum_v w_v (softplus(e_v) - y_v e_v) + ridge/2 |theta|^2 + covariate_ridge/2 |beta|^2

A tie is half a win (y = 1/2), as in Search Arena (arXiv 2506.05334) and Music Arena (arXiv 2507.20900).
Strengths have mean 0: only their differences are in the votes. The maximum is found by Newton's method.
Votes are first added up into cells of equal pair and covariates, which is all that the likelihood
needs; bootstrap resamples are columns of weights over the same cells, fitted together.

Without a ridge the maximum exists only if, however one parts the models in two, each part wins or ties
against the other (Ford, 1957): else DataError names the models. Where covariates separate the votes or
cannot be told from the strengths, it names the covariates.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse, special
from scipy.sparse import csgraph

from recjax.errors import ConfigError, DataError
from recjax.evaluate.votes import Votes, list_names

ELO = 400 / np.log(10)  # rating points of a strength of 1
STEPS = 50
SMALL_STEP = 1e-9


class Cells(NamedTuple):
  """Distinct (pair, covariates), the smaller model first, and what adds up to them.

  Attributes:
    a, b: [C] the models; a < b where there are no covariates.
    x: [C, F] covariates.
    incidence: sparse [M, C], +1 at a and -1 at b.
    pair: [P] the distinct pairs, a M + b.
    in_pair: sparse [P, C], 1 where a cell is of a pair.
    cell: [V] the cell of each vote.
    gain: [V] what the cell's first model gained in the vote, in [0, 1].
  """

  a: np.ndarray
  b: np.ndarray
  x: np.ndarray
  incidence: sparse.csr_array
  pair: np.ndarray
  in_pair: sparse.csr_array
  cell: np.ndarray
  gain: np.ndarray


class Fit(NamedTuple):
  """A maximum of the likelihood.

  Attributes:
    votes: what was fitted.
    cells: the votes added up.
    parameters: [M + F] strengths, which have mean 0, then coefficients.
    information: [M + F, M + F] second derivative of the loss, penalties included.
    loss: value at the maximum, without penalties: the negative log-likelihood.
    ridge: (of strengths, of coefficients).
    steps: Newton steps.
  """

  votes: Votes
  cells: Cells
  parameters: np.ndarray
  information: np.ndarray
  loss: float
  ridge: tuple[float, float]
  steps: int

  @property
  def strength(self) -> np.ndarray:
    """[M] strengths in log-odds, of mean 0."""
    return self.parameters[: len(self.votes.models)]

  @property
  def coefficients(self) -> np.ndarray:
    """[F] log-odds a unit of each covariate."""
    return self.parameters[len(self.votes.models):]


def fit(votes: Votes, *, ridge: float = 0.0, covariate_ridge: float = 0.0) -> Fit:
  """The maximum-likelihood strengths and coefficients of votes; see the module."""
  if not (ridge >= 0 and covariate_ridge >= 0):
    raise ConfigError(f"A ridge is 0 or more, got {ridge} and {covariate_ridge}.")
  cells = add_up(votes)
  won, met = totals(cells, votes.weight)
  if not ridge:
    check_connected(votes.models, cells, won, met)
  penalty = _penalty(votes, ridge, covariate_ridge)
  start = np.zeros(len(penalty))
  information = information_of(cells, start, met) + np.diag(penalty)
  _check_identified(votes, information)
  found, steps = solve(cells, won[:, None], met[:, None], penalty, start)
  parameters = found[:, 0]
  if not np.isfinite(parameters).all():
    raise DataError(
      f"With the covariates {list_names(votes.covariates)} some outcomes are told without error, so "
      "that there is no finite maximum: set a covariate ridge above 0, or leave one out."
      if votes.covariates else
      f"Newton's method found no strengths of {list_names(votes.models)}: set a ridge above 0."
    )
  logit = _logits(cells, parameters[:, None])[:, 0]
  return Fit(
    votes, cells, parameters, information_of(cells, parameters, met) + np.diag(penalty),
    float(met @ np.logaddexp(0, logit) - won @ logit), (ridge, covariate_ridge), steps,
  )


def add_up(votes: Votes) -> Cells:
  """Votes as cells; those of a pair are one cell where there are no covariates."""
  size = len(votes.models)
  if votes.covariates:
    a, b, x = votes.a, votes.b, votes.x
    cell, gain = np.arange(len(a)), votes.y
  else:
    low, high = np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)
    code, cell = np.unique(low * size + high, return_inverse=True)
    a, b, x = code // size, code % size, np.zeros((len(code), 0))
    gain = np.where(votes.a == low, votes.y, 1 - votes.y)
  count = np.arange(len(a))
  incidence = sparse.csr_array(
    (np.repeat([1.0, -1.0], len(a)), (np.concatenate([a, b]), np.concatenate([count, count]))),
    shape=(size, len(a)),
  )
  pair, place = np.unique(a * size + b, return_inverse=True)
  in_pair = sparse.csr_array((np.ones(len(a)), (place, count)), shape=(len(pair), len(a)))
  return Cells(a, b, x, incidence, pair, in_pair, cell, gain)


def totals(cells: Cells, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(won [C], met [C]): weighted gains of a cell's first model, and weight of its votes [V]."""
  size = len(cells.a)
  return (
    np.bincount(cells.cell, weight * cells.gain, size), np.bincount(cells.cell, weight, size)
  )


def assemble(cells: Cells, weight: np.ndarray) -> np.ndarray:
  """sum_c weight_c z_c z_c^T [M + F, M + F] over cells, z having +1 at a, -1 at b, and x."""
  return assemble_many(cells, weight[:, None])[0]


def assemble_many(cells: Cells, weight: np.ndarray) -> np.ndarray:
  """`assemble` for every column of weight [C, R]: [R, M + F, M + F]."""
  size, features = cells.incidence.shape[0], cells.x.shape[1]
  rounds = weight.shape[1]
  whole = np.zeros((rounds, size + features, size + features))
  met = (cells.in_pair @ weight).T
  first, second = cells.pair // size, cells.pair % size
  whole[:, first, second] -= met
  whole[:, second, first] -= met
  diagonal = np.arange(size)
  whole[:, diagonal, diagonal] = -whole[:, :size, :size].sum(axis=2)
  for f in range(features):
    moved = weight * cells.x[:, f, None]
    whole[:, size + f, :size] = (cells.incidence @ moved).T
    whole[:, :size, size + f] = whole[:, size + f, :size]
    whole[:, size + f, size:] = moved.T @ cells.x
  return whole


def information_of(cells: Cells, parameters: np.ndarray, met: np.ndarray) -> np.ndarray:
  """Second derivative [M + F, M + F] of the loss without penalties."""
  chance = special.expit(_logits(cells, parameters[:, None])[:, 0])
  return assemble(cells, met * chance * (1 - chance))


def solve(
  cells: Cells, won: np.ndarray, met: np.ndarray, penalty: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, int]:
  """Newton's method for every column of won, met [C, R] from `start` [K]: ([K, R], steps).

  Columns without a finite maximum come back as NaN: their steps do not become small.
  """
  size, rounds = cells.incidence.shape[0], won.shape[1]
  parameters = np.repeat(start[:, None], rounds, axis=1)
  gauge = np.zeros((len(start), len(start)))
  if not penalty[:size].any():
    gauge[:size, :size] = 1.0 / size
  open_ = np.arange(rounds)
  value = _loss(cells, won, met, penalty, parameters)
  step = 0
  while len(open_) and step < STEPS:
    step += 1
    now, own_won, own_met = parameters[:, open_], won[:, open_], met[:, open_]
    chance = special.expit(_logits(cells, now))
    left = own_met * chance - own_won
    gradient = np.concatenate([cells.incidence @ left, cells.x.T @ left]) + penalty[:, None] * now
    matrix = assemble_many(cells, own_met * chance * (1 - chance)) + np.diag(penalty)
    matrix += gauge * (np.trace(matrix, axis1=1, axis2=2) / len(start))[:, None, None]
    try:
      move = np.linalg.solve(matrix, gradient.T[:, :, None])[:, :, 0].T
    except np.linalg.LinAlgError:
      move = np.stack([_solve_or_nan(m, g) for m, g in zip(matrix, gradient.T, strict=True)], axis=1)
    share = np.ones(len(open_))
    for _ in range(30):
      tried = now - share * move
      reached = _loss(cells, own_won, own_met, penalty, tried)
      worse = reached > value[open_] + 1e-9 * (1 + np.abs(value[open_]))
      if not worse.any():
        break
      share = np.where(worse, share / 2, share)
    parameters[:, open_], value[open_] = tried, reached
    size_of_step = np.abs(share * move).max(axis=0)
    open_ = open_[~(size_of_step < SMALL_STEP)]  # NaN stays open
  parameters[:, open_] = np.nan
  return parameters, step


def _solve_or_nan(matrix: np.ndarray, gradient: np.ndarray) -> np.ndarray:
  try:
    return np.linalg.solve(matrix, gradient)
  except np.linalg.LinAlgError:
    return np.full(len(gradient), np.nan)


def _logits(cells: Cells, parameters: np.ndarray) -> np.ndarray:
  """[C, R] of parameters [M + F, R]."""
  size = cells.incidence.shape[0]
  logit = parameters[cells.a] - parameters[cells.b]
  return logit + cells.x @ parameters[size:] if cells.x.shape[1] else logit


def _loss(cells: Cells, won, met, penalty: np.ndarray, parameters: np.ndarray) -> np.ndarray:
  """[R] losses, penalties included."""
  logit = _logits(cells, parameters)
  data = np.einsum("cr,cr->r", met, np.logaddexp(0, logit)) - np.einsum("cr,cr->r", won, logit)
  return data + 0.5 * penalty @ parameters**2


def _penalty(votes: Votes, ridge: float, covariate_ridge: float) -> np.ndarray:
  return np.repeat([ridge, covariate_ridge], [len(votes.models), len(votes.covariates)]).astype(float)


def check_connected(models: tuple[str, ...], cells: Cells, won: np.ndarray, met: np.ndarray) -> None:
  """DataError, with names, unless each part of the models wins or ties against the rest."""
  size = len(models)
  together, part = csgraph.connected_components(_graph(cells, met, met, size), directed=False)
  if together > 1:
    inside = part == np.bincount(part).argmax()
    raise DataError(
      f"No vote compares {list_names(_named(models, ~inside))} with "
      f"{list_names(_named(models, inside))}: leave one group out, or set a ridge above "
      "0, which calls all groups equally good."
    )
  strong, part = strong_parts(cells, won, met, size)
  if strong == 1:
    return
  # A group that no other one beats or ties is at the top.
  graph = _graph(cells, won, met - won, size).tocoo()
  leaving = part[graph.row] != part[graph.col]
  beaten = np.unique(part[graph.col[leaving]])
  top = np.setdiff1d(np.arange(strong), beaten)[0]
  first = part == top
  raise DataError(
    f"{list_names(_named(models, first))} won every vote against {list_names(_named(models, ~first))}, "
    "so that no finite strength is the most likely: set a ridge above 0, or leave models out."
  )


def strong_parts(cells: Cells, won: np.ndarray, met: np.ndarray, size: int) -> tuple[int, np.ndarray]:
  """Groups of models that win or tie against each other along some way: (number, group [M])."""
  return csgraph.connected_components(
    _graph(cells, won, met - won, size), directed=True, connection="strong"
  )


def _graph(cells: Cells, forth: np.ndarray, back: np.ndarray, size: int) -> sparse.csr_array:
  """Edges from a to b where `forth` [C] is above 0, and from b to a where `back` is."""
  tiny = 1e-12
  there, returned = forth > tiny, back > tiny
  rows = np.concatenate([cells.a[there], cells.b[returned]])
  columns = np.concatenate([cells.b[there], cells.a[returned]])
  return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))


def _named(models: tuple[str, ...], chosen: np.ndarray) -> list[str]:
  return [models[i] for i in np.flatnonzero(chosen)]


def _check_identified(votes: Votes, information: np.ndarray) -> None:
  """DataError where a covariate is a function of the models, or of the other covariates."""
  size = len(votes.models)
  if not votes.covariates:
    return
  scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
  scaled = information / np.outer(scale, scale)
  values, vectors = np.linalg.eigh(scaled)
  for value, vector in zip(values, vectors.T, strict=True):
    share = np.abs(vector[size:])
    if value < 1e-10 and share.max() > 1e-6:
      names = [n for n, s in zip(votes.covariates, share, strict=True) if s > 0.1 * share.max()]
      raise DataError(
        f"The covariates {list_names(names)} follow from the models or from one another, so that their "
        "coefficients cannot be told apart: leave one out, or set a covariate ridge above 0."
      )
