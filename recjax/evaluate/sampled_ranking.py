"""Evaluator: the right answer against a few sampled negatives, for papers that report only this.

Its numbers say little about full ranking (a target at place 35 of 12,101 items is first among 99
uniform negatives three times out of four), so all names carry a prefix: `sampled99_hr@10`, or
`sampled99_popularity_hr@10` where negatives are drawn by popularity.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate import ranking, strata
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
from recjax.ranges import Count, Positive
from recjax.registry import unknown

SAMPLING = ("uniform", "popularity")
ROUNDS = 64  # of 2 x negatives draws; only a user who has seen nearly everything needs many


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the sampled ranking."""

  negatives: Positive = 99  # items each target is ranked against
  sampling: str = "uniform"  # or "popularity", in proportion to training events
  seed: Count = 0  # of the draw; a user's negatives depend on this and on the user only
  cutoffs: tuple[Positive, ...] = (1, 5, 10)  # list lengths k of hr@k, ndcg@k, ...
  by_column: str = ""  # also metrics of cases by the value of this event column at their target
  batch_size: Positive = 256  # users scored at once

  def __post_init__(self):
    if self.sampling not in SAMPLING:
      raise ConfigError(unknown("sampling of negatives", self.sampling, SAMPLING))
    if not self.cutoffs or max(self.cutoffs) > self.negatives:
      raise ConfigError(
        f"cutoffs must be between 1 and the {self.negatives} negatives, got {self.cutoffs}."
      )


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
) -> Callable[[Any], Evaluation]:
  """Prepares a sampled ranking; the returned run(variables) compiles once.

  The model's `score` gets candidates [B, 1 + negatives] as `target_item`, the target first.
  Negatives are distinct, unseen by the user, and not the target. Values are the metrics of
  `ranking_metrics` over users with a target, with the prefix of the module's docstring. With
  `by_column` hr@k and ndcg@k of each stratum are there, too, as in "sampled99_hr@5 kind search".

  Raises:
    ConfigError: the model has no `score`, or rows hold ids of the target beside `target_item`
      (its category, say), which would describe the target in the place of a negative, or nobody
      knows the events' columns.
    DataError: no cases, none with a target, several targets in a case, or (from run) a user with
      too few unseen items, or scores that are NaN.
  """
  require(predict, ("score",), "sampled_ranking")
  require_catalogue(catalogue, "sampled_ranking")
  require_cases(cases.rows.count)
  for name, field in cases.rows.schema.fields.items():
    if name.startswith("target_") and name != "target_item" and field.vocabulary is not None:
      raise ConfigError(f"sampled_ranking cannot fill field {name!r} for negatives; leave it out.")
  num_targets = ranking.count_targets(cases.targets)
  counted = num_targets == 1
  if num_targets.max() > 1:
    raise DataError("Sampled ranking takes one target a case; use full ranking for several.")
  if not counted.any():
    raise DataError("None of the cases has a target, so there is nothing to rank.")
  batch_size = fit_batch_size(config.batch_size, cases.rows.count, mesh)
  target = cases.targets.max(axis=1)
  weights = _item_weights(config.sampling, catalogue)
  parts = strata.by_column(cases, config.by_column) if config.by_column else {}
  inside = {name: mask[counted] for name, mask in parts.items()}
  prefix = f"sampled{config.negatives}_" + ("popularity_" * (config.sampling == "popularity"))
  step = compile_step(predict["score"], mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      excluded = np.concatenate([cases.seen(index), target[index][:, None]], axis=1)
      negatives = draw_negatives(
        cases.user[index], excluded, weights, config.negatives, config.seed
      )
      rows = cases.rows.gather(np, cases.rows.columns, index)
      candidates = np.concatenate([target[index][:, None], negatives], axis=1)
      yield {**rows, "target_item": candidates.astype(np.int32)}, valid

  def run(variables) -> Evaluation:
    scores = run_batches(step, variables, feed(), mesh)
    if np.isnan(scores).any():
      raise DataError("The model scores some items NaN, so they cannot be ranked.")
    ranks = (scores[:, 1:] >= scores[:, :1]).sum(axis=1)[counted]
    hits = ranking.hits_of_ranks(ranks, max(config.cutoffs))
    metrics = ranking.ranking_metrics(hits, num_targets[counted], config.cutoffs)
    per_case = {prefix + name: value for name, value in metrics.items()}
    values = {name: float(value.mean()) for name, value in per_case.items()}
    values |= {prefix + name: value for name, value in strata.means(metrics, inside).items()}
    facts = {
      **{f"cases {name}": int(mask.sum()) for name, mask in inside.items()},
      "cases": int(counted.sum()),
      "cases_without_targets": int((~counted).sum()),
      "candidates": 1 + config.negatives,
    }
    return Evaluation(values, per_case, cases.user[counted], None, facts)

  return run


def draw_negatives(
  user: np.ndarray, excluded: np.ndarray, weights: np.ndarray, negatives: int, seed: int
) -> np.ndarray:
  """Distinct items for each user, drawn one after another in proportion to integer weights.

  Args:
    user: int [n]; rows of one user draw the same items as far as `excluded` allows.
    excluded: int [n, S] items that must not be drawn, padded with 0.
    weights: int [num_items + 1], 0 for padding; their sum must be below 2**31.
    negatives: how many to draw.
    seed: of the draw; with `user`, all that it depends on.

  Returns:
    int32 [n, negatives].

  Raises:
    DataError: a user has too few items left.
  """
  size = len(weights)
  cumulative = np.cumsum(weights, dtype=np.int64)
  row = np.arange(len(user))[:, None] * size
  forbidden = np.unique((row + excluded).ravel())
  chosen = np.zeros((len(user), negatives), np.int64)
  for attempt in range(ROUNDS):
    where = jax.device_put((seed, user, attempt))  # explicit, as transfer guards ask
    draws = jax.device_get(_draw(*where, int(cumulative[-1]), 2 * negatives))
    items = np.concatenate([chosen, np.searchsorted(cumulative, draws, side="right")], axis=1)
    keys = (row + items).ravel()
    usable = np.zeros(keys.size, bool)
    usable[np.unique(keys, return_index=True)[1]] = True  # the first of equals
    usable = (usable & ~np.isin(keys, forbidden)).reshape(items.shape) & (items != 0)
    place = np.cumsum(usable, axis=1)
    usable &= place <= negatives
    chosen = np.zeros_like(chosen)
    chosen[np.nonzero(usable)[0], place[usable] - 1] = items[usable]
    if (chosen != 0).all():
      return chosen.astype(np.int32)
  short = user[(chosen == 0).any(axis=1)][0]
  raise DataError(f"Found fewer than {negatives} unseen items to draw for user {short}.")


@functools.partial(jax.jit, static_argnums=(3, 4))
def _draw(seed, user, attempt, total, width):
  """Integers below `total`, int32 [n, width], a function of seed, user and attempt alone."""
  key = jax.random.fold_in(jax.random.key(seed), attempt)
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, user)
  return jax.vmap(lambda k: jax.random.randint(k, (width,), 0, total))(keys)


def _item_weights(sampling: str, catalogue: Catalogue) -> np.ndarray:
  if sampling == "uniform":
    weights = np.ones(catalogue.num_items + 1, np.int64)
  else:
    weights = np.array(catalogue.train_counts, np.int64)
  weights[0] = 0
  if weights.sum() >= 2**31:
    raise DataError("Sampling by popularity handles fewer than 2**31 training events.")
  return weights
