"""Evaluator: how much of a user attribute shows in recommended lists and in user vectors.

A logistic regression is fitted afterwards, whatever the model was trained against, in folds over
users: on what the top k of each user hold, and on prediction functions that give user vectors. A probe
at an AUC of .5, or at the accuracy of always guessing the largest class, finds nothing.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate.evaluation import (
  Catalogue,
  Evaluation,
  batches,
  compile_step,
  fit_batch_size,
  require,
  require_cases,
  require_catalogue,
  run_batches,
)
from recjax.evaluate.probe import folds, macro_f1, probe
from recjax.evaluate.topk import top_items
from recjax.ranges import Count, Positive, Weight
from recjax.registry import unknown

FEATURES = ("categories", "items")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the probes."""

  k: Positive = 10  # length of the lists
  features: str = "categories"  # categories | items: what of a list the probe counts
  states: tuple[str, ...] = ()  # prediction functions of user vectors [B, D] to probe as well
  history: bool = False  # also probe the history, counted like a list: what there is to be known
  folds: Positive = 5
  l2: Weight = 1.0  # of the ridge penalty l2 / 2 |W|^2
  seed: Count = 0  # of the folds
  batch_size: Positive = 256  # users scored at once
  block_size: Positive = 16384  # items scored at once

  def __post_init__(self):
    if self.features not in FEATURES:
      raise ConfigError(unknown("features of lists", self.features, FEATURES))
    if self.folds < 2:
      raise ConfigError("A probe needs two folds or more, to judge on what it was not fitted on.")


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares the probes; the returned run(variables) compiles once.

  Rows hold `attribute` [B], 0 where it is unknown; those cases are left out. Lists leave out what a
  user has seen. Values are probe_auc_X, probe_f1_X (macro) and probe_accuracy_X for X = list, history
  and every state, majority_accuracy and majority_f1 of guessing the largest class, and abs_cosine_A_B,
  the mean |cosine| of each pair of states. A state that the model does not offer is NaN, and named in
  `facts`.

  Raises:
    ConfigError: rows have no attribute, items no categories, or the model cannot score a catalogue.
    DataError: too few cases of a class, or (from run) scores or states that are not finite.
  """
  require(predict, ("encode_user", "score_items"), "attribute_probe")
  require_catalogue(catalogue, "attribute_probe")
  require_cases(cases.rows.count)
  if "attribute" not in cases.rows.schema.fields:
    raise ConfigError(
      "attribute_probe needs rows with an attribute: the view 'sessions' with view.attribute."
    )
  if config.features == "categories" and catalogue.categories is None:
    raise ConfigError("attribute_probe counts categories, and these items have none: features=items.")
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  index = np.arange(cases.rows.count, dtype=np.int32)
  attribute = cases.rows.gather(np, cases.rows.columns, index)["attribute"]
  known = attribute != 0
  label = np.unique(attribute[known], return_inverse=True)[1]
  fold = folds(cases.user[known], label, config.folds, config.seed)
  offered = [name for name in config.states if name in predict]

  def step(variables, batch):
    ids, scores = top_items(
      predict, variables, batch["rows"], batch["seen"], num_items=catalogue.num_items,
      block=config.block_size, k=config.k, mesh=mesh,
    )
    return ids, scores, {name: predict[name](variables, batch["rows"]) for name in offered}

  step = compile_step(step, mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      rows = cases.rows.gather(np, cases.rows.columns, index)
      rows = {name: value for name, value in rows.items() if name != "attribute"}
      yield {"rows": rows, "seen": cases.seen(index)}, valid

  def run(variables) -> Evaluation:
    ids, scores, states = run_batches(step, variables, feed(), mesh)
    if np.isposinf(scores).any():
      raise DataError("The model scores some items NaN or infinite, so they cannot be ranked.")
    count = lambda lists: counted(lists[known], catalogue, config.features)
    values = named(probe(count(ids), label, fold, config.l2, False), "list")
    if config.history:
      values |= named(probe(count(cases.seen(index)), label, fold, config.l2, False), "history")
    vectors = {name: np.asarray(state, np.float64)[known] for name, state in states.items()}
    for name in config.states:
      nothing = (float("nan"),) * 3
      found = probe(vectors[name], label, fold, config.l2, True) if name in vectors else nothing
      values |= named(found, name)
    for a, b in itertools.combinations(config.states, 2):
      both = a in vectors and b in vectors
      values[f"abs_cosine_{a}_{b}"] = abs_cosine(vectors[a], vectors[b]) if both else float("nan")
    largest = np.full(len(label), np.bincount(label).argmax())
    values["majority_accuracy"] = float((label == largest).mean())
    values["majority_f1"] = macro_f1(label, largest, int(label.max()) + 1)
    facts = {
      "probed_cases": len(label), "cases_of_unknown_attribute": int((~known).sum()),
      "cases_by_class": np.bincount(label).tolist(),
    }
    missing = [name for name in config.states if name not in predict]
    if missing:
      facts["states_not_offered"] = missing
    return Evaluation(values, {}, np.zeros(0, np.int32), ids, facts)

  return run


def counted(lists: np.ndarray, catalogue: Catalogue, features: str) -> np.ndarray:
  """How often each item or category is in each list [n, k]; float64 [n, F], padding 0 not counted."""
  codes, size = lists, catalogue.num_items + 1
  if features == "categories":
    codes, size = np.asarray(catalogue.categories)[lists], int(catalogue.categories.max()) + 1
  table = np.zeros((len(lists), size))
  np.add.at(table, (np.arange(len(lists))[:, None], codes), lists != 0)
  return table[:, 1:]


def abs_cosine(left: np.ndarray, right: np.ndarray) -> float:
  """Mean |cosine| of vectors [n, D]; a zero vector counts 0."""
  norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
  return float(np.mean(np.abs((left * right).sum(axis=1)) / np.maximum(norms, 1e-30)))


def named(found, name: str) -> dict[str, float]:
  """The values of a probe by the names of the evaluator."""
  return dict(zip((f"probe_{v}_{name}" for v in ("auc", "f1", "accuracy")), found, strict=True))
