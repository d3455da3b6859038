"""The state of training: one frozen tree of arrays, made sharded, donated from step to step."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from recjax.config import Optimizer as OptimizerConfig
from recjax.errors import ConfigError
from recjax.models.learner import Metrics
from recjax.registry import unknown

# Separate streams of randomness from one seed; the data order is a third (recjax/data/order.py).
_INIT, _STEP = 1, 2


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["step", "seed", "healthy", "variables", "optimizer", "rows", "window"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that training changes; with several seeds every array has a leading axis of them.

  Attributes:
    step: int32, updates made.
    seed: uint32, of the data order and all randomness.
    healthy: bool, False from the first non-finite loss or gradient on; nothing moves after that.
    variables: collections of the model, `params` and `tables` among them.
    optimizer: optax state of what is trained densely.
    rows: row-wise optimizer state by table, for tables trained by rows.
    window: metrics as (sum, weight) since the last log line.
  """

  step: jax.Array
  seed: jax.Array
  healthy: jax.Array
  variables: dict[str, Any]
  optimizer: Any
  rows: dict[str, Any]
  window: Metrics


def init_key(seed: jax.Array) -> jax.Array:
  """Key for initial values."""
  return jax.random.fold_in(jax.random.key(seed), _INIT)


def step_key(seed: jax.Array, step: jax.Array) -> jax.Array:
  """Key for everything random within a step."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STEP), step)


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
  """The dense optimizer of a config; raises ConfigError for unknown names."""
  rate = config.learning_rate
  after = max(total_steps - config.warmup_steps, 1)
  schedules = {
    "constant": lambda: optax.constant_schedule(rate),
    "cosine": lambda: optax.cosine_decay_schedule(rate, after),
    "linear": lambda: optax.linear_schedule(rate, 0.0, after),
  }
  if config.schedule not in schedules:
    raise ConfigError(unknown("optimizer.schedule", config.schedule, schedules))
  schedule = schedules[config.schedule]()
  if config.warmup_steps:
    warmup = optax.linear_schedule(0.0, rate, config.warmup_steps)
    schedule = optax.join_schedules([warmup, schedule], [config.warmup_steps])
  optimizers = {
    "adam": lambda: optax.adam(schedule, config.b1, config.b2),
    "adamw": lambda: optax.adamw(
      schedule, config.b1, config.b2, weight_decay=config.weight_decay
    ),
    "sgd": lambda: optax.sgd(schedule),
  }
  if config.name not in optimizers:
    raise ConfigError(unknown("optimizer", config.name, optimizers))
  if config.weight_decay and config.name != "adamw":
    raise ConfigError(f"optimizer.weight_decay acts with adamw only, not with {config.name}.")
  clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
  return optax.chain(*clip, optimizers[config.name]())


def split_variables(
  variables: Mapping[str, Any], dense_tables: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
  """(what optax trains, the rest)."""
  dense = ("params", "tables") if dense_tables else ("params",)
  trained = {k: v for k, v in variables.items() if k in dense}
  return trained, {k: v for k, v in variables.items() if k not in dense}


def zero_window(metrics: Metrics) -> Metrics:
  """An empty window for metrics of these shapes."""
  return jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
