"""Evaluator: what the several interest vectors of a user have in common, and what they cover.

- redundancy: mean cosine of two interests of a user;
- dependence: mean HSIC over users of two interests (`evaluate.dependence`);
- interest_coverage: of the categories that a user's history holds often, the share that is nearest to
  some interest.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import strata
from recjax.evaluate.dependence import gaussian_hsic
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
from recjax.ranges import Positive, Share

METRICS = ("redundancy", "dependence", "interest_coverage")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluator."""

  # A category that a user's interests should cover holds at least this share of the real history.
  often: Share = 0.05
  most: Positive = 1000  # users that dependence is measured on, evenly spaced; memory is its square
  by_column: str = ""  # also values of cases by the value of this event column at their first target
  batch_size: Positive = 256  # users encoded at once

  def __post_init__(self):
    if not self.often:
      raise ConfigError("often=0 would ask for every category; take a positive share.")


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluator; the returned run(variables) compiles once.

  Counted are cases with a history. The vector of a category is the mean of its items' vectors, and the
  nearest has the largest dot product. A value that is not defined is NaN, and `facts` say why: a model
  with one vector a user, or one whose users are no vectors, has none of them; a model without
  `encode_items`, or items without categories, no coverage. `facts` also have the sizes of strata.

  Raises:
    ConfigError: the model has no `encode_user`, or nobody knows the events' columns.
    DataError: no cases, none with a history, or (from run) vectors that are not finite.
  """
  require(predict, ("encode_user",), "interests")
  require_catalogue(catalogue, "interests")
  require_cases(cases.rows.count)
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  every = np.arange(cases.rows.count, dtype=np.int32)
  history = cases.rows.gather(np, cases.rows.columns, every)
  mask = history["hist_mask"]
  counted = mask.any(axis=1)
  if not counted.any():
    raise DataError("None of the cases has a history, so nobody has interests.")
  parts = strata.by_column(cases, config.by_column) if config.by_column else {}
  parts = {name: inside[counted] for name, inside in parts.items()}
  often = None
  if catalogue.categories is not None:
    held = np.where(mask, np.asarray(catalogue.categories)[history["hist_item"]], 0)[counted]
    often = frequent(held, mask[counted].sum(axis=1), int(catalogue.categories.max()), config.often)
  step = compile_step(predict["encode_user"], mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      yield cases.rows.gather(np, cases.rows.columns, index), valid

  def run(variables) -> Evaluation:
    state = jax.tree.leaves(run_batches(step, variables, feed(), mesh))
    users = state[0][counted]
    per_case, facts = {}, {"cases": len(users)}
    nothing = dict.fromkeys(METRICS, float("nan"))
    if len(state) > 1 or users.ndim != 3 or users.shape[1] < 2:
      facts["not_defined"] = "the model does not give a user several vectors"
      values = nothing | {f"{m} {name}": float("nan") for m in METRICS for name in parts}
      return Evaluation(values, {}, np.zeros(0, np.int32), None, facts)
    if not np.isfinite(users).all():
      raise DataError("Some interests are NaN or infinite, so they cannot be compared.")
    users = users.astype(np.float64)
    per_case["redundancy"] = redundancy(users)
    if often is None:
      facts["no_coverage"] = "the items have no categories"
    elif "encode_items" not in predict:
      facts["no_coverage"] = "the model does not offer 'encode_items'"
    else:
      items = np.arange(catalogue.num_items + 1, dtype=np.int32)
      vectors = np.asarray(jax.jit(predict["encode_items"])(variables, items), np.float64)
      centres = category_vectors(vectors, catalogue.categories)
      per_case["interest_coverage"] = coverage(users, often, centres)
    values = {}
    for suffix, inside in {"": np.ones(len(users), bool), **parts}.items():
      named = lambda metric, suffix=suffix: f"{metric} {suffix}".strip()
      for metric in METRICS:
        # Where no case has a value, there is no mean.
        chosen = per_case.get(metric, np.zeros(len(users)) * np.nan)[inside]
        defined = chosen[~np.isnan(chosen)]
        values[named(metric)] = float(defined.mean()) if len(defined) else float("nan")
      values[named("dependence")] = mean_dependence(users[inside], config.most)
      if suffix:
        facts[f"cases {suffix}"] = int(inside.sum())
    return Evaluation(values, per_case, cases.user[counted], None, facts)

  return run


def frequent(held: np.ndarray, length: np.ndarray, most: int, often: float) -> np.ndarray:
  """Whether each category 1 .. most is often in each row; bool [n, most].

  `held` [n, L] has categories, or several of each item [n, L, C], 0 for padding; `length` [n] the
  number of real behaviours.
  """
  table = np.zeros((len(held), most + 1))
  held = held.reshape(len(held), -1)
  np.add.at(table, (np.arange(len(held))[:, None], held), 1.0)
  return table[:, 1:] >= np.maximum(often * length, 1.0)[:, None]


def redundancy(users: np.ndarray) -> np.ndarray:
  """Mean cosine of two different interests of each user, [n], of [n, K, D]; a zero vector counts 0."""
  unit = users / np.maximum(np.linalg.norm(users, axis=2, keepdims=True), 1e-30)
  interests = users.shape[1]
  cosines = np.einsum("nkd,njd->nkj", unit, unit)
  own = np.trace(cosines, axis1=1, axis2=2)
  return (cosines.sum(axis=(1, 2)) - own) / (interests * (interests - 1))


def category_vectors(vectors: np.ndarray, categories: np.ndarray) -> np.ndarray:
  """Mean vector of the items of each category 1 .. C, [C, D]; NaN where there is none.

  `vectors` [V, D] and `categories` [V] or [V, A] begin with padding.
  """
  categories = np.asarray(categories).reshape(len(vectors), -1)
  item, place = np.nonzero(categories)
  total = np.zeros((int(categories.max()) + 1, vectors.shape[1]))
  np.add.at(total, categories[item, place], vectors[item])
  count = np.bincount(categories[item, place], minlength=len(total)).astype(np.float64)
  count[count == 0] = np.nan
  return total[1:] / count[1:, None]


def coverage(users: np.ndarray, often: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Share of each user's frequent categories [n, C] that are nearest to some interest of [n, K, D].

  `centres` are vectors [C, D] of the categories, NaN for none. NaN for a user without such a category.
  """
  exists = np.isfinite(centres).all(axis=1)
  covered = np.zeros(often.shape, bool)
  for interest in range(users.shape[1]):
    scores = np.where(exists, users[:, interest] @ np.nan_to_num(centres).T, -np.inf)
    covered[np.arange(len(users)), scores.argmax(axis=1)] = True
  wanted = often.sum(axis=1).astype(np.float64)
  wanted[wanted == 0] = np.nan
  return (covered & often).sum(axis=1) / wanted


def mean_dependence(users: np.ndarray, most: int) -> float:
  """Mean over pairs of interests of their HSIC over the users [n, K, D], at most `most` of them."""
  users = users[:: -(-len(users) // most)] if len(users) > most else users
  pairs = itertools.combinations(range(users.shape[1]), 2)
  return float(np.mean([gaussian_hsic(users[:, a], users[:, b]) for a, b in pairs]))
