"""Evaluator: click probabilities against clicks, over all rows and inside groups."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from scipy.special import expit

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import click
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
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the click evaluation."""

  ties: str = "half"  # what a tie inside a group is worth; "wrong" matches the official DIN code
  negative_keep_rate: float = 1.0  # share of negatives that training kept; corrects probabilities
  bins: Positive = 10  # of the calibration error
  batch_size: Positive = 4096  # rows scored at once

  def __post_init__(self):
    if self.ties not in click.TIES:
      raise ConfigError(unknown("treatment of ties", self.ties, click.TIES))
    click.check_keep_rate(self.negative_keep_rate)


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares a click evaluation; the returned run(variables) compiles once.

  Rows hold `label` [B], or [B, C] for C candidates of one history, and may hold `weight` (rows of
  weight 0 are padding and left out) and `group_id` [B]. The model does not see label and weight.
  Values are auc, logloss, calibration (mean prediction over mean label), calibration_error and,
  where rows have a group_id, gauc and avg_auc. Cases of the result are the groups with both
  classes; the auc of each is its value of `gauc`.

  Args:
    config: settings.
    predict: needs `score`.
    cases: only `rows` is read.
    mesh: rows are split over its data axis.
    catalogue: taken because every evaluator is built alike; not read.

  Raises:
    ConfigError: the model has no `score`.
    DataError: no rows, or (from run) labels, weights or scores that cannot be evaluated.
  """
  require(predict, ("score",), "ctr")
  require_cases(cases.rows.count)
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  step = compile_step(lambda variables, batch: score_rows(predict["score"], variables, batch), mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      yield cases.rows.gather(np, cases.rows.columns, index), valid

  def run(variables) -> Evaluation:
    rows = flatten_rows(run_batches(step, variables, feed(), mesh))
    label, logit = rows["label"], rows["logit"]
    # Thinning negatives at rate w divides the odds of a click by w.
    corrected = logit + np.log(config.negative_keep_rate)
    values = {
      "auc": click.auc(label, logit),
      "logloss": click.logloss(label, corrected),
      "calibration": click.calibration_ratio(label, expit(corrected)),
      "calibration_error": click.calibration_error(label, expit(corrected), config.bins),
    }
    facts = {"rows": len(label), "clicks": int(label.sum())}
    if "group_id" not in rows:
      return Evaluation(values, {}, np.zeros(0, np.int32), None, facts)

    groups = click.grouped_auc(rows["group_id"], label, logit, config.ties)
    values |= {"gauc": groups.gauc, "avg_auc": groups.avg_auc}
    facts |= {"groups": len(groups.group), "groups_of_one_class": groups.dropped}
    return Evaluation(values, {"gauc": groups.auc}, groups.group, None, facts)

  return run


def score_rows(
  score: Callable, variables: Any, batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """Logits next to the truth: `logit`, `label` and, if the batch has them, `weight`, `group_id`."""
  features = {name: value for name, value in batch.items() if name not in ("label", "weight")}
  truth = {name: batch[name] for name in ("label", "weight", "group_id") if name in batch}
  return {"logit": score(variables, features), **truth}


def flatten_rows(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Rows [n] or [n, C] as lists of all scored pairs [m], those of weight 0 left out.

  Weight and group_id may be [n] where label and logit are [n, C]. Raises DataError for weights
  other than 0 and 1, and for labels that do not have the shape of the scores.
  """
  shape = rows["logit"].shape
  if rows["label"].shape != shape:
    raise DataError(
      f"Scores of shape {shape} do not pair up with labels of shape {rows['label'].shape}."
    )
  wide = {
    name: value if value.shape == shape else np.broadcast_to(value[:, None], shape)
    for name, value in rows.items()
  }
  weight = wide.pop("weight", np.ones(shape))
  if not ((weight == 0) | (weight == 1)).all():
    raise DataError("Rows to evaluate must have weight 1, or 0 for padding.")
  return {name: value[weight == 1] for name, value in wide.items()}
