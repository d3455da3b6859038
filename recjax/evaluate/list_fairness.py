"""Evaluator: lists of the whole catalogue, as they are or re-ranked, by relevance and fairness at once.

Relevance is that of `full_ranking`, for one length k. Of the same lists: all measures of
`fairness.item_fairness` and `user_fairness.user_fairness`, the distance of each pair of measures to the
frontier of these cases ("DPFR NDCG-Ent_our", lower is better), and its rival, the plain mean of the
two ("average NDCG-Ent_our", higher is better). `docs/fairness.md` says what they mean.

The frontier is that of the part that is evaluated: its right answers are relevant, and what a user had
before, with the validation answers if the test is asked about, is never recommended. It depends on the
data and k alone and is walked once for each part. Right answers that a user has had before cannot be
recommended, so they are not on it; they count as misses elsewhere.

Similarity of users is that of what they had before the moment that is evaluated; in PUF's paper it is
that of the training part. A list that was re-ranked has an order and no ties; in one as the model made
it ties count against the model where relevance, NDCG of a pair included, is measured, and not in
measures of users.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import pareto, top_lists
from recjax.evaluate.comparison import judge
from recjax.evaluate.evaluation import Catalogue, Evaluation
from recjax.evaluate.item_rows import distinct_rows, find_relevant
from recjax.evaluate.list_files import Lists, Task
from recjax.evaluate.rerank import SHARE, borda, combmnz, greedy_substitution
from recjax.ranges import Count, Positive, Share
from recjax.registry import unknown

RERANKERS = ("", "borda", "combmnz", "greedy", "model")
_CASES = 1024  # whose histories are gathered at once


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings; those of re-rankers are of DPFR's authors.

  Takes the place of full_ranking: beside it, metrics of the same name would hide each other.
  """

  k: Positive = 10  # length of the lists
  # "" for lists as they are, or borda | combmnz | greedy towards items that are shown less, or "model":
  # by its `score` for given candidates, as of a model of two stages.
  rerank: str = ""
  depth: Positive = 25  # of a user's best items, from which re-ranking takes k
  beta: Share = 0.05  # greedy: width of the band of coverage that is left alone
  share: Share = SHARE  # greedy: of all places, the most that change
  # Pairs of a relevance and a fairness measure for which the distance to the frontier is taken.
  pairs: tuple[tuple[str, str], ...] = (
    ("NDCG", "Ent_our"), ("NDCG", "Gini_our"), ("NDCG", "Jain_our"), ("P", "Ent_our"),
  )
  alpha: Share = 0.5  # place of the reference on the frontier: 0 is its end of relevance, 1 of fairness
  points: Count = 10  # of the frontier between its ends; 0 = one after every replacement
  batch_size: Positive = 256  # users scored at once
  block_size: Positive = 16384  # items scored at once

  def __post_init__(self):
    if self.rerank not in RERANKERS:
      raise ConfigError(unknown("re-ranker", self.rerank, RERANKERS[1:]))
    if self.rerank and self.depth < self.k:
      raise ConfigError(f"k = {self.k} items cannot be taken from a depth of {self.depth}.")
    for pair in self.pairs:
      if len(pair) != 2:
        raise ConfigError(f"A pair is a relevance and a fairness measure, not {pair}.")
      for name, known in zip(pair, (pareto.RELEVANCE, pareto.FAIRNESS), strict=True):
        if name not in known:
          raise ConfigError(unknown("measure of a pair", name, known))


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares lists and frontier; the returned run(variables) compiles once.

  `facts` has the reasons of measures that are NaN, and each frontier's reference point and ends. With
  "greedy" the host holds a score of every case for every item.

  Raises:
    ConfigError, DataError: as of `top_lists.build`; from run also where a user has fewer than
      `depth` items for borda, combmnz or greedy, or fewer than k that can be recommended.
  """
  counted, rank = top_lists.build(
    predict, cases, mesh=mesh, catalogue=catalogue, evaluator="list_fairness",
    length=config.depth if config.rerank else config.k, ties=not config.rerank,
    batch_size=config.batch_size, block_size=config.block_size,
    every_score=config.rerank == "greedy", rescore=config.rerank == "model",
  )
  index = np.flatnonzero(counted)

  @functools.cache
  def task() -> Task:
    return Task(
      cases.user[index], catalogue.num_items, distinct_rows(cases.targets[index]),
      histories(cases, index), catalogue.train_counts, catalogue.categories, {}, {},
    )

  @functools.cache
  def frontier() -> tuple[pareto.Frontier, int]:
    return frontier_of(task(), cases.targets[index], config.k, config.points)

  def run(variables) -> Evaluation:
    top = rank(variables)
    lists = Lists(*reranked(config, top, catalogue.num_items), {})
    found, reasons = judge(task(), lists, (config.k,))
    values = dict(found.values)
    relevance = {
      name: values[f"{metric}@{config.k}"] for name, metric in pareto.RELEVANCE.items()
    }
    facts = {**top.facts, **found.facts, "undefined": reasons}
    if config.pairs:
      walked, users = frontier()
      facts["frontier"] = {
        "cases": users, "replacements": int(walked.steps[-1]), "converged": walked.converged,
        "points": len(walked.steps),
      }
    for pair in config.pairs:
      name, own = "-".join(pair), {**relevance, **values}
      values[f"DPFR {name}"] = pareto.dpfr(walked, {"": own}, *pair, config.alpha)[""]
      values[f"average {name}"] = pareto.average(own, *pair)
      points = walked.pair(*pair)
      facts["frontier"][name] = {
        "reference": pareto.reference_point(points, config.alpha), "ends": points[[0, -1]],
        "slope": pareto.slope(points),
      }
    return Evaluation(values, found.per_case, cases.user[index], found.lists, facts)

  return run


def reranked(
  config: Config, top: top_lists.TopLists, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
  """Lists [n, k + 1] and scores that order them; where they are re-ranked the last place is empty."""
  if not config.rerank:
    return top.ids, top.scores
  ids = top.ids.astype(np.int64)
  if config.rerank == "borda":
    chosen = borda(ids, num_items, config.k)
  elif config.rerank == "combmnz":
    chosen = combmnz(ids, top.scores, num_items, config.k)
  elif config.rerank == "model":
    scores = np.where(ids != 0, top.rescored, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : config.k]
    chosen = np.take_along_axis(ids, order, axis=1)
  else:
    chosen = greedy_substitution(ids, top.every, config.k, config.beta, config.share)
  places = np.append(np.arange(config.k, 0.0, -1.0), -np.inf)
  return np.pad(chosen, ((0, 0), (0, 1))), np.broadcast_to(places, (len(chosen), config.k + 1))


def frontier_of(
  task: Task, targets: np.ndarray, k: int, points: int
) -> tuple[pareto.Frontier, int]:
  """The frontier of the cases with an unseen target [n, T], and how many those are.

  Raises DataError where there are none.
  """
  possible = np.where(find_relevant(targets, *task.histories, task.num_items) < 0, targets, 0)
  some = (possible != 0).any(axis=1)
  if not some.any():
    raise DataError("Everybody has seen all right answers before, so there is no frontier.")
  indptr, indices = task.histories
  kept = np.repeat(some, np.diff(indptr))
  seen = np.concatenate([[0], np.cumsum(np.diff(indptr)[some])]), indices[kept]
  every = np.arange(1, task.num_items + 1)
  walked = pareto.pareto_frontier(distinct_rows(possible[some]), seen, k, every, points or None)
  return walked, int(some.sum())


def histories(cases: Cases, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What the users of cases had before; rows (indptr, indices)."""
  parts = [
    distinct_rows(cases.seen(index[start : start + _CASES]))
    for start in range(0, len(index), _CASES)
  ]
  lengths = np.concatenate([np.diff(indptr) for indptr, _ in parts])
  return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([items for _, items in parts])
