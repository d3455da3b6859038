"""Votes with planted strengths: are intervals as sure as they say, and does style control work?

`size` models have strengths from `spread` down to -`spread`, evenly. A vote draws a pair, and

    P(left wins) + P(tie) / 2 = sigmoid(theta_a - theta_b + beta . x)

so that half a win for a tie keeps the truth. Ties take `ties` of what the less likely outcome allows. A
user casts `votes_per_user` votes; each but the first repeats the first one, pair and all, with
probability `repeats`, which leaves the chance of every outcome as it is.

style = "answers": every answer has a style, +1 for the weaker half of the models and -1 for the
stronger, plus N(0, 1); x is the difference. style = "citations": answers have Poisson counts of those
that support (3 on average), are irrelevant (2 times the model's own rate) or contradict (0.3); x are
relative differences over their deviation; logarithms of the rates follow the strengths with
`correlation`.
"""

import dataclasses

import numpy as np
from scipy import special, stats

from recjax.data.vote_table import LEFT, RIGHT, TIE, VoteTable
from recjax.errors import ConfigError
from recjax.evaluate import arena_intervals, votes
from recjax.evaluate import bradley_terry as bt
from recjax.ranges import Positive, Share, Weight
from recjax.registry import unknown

STYLES = ("none", "answers", "citations")
CITATIONS = ("support", "irrelevant", "contradict")
RATES = (3.0, 2.0, 0.3)


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of an arm."""

  size: Positive = 12
  votes: Positive = 3000
  spread: Weight = 0.8
  ties: Share = 0.0
  votes_per_user: Positive = 1
  repeats: Share = 0.0
  style: str = "none"
  # Coefficients of the covariates: one of "answers", three of "citations".
  beta: tuple[float, ...] = ()
  correlation: float = 0.6
  # Whether the board knows the covariates.
  control: bool = True
  intervals: str = "sandwich"  # model | sandwich | cluster | bootstrap
  rounds: Positive = 200

  def __post_init__(self):
    if self.style not in STYLES:
      raise ConfigError(unknown("style of planted votes", self.style, STYLES))
    if not -1 <= self.correlation <= 1:
      raise ConfigError(f"A correlation is from -1 to 1, not {self.correlation}.")
    wanted = {"none": 0, "answers": 1, "citations": 3}[self.style]
    if len(self.beta) != wanted:
      raise ConfigError(f"Style {self.style!r} has {wanted} coefficients, not {len(self.beta)}.")


def simulate(config: Config, seed: int) -> dict[str, float]:
  """One arena and its board.

  Metrics: `coverage` of the strengths (mean 0) and `pair_coverage` of their differences by 95 %
  intervals; `ranks_hold`, whether all true ranks are among those left open; `half_width` of intervals;
  `spearman` of estimate and truth; `displaced`, how many models are three ranks or more off; and with
  control, of each coefficient: `NAME`, `NAME_covered`, `NAME_within`, whether it is off by 2.5 errors
  at most.
  """
  strength, cast = planted(config, seed)
  fit = bt.fit(cast if config.control else cast._replace(x=cast.x[:, :0], covariates=()))
  if config.intervals == "bootstrap":
    drawn = arena_intervals.bootstrap(fit, rounds=config.rounds, seed=seed)
    covariance = np.cov(drawn.parameters.T)
    low, high = np.quantile(drawn.parameters, [0.025, 0.975], axis=0)
  else:
    covariance = arena_intervals.covariance(fit, config.intervals)
    half = stats.norm.isf(0.025) * np.sqrt(np.diag(covariance))
    low, high = fit.parameters - half, fit.parameters + half
  truth = np.append(strength, config.beta if config.control else ())
  inside = (low <= truth) & (truth <= high)
  pairs = arena_intervals.pairs(fit, covariance)
  apart = strength[pairs.first] - strength[pairs.second]
  best, worst = arena_intervals.rank_ranges(pairs, config.size)
  true_rank = np.arange(1, config.size + 1)
  rank = stats.rankdata(-fit.strength)
  found = {
    "coverage": inside[: config.size].mean(),
    "pair_coverage": (np.abs(pairs.difference - apart) <= 1.959964 * pairs.error).mean(),
    "ranks_hold": float(((best <= true_rank) & (true_rank <= worst)).all()),
    "half_width": (high - low)[: config.size].mean() / 2,
    "spearman": stats.spearmanr(fit.strength, strength)[0],
    "displaced": (np.abs(rank - true_rank) >= 3).sum(),
  }
  error = np.sqrt(np.diag(covariance))
  for f, name in enumerate(fit.votes.covariates):
    at = config.size + f
    found[name] = fit.parameters[at]
    found[f"{name}_covered"] = inside[at]
    found[f"{name}_within"] = abs(fit.parameters[at] - truth[at]) <= 2.5 * error[at]
  return {name: float(value) for name, value in found.items()}


def planted(config: Config, seed: int) -> tuple[np.ndarray, votes.Votes]:
  """(strengths [M] of mean 0, votes) with the covariates of the style."""
  rng = np.random.default_rng(seed)
  strength = np.linspace(config.spread, -config.spread, config.size)
  a = rng.integers(0, config.size, config.votes)
  b = (a + rng.integers(1, config.size, config.votes)) % config.size
  x, names = _style(config, rng, strength, a, b)
  chance = special.expit(strength[a] - strength[b] + x @ np.asarray(config.beta))
  tie = 2 * config.ties * np.minimum(chance, 1 - chance)
  draw = rng.random(config.votes)
  y = np.where(draw < tie, 0.5, np.where(draw < tie + chance - tie / 2, 1.0, 0.0))
  user = np.arange(config.votes) // config.votes_per_user
  source = np.where(
    rng.random(config.votes) < config.repeats, user * config.votes_per_user, np.arange(config.votes)
  )
  models = [f"model-{i + 1:02d}" for i in range(config.size)]
  return strength, votes.make(
    models, a[source], b[source], y[source], x=x[source], covariates=names, cluster=user
  )


def _style(config: Config, rng, strength, a, b) -> tuple[np.ndarray, tuple[str, ...]]:
  if config.style == "none":
    return np.zeros((len(a), 0)), ()
  if config.style == "answers":
    own = np.where(np.arange(config.size) < config.size // 2, -1.0, 1.0)
    left, right = own[a] + rng.normal(size=len(a)), own[b] + rng.normal(size=len(b))
    return (left - right)[:, None], ("style",)
  plain = rng.normal(size=config.size)
  z = (strength - strength.mean()) / strength.std()
  plain -= plain.mean() + z * (plain @ z) / config.size
  r = config.correlation
  own = np.exp(r * z + np.sqrt(1 - r**2) * plain / plain.std())
  rates = np.tile(np.array(RATES)[:, None], config.size)
  rates[1] *= own
  x = votes.relative_difference(rng.poisson(rates[:, a]), rng.poisson(rates[:, b])).T
  return votes.style(x, CITATIONS).x, CITATIONS


def table(seed: int) -> VoteTable:
  """Made-up votes as if read from a file: twelve models, 2,000 votes of 500 users who like style."""
  config = Config(votes=2000, ties=0.3, votes_per_user=4, style="answers", beta=(0.4,))
  _, cast = planted(config, seed)
  # Counts whose relative difference grows with the difference of style.
  words = np.round(200 * np.exp(0.25 * np.stack([cast.x[:, 0], -cast.x[:, 0]], axis=1)))
  return VoteTable(
    models=cast.models,
    a=cast.a,
    b=cast.b,
    outcome=np.where(cast.y == 1, LEFT, np.where(cast.y == 0, RIGHT, TIE)).astype(np.int8),
    user=cast.cluster,
    boards=("",),
    board=np.zeros(len(cast.y), np.int64),
    counts=words[:, :, None],
    without_vote=0,
  )
