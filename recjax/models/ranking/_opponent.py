"""A part of a model that an Adam of its own trains within a step, against what the step descends.

Its parameters and the optimizer's state are a collection of plain dicts, {"params", "count", "mean",
"square"}, which checkpoints and exports can hold and `Objective.mutable` renews.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

_ADAM = optax.scale_by_adam()


def start(params: Any) -> dict[str, Any]:
  """The collection before the first update."""
  return _collection(params, _ADAM.init(params))


def descend(
  value: Callable[[Any], jax.Array], opponent: Mapping[str, Any], steps: int, rate: float
) -> dict[str, Any]:
  """The collection after `steps` updates that descend value(params) at a learning rate."""

  def update(opponent, _):
    params = opponent["params"]
    state = optax.ScaleByAdamState(opponent["count"], opponent["mean"], opponent["square"])
    change, state = _ADAM.update(jax.grad(value)(params), state)
    return _collection(jax.tree.map(lambda p, c: p - rate * c, params, change), state), None

  return jax.lax.scan(update, dict(opponent), length=steps)[0]


def _collection(params, state):
  return {"params": params, "count": state.count, "mean": state.mu, "square": state.nu}
