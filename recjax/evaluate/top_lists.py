"""The lists of all cases: what evaluators that rank a whole catalogue start from."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError, DataError
from recjax.evaluate.evaluation import (
  Catalogue,
  batches,
  compile_step,
  fit_batch_size,
  require,
  require_cases,
  require_catalogue,
  run_batches,
)
from recjax.evaluate.ranking import count_targets
from recjax.evaluate.topk import all_scores, top_items


class TopLists(NamedTuple):
  """The best items of the n cases that have a target.

  Attributes:
    ids: int32 [n, length] items, best first, 0 where a list ends early; [n, length + 1] with `ties`.
    scores: float32 of the same shape, -inf where it ends.
    every: float32 [n, num_items + 1] scores of all items by id, -inf for what a user has seen; None
      unless asked for.
    rescored: float32 [n, length] of the listed items by the model's `score`; None unless asked for.
    facts: how many cases there are, and of what kind.
  """

  ids: np.ndarray
  scores: np.ndarray
  every: np.ndarray | None
  rescored: np.ndarray | None
  facts: dict[str, int]


def build(
  predict: Mapping[str, Callable],
  cases: Cases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None,
  evaluator: str,
  length: int,
  batch_size: int,
  block_size: int,
  keep_seen: bool = False,
  ties: bool = False,
  every_score: bool = False,
  rescore: bool = False,
) -> tuple[np.ndarray, Callable[[Any], TopLists]]:
  """Which cases have a target, bool [cases], and run(variables), which compiles once.

  What a user has seen is left out unless `keep_seen`. With `ties` lists have one place more, which
  tells whether the last one is tied; it is empty where lists are filled in `shares`, which have no
  ties. With `every_score` the host holds a score of each case for each item; with `rescore` the model's
  `score` scores what is listed, too.

  Raises:
    ConfigError: the model has no `encode_user` or `score_items`, or `score` to rescore, or fills lists
      in shares where every score is asked for, or the data have no catalogue.
    DataError: no cases, none with a target, or (from run) scores that are NaN or infinite.
  """
  require(predict, ("encode_user", "score_items") + ("score",) * rescore, evaluator)
  shared = "shares" in predict
  if every_score and shared:
    raise ConfigError(
      f"Evaluator {evaluator!r} wants a score of every item, and this model fills lists in shares."
    )
  require_catalogue(catalogue, evaluator)
  require_cases(cases.rows.count)
  batch_size = fit_batch_size(batch_size, cases.rows.count, mesh)
  counted = count_targets(cases.targets) > 0
  if not counted.any():
    raise DataError("None of the cases has a target, so there is nothing to rank.")

  def step(variables, batch):
    given = (predict, variables, batch["rows"], batch["seen"])
    size = {"num_items": catalogue.num_items, "block": block_size}
    ids, scores = top_items(*given, **size, k=length + (ties and not shared), mesh=mesh)
    if ties and shared:
      ids = jnp.pad(ids, ((0, 0), (0, 1)))
      scores = jnp.pad(scores, ((0, 0), (0, 1)), constant_values=-jnp.inf)
    every = all_scores(*given, **size) if every_score else None
    listed = {**batch["rows"], "target_item": ids}
    rescored = predict["score"](variables, listed) if rescore else None
    return (ids, scores, every, rescored), all_seen(batch["targets"], batch["seen"])

  step = compile_step(step, mesh)

  def feed():
    for index, valid in batches(cases.rows.count, batch_size):
      rows = cases.rows.gather(np, cases.rows.columns, index)
      seen = np.zeros((len(index), 1), np.int32) if keep_seen else cases.seen(index)
      yield {"rows": rows, "seen": seen, "targets": cases.targets[index]}, valid

  def run(variables) -> TopLists:
    lists, impossible = run_batches(step, variables, feed(), mesh)
    ids, scores, every, rescored = (None if a is None else a[counted] for a in lists)
    if np.isposinf(scores).any() or (rescored is not None and not np.isfinite(rescored).all()):
      raise DataError("The model scores some items NaN or infinite, so they cannot be ranked.")
    facts = {
      "cases": int(counted.sum()),
      "cases_without_targets": int((~counted).sum()),
      "cases_impossible": int((impossible & counted).sum()),
      "candidates": catalogue.num_items,
    }
    return TopLists(ids, scores, every, rescored, facts)

  return counted, run


def all_seen(targets: jax.Array, seen: jax.Array) -> jax.Array:
  """Whether every target of each row [n, T] is among its seen items [n, S]; bool [n]."""
  found = (targets[:, :, None] == seen[:, None, :]).any(axis=2)
  return (found | (targets == 0)).all(axis=1)
