"""What every evaluator is made of: its result, the catalogue it ranks, batches of constant shape.

An evaluator is a module with a frozen dataclass `Config` and

    build(config, predict, cases, *, mesh, catalogue) -> run,    run(variables) -> Evaluation

where `predict` holds a learner's prediction functions and `cases` the rows to evaluate on. Every
case counts exactly once, whatever the batch size and the number of devices.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.errors import ConfigError, DataError


class Evaluation(NamedTuple):
  """What an evaluator found.

  Attributes:
    values: metrics by name.
    per_case: values of single cases by name, each [n], in the order of `case_user`; what paired
      tests start from.
    case_user: int [n] user (for clicks: group) of each counted case.
    lists: int32 [n, k] recommended items, best first, 0 where a list is short; None where the
      evaluator makes no lists.
    facts: counts that qualify the values, such as users left out.
    pictures: images uint8 [H, W, 3] to look at, by name.
  """

  values: dict[str, float]
  per_case: dict[str, np.ndarray]
  case_user: np.ndarray
  lists: np.ndarray | None
  facts: dict[str, Any]
  pictures: Mapping[str, np.ndarray] = {}


class Catalogue(NamedTuple):
  """What evaluators know of the items beside what the model knows.

  Attributes:
    num_items: real items; ids run from 1 to num_items.
    train_counts: int [num_items + 1] training events of each item, 0 for padding.
    categories: int [num_items + 1] category of each item, or None where items have none.
    transitions: () -> sparse [num_items + 1, num_items + 1], how often an item directly followed
      another in training; None where nobody counted.
  """

  num_items: int
  train_counts: np.ndarray
  categories: np.ndarray | None = None
  transitions: Callable[[], Any] | None = None


def batches(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Indices of `count` rows in batches of constant shape.

  Yields (index int32 [batch_size], valid bool [batch_size]); the last batch is filled up with row 0
  where `valid` is False, and every row is valid exactly once.
  """
  for start in range(0, count, batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)
    valid = index < count
    yield np.where(valid, index, 0).astype(np.int32), valid


def fit_batch_size(batch_size: int, count: int, mesh: Mesh) -> int:
  """At most `batch_size` and not far above `count`, rounded up to fill the mesh's data axis."""
  data = mesh.shape["data"]
  return -(-min(batch_size, count) // data) * data


def require(predict: Mapping[str, Callable], names: Sequence[str], evaluator: str) -> None:
  """Raises ConfigError unless the model offers the prediction functions an evaluator needs."""
  missing = [name for name in names if name not in predict]
  if missing:
    raise ConfigError(
      f"Evaluator {evaluator!r} needs the prediction function {missing[0]!r}; this model offers "
      f"{', '.join(sorted(predict)) or 'none'}."
    )


def require_cases(count: int) -> None:
  """Raises DataError when there is nothing to evaluate on."""
  if count == 0:
    raise DataError("There are no cases to evaluate on.")


def require_catalogue(catalogue: Catalogue | None, evaluator: str) -> None:
  """Raises ConfigError where an evaluator that ranks items meets data without any."""
  if catalogue is None:
    raise ConfigError(f"Evaluator {evaluator!r} ranks items, and these data have none.")


def compile_step(step: Callable, mesh: Mesh) -> Callable:
  """Jits (variables, batch) -> arrays so that every process holds whole outputs."""
  return jax.jit(step, out_shardings=NamedSharding(mesh, PartitionSpec()))


def run_batches(
  step: Callable, variables: Any, feed: Iterable[tuple[Any, np.ndarray]], mesh: Mesh
) -> Any:
  """Calls a compiled step on batches from the host and joins what it returns for valid rows.

  Args:
    step: from `compile_step`; (variables, batch) -> pytree of arrays with leading axis B.
    variables: variables of the learner.
    feed: pairs (batch, valid) of NumPy arrays; rows where `valid` is False are dropped.
    mesh: the batch is split over its data axis.

  Returns:
    Pytree of NumPy arrays with one row for every valid row, in order.
  """
  split = NamedSharding(mesh, PartitionSpec("data"))
  parts, pending = [], None
  for batch, valid in feed:
    # Fetching one batch late keeps the device busy while the host gathers the next.
    outputs = step(variables, jax.device_put(batch, split))
    if pending is not None:
      parts.append(_fetch(*pending))
    pending = outputs, valid
  parts.append(_fetch(*pending))
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _fetch(outputs, valid):
  return jax.tree.map(lambda array: array[valid], jax.device_get(outputs))
