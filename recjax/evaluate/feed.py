"""Evaluator: lists of videos of a feed, by what users like in truth, and what lists lean towards."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import scipy.stats

from recjax.data.views.rows import FeedCases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import beyond_accuracy, vector_health
from recjax.evaluate.evaluation import (
  Catalogue,
  Evaluation,
  batches,
  compile_step,
  fit_batch_size,
  require,
  require_cases,
  run_batches,
)
from recjax.ranges import Positive


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluation."""

  k: Positive = 10  # length of lists
  batch_size: Positive = 128  # users, videos or products at once


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: FeedCases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluation; the returned run(variables) compiles once.

  Values, means over users; the gain of a video is its truth, how much the user likes it:
    ndcg@k known, ndcg@k new: of lists among the known and among the new videos alone.
    liked@k: mean gain of the k best of all videos; new@k: share of new videos among them.
    coverage@k, gini@k: of these lists.
    duration: Spearman correlation of scores with durations; length@k: mean duration of lists over that
      of all videos.
    slot_gap: size of the mean difference between the Spearman correlations of scores and of the truth
      with the mean slots of videos in the log.
    effective_rank, mean_cosine: of the vectors of videos, where they are vectors.

  Raises:
    ConfigError: the model has no `encode_videos` and `score_feed`, or the cases are none of a feed.
    DataError: no cases, fewer than k new or known videos, or (from run) scores that are not finite.
  """
  del catalogue
  require(predict, ("encode_videos", "score_feed"), "feed")
  if not isinstance(cases, FeedCases):
    raise ConfigError("Evaluator 'feed' ranks the videos of a feed: take the view 'feed'.")
  require_cases(cases.rows.count)
  known, k = cases.known[1:], config.k
  groups = {"known": known, "new": ~known}
  for name, chosen in groups.items():
    if chosen.sum() < k:
      raise DataError(f"Lists of {k} cannot be made of {chosen.sum()} {name} videos.")
  sizes = {
    name: fit_batch_size(config.batch_size, getattr(cases, name).count, mesh)
    for name in ("rows", "videos", "products")
  }
  encode = {
    name: compile_step(predict[f"encode_{name}"], mesh)
    for name in ("videos", "products") if f"encode_{name}" in predict
  }
  score_feed = compile_step(predict["score_feed"], mesh)
  # The catalogue goes with the variables: users are cut over devices, it is not.
  score = lambda given, users: score_feed(given[0], users, *given[1:])
  truth = cases.truth(cases.user)[:, 1:]

  def feed(name):
    rows = getattr(cases, name)
    for index, valid in batches(rows.count, sizes[name]):
      yield rows.gather(np, rows.columns, index), valid

  def run(variables) -> Evaluation:
    made = {name: run_batches(step, variables, feed(name), mesh) for name, step in encode.items()}
    given = (variables, made["videos"], made.get("products"))
    scores = run_batches(score, given, feed("rows"), mesh)[:, 1:]
    if not np.isfinite(scores).all():
      raise DataError("The model gives scores that are not finite.")
    per_case = {f"ndcg@{k} {g}": graded_ndcg(scores[:, m], truth[:, m], k) for g, m in groups.items()}
    lists = 1 + best(scores, k)
    per_case[f"liked@{k}"] = np.take_along_axis(truth, lists - 1, axis=1).mean(axis=1)
    per_case[f"new@{k}"] = (~known)[lists - 1].mean(axis=1)
    duration, slot = cases.duration[1:].astype(np.float64), cases.slot[1:]
    per_case["duration"] = rank_correlations(scores, duration)
    values = {name: float(value.mean()) for name, value in per_case.items()}
    values[f"coverage@{k}"] = beyond_accuracy.coverage(lists, len(known))
    values[f"gini@{k}"] = beyond_accuracy.gini(lists, len(known))
    values[f"length@{k}"] = float(duration[lists - 1].mean() / duration.mean())
    seen = np.isfinite(slot)
    lean = [rank_correlations(x[:, seen], slot[seen]) for x in (scores, truth)]
    values["slot_gap"] = float(abs((lean[0] - lean[1]).mean()))
    if isinstance(made["videos"], np.ndarray):
      values["effective_rank"] = vector_health.effective_rank(made["videos"][1:])
      values["mean_cosine"] = vector_health.mean_cosine(made["videos"][1:])
    facts = {"cases": len(cases.user), "new videos": int((~known).sum())}
    return Evaluation(values, per_case, cases.user, lists, facts)

  return run


def best(scores: np.ndarray, k: int) -> np.ndarray:
  """Columns int [n, k] of the largest scores [n, V], best first, of equals the lower."""
  return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def graded_ndcg(scores: np.ndarray, gains: np.ndarray, k: int) -> np.ndarray:
  """sum_j g_j / log2(j + 1) of the k best by scores [n, V], over the largest possible."""
  weight = 1 / np.log2(np.arange(2, k + 2))
  reached = np.take_along_axis(gains, best(scores, k), axis=1) @ weight
  return reached / (np.sort(gains, axis=1)[:, ::-1][:, :k] @ weight)


def rank_correlations(scores: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Spearman correlation of each row of scores [n, V] with other [V]; 0 of a row of equals."""
  centre = lambda x: x - x.mean(axis=-1, keepdims=True)
  rows, ranks = centre(scipy.stats.rankdata(scores, axis=1)), centre(scipy.stats.rankdata(other))
  length = np.linalg.norm(rows, axis=1) * np.linalg.norm(ranks)
  return np.divide(rows @ ranks, length, out=np.zeros(len(rows)), where=length > 0)
