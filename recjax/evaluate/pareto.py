"""Distance to the Pareto frontier of fairness and relevance (DPFR).

Rampisela, Ruotsalo, Maistro, Lioma: "Joint Evaluation of Fairness and Relevance in Recommender Systems
with Pareto Frontier", WWW 2025, arXiv 2502.11921. The frontier holds the values of a relevance measure
R and a fairness measure F along `oracle_to_fair`; it belongs to the data and k, whatever the models.

  points by descending R, of equal R the last: q_0 .. q_T;  D_t = |q_1 - q_0| + .. + |q_t - q_{t-1}|
  reference q_t*, t* = argmin over t >= 1 of |D_t - alpha D_T|;  DPFR = |(R, F) of the model - q_t*|

DPFR is at least 0 and lower is better; alpha is 0 at the end of relevance and 1 at that of fairness.
Both axes are raw: a measure such as Gini, which falls with fairness, is taken as it is.

Departures: a frontier of one point has that point as its reference. Not in the paper: `interpolate`
puts the reference at alpha D_T on the line through the points, and `nondominated` finds the points that
no other one beats.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recjax.errors import ConfigError
from recjax.evaluate.fairness import evaluate, higher_is_fairer
from recjax.evaluate.item_exposure import MEASURES, ListTable
from recjax.evaluate.oracle_to_fair import Rows, Walk, oracle, walk_to_fair
from recjax.evaluate.ranking import ranking_metrics
from recjax.registry import unknown

RELEVANCE = {"P": "precision", "R": "recall", "MAP": "map", "NDCG": "ndcg"}
FAIRNESS = ("Jain_our", "QF_our", "Ent_our", "Gini_our", "FSat_our")


@dataclasses.dataclass(frozen=True)
class Frontier:
  """Measures along the way from the oracle to the fairest lists.

  Attributes:
    values: measure -> float64 [T], in the order of the walk.
    steps: int64 [T], replacements before each point.
    start, end: int64 [m, k], the oracle's lists and the last ones.
    expected: replacements that the end is away at least.
    converged: whether the end was reached.
  """

  values: dict[str, np.ndarray]
  steps: np.ndarray
  start: np.ndarray
  end: np.ndarray
  expected: int
  converged: bool

  def pair(self, relevance: str, fairness: str) -> np.ndarray:
    """The points [T, 2] of two measures; ConfigError for one that the frontier does not have."""
    for name in (relevance, fairness):
      if name not in self.values:
        raise ConfigError(unknown("measure of the frontier", name, self.values))
    return np.stack([self.values[relevance], self.values[fairness]], axis=1)


def pareto_frontier(
  relevant: Rows,
  seen: Rows,
  k: int,
  items: np.ndarray | None = None,
  points: int | None = None,
  measure: Callable[[np.ndarray], Mapping[str, float]] | None = None,
  fully_fair: bool = False,
) -> Frontier:
  """Walks from the oracle to fairness and measures on the way.

  Args:
    relevant, seen, k, items: of `oracle_to_fair.oracle`.
    points: how many points to measure between the ends; None measures after every replacement.
    measure: lists int [m, k] -> values; RELEVANCE and FAIRNESS unless given.
    fully_fair: whether counts differ by at most 1 at the end.
  """
  walk = oracle(relevant, seen, k, items)
  value = (lambda: measure(walk.recommendations())) if measure else (lambda: measure_walk(walk))
  expected, start = walk.expected, walk.recommendations()
  every = 1 if points is None else max(1, expected // (points + 1))
  found, steps = [value()], [0]

  def after(step: int) -> None:
    if step % every == 0 and (points is None or len(found) <= points):
      found.append(value())
      steps.append(step)

  count, converged = walk_to_fair(walk, after, fully_fair)
  if steps[-1] != count:
    found.append(value())
    steps.append(count)
  values = {name: np.array([point[name] for point in found]) for name in found[0]}
  return Frontier(values, np.array(steps), start, walk.recommendations(), expected, converged)


def measure_walk(walk: Walk) -> dict[str, float]:
  """RELEVANCE and FAIRNESS of the lists of a walk."""
  k = walk.lists.shape[1]
  hits = np.arange(k) < walk.hits[:, None]  # relevant items stand first
  count = np.array([len(wanted) for wanted in walk.relevant])
  ranked = ranking_metrics(hits, count, (k,))
  values = {name: float(ranked[f"{metric}@{k}"].mean()) for name, metric in RELEVANCE.items()}
  table = ListTable(walk.lists, len(walk.ids) - 1)
  return values | evaluate({name: MEASURES[name] for name in FAIRNESS}, table)[0]


def nondominated(relevance: np.ndarray, fairness: np.ndarray, higher_fairer: bool) -> np.ndarray:
  """Which of n points no other is at least as good as on both axes and better on one; bool [n]."""
  fair = fairness if higher_fairer else -fairness
  order = np.lexsort((-fair, -relevance))
  best_before = np.maximum.accumulate(np.concatenate([[-np.inf], fair[order]]))[:-1]
  same = np.zeros(len(order), bool)  # an equal copy of a point does not beat it
  same[1:] = (relevance[order][1:] == relevance[order][:-1]) & (fair[order][1:] == fair[order][:-1])
  kept = fair[order] > best_before
  first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
  chosen = np.zeros(len(order), bool)
  chosen[order] = kept[first]
  return chosen


def reference_point(points: np.ndarray, alpha: float = 0.5, interpolate: bool = False) -> np.ndarray:
  """The point of a frontier [T, 2] of (relevance, fairness) at the share alpha of its length; [2].

  Raises ConfigError for alpha outside 0..1 or a frontier with NaN.
  """
  if not 0 <= alpha <= 1:
    raise ConfigError(f"alpha is a share between 0 and 1, not {alpha}.")
  if not len(points) or np.isnan(points).any():
    raise ConfigError("A frontier without points, or with NaN among them, has no reference point.")
  points = points[np.argsort(-points[:, 0], kind="stable")]
  points = points[np.append(points[1:, 0] != points[:-1, 0], True)]
  lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
  along = np.concatenate([[0], np.cumsum(lengths)])
  if len(points) == 1:
    return points[0]
  if interpolate:
    return np.array([np.interp(alpha * along[-1], along, axis) for axis in points.T])
  return points[1 + np.abs(along[1:] - alpha * along[-1]).argmin()]


def dpfr(
  frontier: Frontier,
  models: Mapping[str, Mapping[str, float]],
  relevance: str = "NDCG",
  fairness: str = "Ent_our",
  alpha: float = 0.5,
  interpolate: bool = False,
) -> dict[str, float]:
  """Distance of each model from the reference point; lower is better, NaN where a measure is NaN.

  `models` gives the values of both measures by the names that the frontier has.
  """
  reference = reference_point(frontier.pair(relevance, fairness), alpha, interpolate)
  return {
    name: float(np.hypot(values[relevance] - reference[0], values[fairness] - reference[1]))
    for name, values in models.items()
  }


def average(values: Mapping[str, float], relevance: str, fairness: str) -> float:
  """The mean of both measures, higher is better: the rival of DPFR. Gini enters as 1 - Gini."""
  fair = values[fairness] if higher_is_fairer(fairness) else 1 - values[fairness]
  return (values[relevance] + fair) / 2


def slope(points: np.ndarray) -> float:
  """Rise of fairness for relevance between the ends of a frontier; a pair is of use if not 0 or NaN."""
  lost, gained = points[0] - points[-1]
  return float(gained / lost) if lost else float("nan")


def draw(
  frontier: Frontier,
  models: Mapping[str, Mapping[str, float]],
  relevance: str = "NDCG",
  fairness: str = "Ent_our",
  alpha: float = 0.5,
) -> Any:
  """A matplotlib Figure: the frontier, its reference point, the models and their distances.

  Raises ConfigError where matplotlib is not installed.
  """
  try:
    from matplotlib.figure import Figure
  except ImportError:
    raise ConfigError("Drawing needs an extra: run pip install 'recjax[plot]'.") from None
  points = frontier.pair(relevance, fairness)
  reference = reference_point(points, alpha)
  figure = Figure(figsize=(6, 4.5), layout="constrained")
  axes = figure.add_subplot()
  axes.plot(points[:, 0], points[:, 1], color="black", label="frontier")
  axes.plot(*reference, marker="*", markersize=14, linestyle="none", color="black", label="reference")
  for name, distance in dpfr(frontier, models, relevance, fairness, alpha).items():
    at = (models[name][relevance], models[name][fairness])
    (dot,) = axes.plot(*at, marker="o", linestyle="none", label=f"{name}: {distance:.3f}")
    axes.plot(*zip(at, reference, strict=True), linestyle=":", linewidth=1, color=dot.get_color())
  axes.set_xlabel(relevance)
  axes.set_ylabel(f"{fairness} ({'higher' if higher_is_fairer(fairness) else 'lower'} is fairer)")
  axes.set_title(f"Distance to the frontier, alpha = {alpha:g}")
  axes.legend()
  return figure
