"""Evaluator: the right answers against the whole catalogue, what each user has seen left out."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError
from recjax.evaluate import beyond_accuracy, ranking, strata, top_lists
from recjax.evaluate.evaluation import Catalogue, Evaluation, compile_step, require
from recjax.ranges import Count, Positive
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the full ranking."""

  cutoffs: tuple[Positive, ...] = (1, 5, 10, 20)  # list lengths k of hr@k, ndcg@k, ...
  # Ideal list of ndcg with several targets, or "retrieved" (NGCF's code), or "both": the second is
  # then called ndcg_retrieved@k.
  ideal: str = "relevant"
  keep_seen: bool = False  # rank also what a user has seen, where people come back to items
  beyond_accuracy: bool = True  # also coverage, Gini, popularity, novelty, diversity of the lists
  spread: bool = False  # also spread@k of the lists, by the model's vectors of items
  # Also metrics of cases by how often the target followed the last item in training: least counts,
  # ascending from 0; (0, 1, 2, 5) for 0, 1, 2-4 and 5+.
  by_transitions: tuple[Count, ...] = ()
  by_column: str = ""  # also metrics of cases by the value of this event column at their first target
  batch_size: Positive = 256  # users scored at once
  block_size: Positive = 16384  # items scored at once; memory is batch_size x block_size scores

  def __post_init__(self):
    if not self.cutoffs:
      raise ConfigError("cutoffs are the lengths of lists, at least one of them.")
    if self.ideal not in (*ranking.IDEALS, "both"):
      raise ConfigError(unknown("ideal list for ndcg", self.ideal, (*ranking.IDEALS, "both")))
    if self.by_transitions:
      strata.check_least(self.by_transitions)


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares a full ranking; the returned run(variables) compiles once.

  Values are hr@k, ndcg@k, mrr@k, recall@k, precision@k, map@k (means over users with a target) and,
  for the longest lists, coverage@k, gini@k, popularity@k, novelty@k and, where items have
  categories, diversity@k; with `spread` also spread@k. Items a user has seen cannot be recommended; a
  case all of whose targets were seen is therefore impossible, counts as a miss, and is reported in
  `facts`. With `keep_seen` everything is ranked. With `by_transitions` or `by_column` hr@k and ndcg@k
  of each stratum are there, too, as in "hr@10 transitions 2-4" or "hr@10 kind click"; NaN where it is
  empty. `facts` has their sizes.

  Raises:
    ConfigError: the model cannot score a catalogue (no `encode_user` or `score_items`), has no vectors
      of items (`encode_items`) to take the spread of, or nobody counted the transitions or knows the
      events' columns.
    DataError: no cases, none with a target, or (from run) scores that are NaN or infinite.
  """
  longest = max(config.cutoffs)
  counted, rank = top_lists.build(
    predict, cases, mesh=mesh, catalogue=catalogue, evaluator="full_ranking", length=longest,
    batch_size=config.batch_size, block_size=config.block_size, keep_seen=config.keep_seen, ties=True,
  )
  if config.spread:
    require(predict, ("encode_items",), "full_ranking")
    vectors_of = compile_step(predict["encode_items"], mesh)
  num_targets = ranking.count_targets(cases.targets)
  parts = {}
  if config.by_transitions:
    parts |= strata.by_transitions(cases, catalogue, config.by_transitions)
  if config.by_column:
    parts |= strata.by_column(cases, config.by_column)

  def run(variables) -> Evaluation:
    ids, scores, *_, facts = rank(variables)
    hits = ranking.hits_of_lists(ids, scores, cases.targets[counted])
    metrics = lambda ideal: ranking.ranking_metrics(
      hits, num_targets[counted], config.cutoffs, ideal
    )
    per_case = metrics("relevant" if config.ideal == "both" else config.ideal)
    if config.ideal == "both":
      retrieved = metrics("retrieved")
      per_case |= {f"ndcg_retrieved@{k}": retrieved[f"ndcg@{k}"] for k in config.cutoffs}
    values = {name: float(value.mean()) for name, value in per_case.items()}
    inside = {name: mask[counted] for name, mask in parts.items()}
    values |= strata.means(per_case, inside)
    lists = ids[:, :longest]
    if config.beyond_accuracy:
      values |= describe_lists(lists, catalogue)
    if config.spread:
      vectors = np.asarray(vectors_of(variables, np.arange(catalogue.num_items + 1)))
      values[f"spread@{longest}"] = beyond_accuracy.spread(lists, vectors)
    facts = facts | {f"cases {name}": int(mask.sum()) for name, mask in inside.items()}
    return Evaluation(values, per_case, cases.user[counted], lists, facts)

  return run


def describe_lists(lists: np.ndarray, catalogue: Catalogue) -> dict[str, float]:
  """The values of `beyond_accuracy` for lists [n, k], named coverage@k and so on."""
  k = lists.shape[1]
  values = {
    f"coverage@{k}": beyond_accuracy.coverage(lists, catalogue.num_items),
    f"gini@{k}": beyond_accuracy.gini(lists, catalogue.num_items),
    f"popularity@{k}": beyond_accuracy.popularity(lists, catalogue.train_counts),
    f"novelty@{k}": beyond_accuracy.novelty(lists, catalogue.train_counts),
  }
  if catalogue.categories is not None:
    values[f"diversity@{k}"] = beyond_accuracy.diversity(lists, catalogue.categories)
  return values
