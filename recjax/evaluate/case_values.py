"""Evaluator: the mean over cases of a value that the model itself gives for each, by a function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError
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
  """Settings."""

  # Prediction function (variables, batch) -> values [B] and weights [B], 0 where a case has no value.
  function: str = ""
  batch_size: Positive = 256  # cases at once

  def __post_init__(self):
    if not self.function:
      raise ConfigError("case_values.function names a prediction function of the model.")


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares the mean; the returned run(variables) compiles once.

  The function gets the rows of the cases with their first right answer as target_item [B]. The value
  bears its name; it is NaN where no case has one. `facts` has the number of cases that do.

  Raises:
    ConfigError: the model has no such function.
    DataError: no cases.
  """
  del catalogue
  require(predict, (config.function,), "case_values")
  require_cases(cases.rows.count)
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  step = compile_step(predict[config.function], mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      rows = cases.rows.gather(np, cases.rows.columns, index)
      yield {**rows, "target_item": cases.targets[index, 0]}, valid

  def run(variables) -> Evaluation:
    values, weights = run_batches(step, variables, feed(), mesh)
    counted = weights > 0
    mean = float(values[counted].mean()) if counted.any() else float("nan")
    name, facts = config.function, {f"cases of {config.function}": int(counted.sum())}
    return Evaluation({name: mean}, {name: values[counted]}, cases.user[counted], None, facts)

  return run
