"""Evaluator: how much of the noise in noised samples a diffusion model tells."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.views.rows import Cases
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


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluation."""

  repeats: Positive = 4  # noises and times drawn for each sample
  batch_size: Positive = 1024
  seed: Count = 0


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluation; the returned run(variables) compiles once.

  The value `explained` is 1 - mean squared error of the predicted noise, whose variance is 1: 0 for a
  model that predicts no noise at all. Noises and times depend on config.seed alone.

  Raises:
    ConfigError: the model has no `denoising_error`.
    DataError: no cases.
  """
  require(predict, ("denoising_error",), "denoising")
  require_cases(cases.rows.count)
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)

  def step(variables, batch):
    key = jax.random.fold_in(jax.random.key(config.seed), batch["index"][0])
    error = lambda k: predict["denoising_error"](variables, batch["rows"], k)
    return jnp.mean(jax.lax.map(error, jax.random.split(key, config.repeats)), axis=0)

  step = compile_step(step, mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      yield {"rows": cases.rows.gather(np, cases.rows.columns, index), "index": index}, valid

  def run(variables) -> Evaluation:
    explained = 1.0 - np.asarray(run_batches(step, variables, feed(), mesh), np.float64)
    values = {"explained": float(explained.mean())}
    return Evaluation(
      values, {"explained": explained}, cases.user, None, {"samples": len(explained)}
    )

  return run
