"""Evaluator: whether items that belong together are near one another."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import DataError
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

_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluation."""

  k: Positive = 10  # neighbours looked at
  batch_size: Positive = 1024


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluation; the returned run(variables) compiles once.

  The value `precision@k` is the share of a case's k nearest others (by inner product, ties in order of
  the cases) that have its first answer; `chance@k` what any k others would have.

  Raises:
    ConfigError: the model has no `encode`.
    DataError: k cases or fewer.
  """
  require(predict, ("encode",), "neighbours")
  require_cases(cases.rows.count)
  if cases.rows.count <= config.k:
    raise DataError(f"{cases.rows.count} cases have no {config.k} others.")
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  step = compile_step(predict["encode"], mesh)
  answer = cases.targets[:, 0]

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      yield cases.rows.gather(np, cases.rows.columns, index), valid

  def run(variables) -> Evaluation:
    precision = precision_at(run_batches(step, variables, feed(), mesh), answer, config.k)
    size = np.bincount(answer)[answer]
    chance = float(((size - 1) / (len(answer) - 1)).mean())
    values = {f"precision@{config.k}": float(precision.mean()), f"chance@{config.k}": chance}
    return Evaluation(
      values, {f"precision@{config.k}": precision}, cases.user, None, {"cases": len(answer)}
    )

  return run


def precision_at(vectors: np.ndarray, answer: np.ndarray, k: int) -> np.ndarray:
  """Share [n] of the k nearest others of vectors [n, M] with the same answer [n]."""
  found = np.empty(len(vectors))
  for start in range(0, len(vectors), _BLOCK):
    near = vectors[start : start + _BLOCK] @ vectors.T
    own = np.arange(len(near))
    near[own, start + own] = -np.inf
    best = np.argsort(-near, axis=1, kind="stable")[:, :k]
    found[start : start + _BLOCK] = (answer[best] == answer[start + own][:, None]).mean(1)
  return found
