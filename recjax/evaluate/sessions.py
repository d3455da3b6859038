"""Evaluator: the right answer of a session among its other candidates, session by session."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import click, ranking
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
from recjax.ranges import Count, Positive

_FIELDS = ("target_item", "label", "weight", "session")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the session metrics."""

  cutoffs: tuple[Positive, ...] = (5, 10)  # k of session_ndcg@k
  # Also the AUC among candidates of these categories only, by name: {"neutral": (1, 2)}.
  within: Mapping[str, tuple[Count, ...]] = dataclasses.field(default_factory=dict)
  batch_size: Positive = 256  # rows scored at once


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares session metrics; the returned run(variables) compiles once.

  Rows hold target_item, label, weight and session [B, C]: candidates of several sessions of a case,
  each with one right answer (the view 'sessions'). Values are means over sessions: session_auc (ties
  count half), session_mrr and session_ndcg@k (ties count against the right answer), and
  "session_auc NAME" for each of `within`, over sessions that still have a right and a wrong candidate;
  NaN where none has.

  Raises:
    ConfigError: the model has no `score`, rows have no sessions, or items no categories.
    DataError: no cases, or (from run) scores that are NaN, or sessions without one right answer.
  """
  require(predict, ("score",), "sessions")
  require_cases(cases.rows.count)
  missing = [name for name in _FIELDS if name not in cases.rows.schema.fields]
  if missing:
    raise ConfigError(f"Evaluator 'sessions' needs the field {missing[0]!r}: take the view 'sessions'.")
  if config.within and (catalogue is None or catalogue.categories is None):
    raise ConfigError("sessions.within names categories, and these items have none.")
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  step = compile_step(predict["score"], mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      rows = cases.rows.gather(np, cases.rows.columns, index)
      yield {name: value for name, value in rows.items() if name not in _FIELDS[1:]}, valid

  index = np.arange(cases.rows.count, dtype=np.int32)
  truth = cases.rows.gather(np, cases.rows.columns, index)
  real = truth["weight"] > 0
  most = int(truth["session"].max(initial=0)) + 1
  number = (index[:, None].astype(np.int64) * most + truth["session"])[real]
  sessions, group = np.unique(number, return_inverse=True)
  label, item = truth["label"][real], truth["target_item"][real]
  user = cases.user[sessions // most]
  parts = {
    name: np.isin(catalogue.categories[item], categories)
    for name, categories in config.within.items()
  }

  def run(variables) -> Evaluation:
    score = run_batches(step, variables, feed(), mesh)[real]
    auc = click.grouped_auc(group, label, score)
    rank = ranks(group, label, score, len(sessions))
    longest = max(config.cutoffs, default=1)
    metrics = ranking.ranking_metrics(
      ranking.hits_of_ranks(rank, longest), np.ones(len(rank), np.int64), config.cutoffs or (1,)
    )
    per_case = {"session_auc": auc.auc, "session_mrr": 1.0 / (1.0 + rank)}
    per_case |= {f"session_ndcg@{k}": metrics[f"ndcg@{k}"] for k in config.cutoffs}
    values = {name: float(value.mean()) for name, value in per_case.items()}
    facts = {"sessions": len(sessions), "cases": cases.rows.count}
    for name, inside in parts.items():
      values[f"session_auc {name}"], facts[f"sessions {name}"] = float("nan"), 0
      if inside.any():
        found = click.grouped_auc(group[inside], label[inside], score[inside])
        values[f"session_auc {name}"] = found.avg_auc
        facts[f"sessions {name}"] = len(found.group)
    return Evaluation(values, per_case, user, None, facts)

  return run


def ranks(group: np.ndarray, label: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
  """0-based rank of the one right answer of each group 0 .. count - 1, ties against it; int64 [count].

  Raises DataError for a group without exactly one, or with no other candidate.
  """
  right = label > 0
  if not (np.bincount(group[right], minlength=count) == 1).all():
    raise DataError("Every session to evaluate needs exactly one right answer.")
  if np.bincount(group, minlength=count).min() < 2:
    raise DataError("Every session to evaluate needs a candidate beside the right answer.")
  own = np.zeros(count)
  own[group[right]] = score[right]
  return np.bincount(group, (score >= own[group]) & ~right, minlength=count).astype(np.int64)
