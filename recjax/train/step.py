"""One update: `update(state, batch) -> state`, pure, the same for every learner.

Losses are sums with weights until the gradient is divided once, so any number of devices and of
micro-batches gives the gradient of the whole batch. A step whose loss or gradient is not finite
changes nothing and marks the state unhealthy, which leaves exactly what is needed to look at it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from recjax.config import Config
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Batch, Learner, Metrics
from recjax.train import tables as row_tables
from recjax.train.mesh import P, replicated, tree_shardings
from recjax.train.state import (
  TrainState,
  init_key,
  make_optimizer,
  split_variables,
  step_key,
  zero_window,
)


class Updater:
  """What a training run computes, as pure functions: `create(seed)` and `update(state, batch)`."""

  def __init__(
    self, learner: Learner, config: Config, schema: Schema, mesh: Mesh, total_steps: int
  ):
    if learner.loss is None:
      raise ConfigError(f"The model {config.model.name!r} counts; it has no loss to descend.")
    if config.tables.training not in ("dense", "rows"):
      raise ConfigError(f"tables.training is dense or rows, not {config.tables.training!r}.")
    row_tables.check_dtype(config.tables)
    if config.tables.training == "rows" and learner.whole_tables:
      raise ConfigError(
        f"The loss of {config.model.name!r} reads all of the table {learner.whole_tables[0]!r}: with "
        "tables.training=rows choose a loss that samples, else tables.training=dense."
      )
    if config.train.batch_size % config.train.micro_batches:
      raise ConfigError(
        f"train.batch_size={config.train.batch_size} is not divisible by "
        f"train.micro_batches={config.train.micro_batches}."
      )
    self.learner, self.config, self.schema, self.mesh = learner, config, schema, mesh
    self.optimizer = make_optimizer(config.optimizer, total_steps)
    self.by_rows = config.tables.training == "rows"
    self.table_rows = {
      name: row_tables.padded_rows(spec, learner.schema, config.tables)
      for name, spec in learner.tables.items()
    }

  def create(self, seed: jax.Array) -> TrainState:
    """The state before the first step, from a uint32 seed alone."""
    key = init_key(seed)
    tables = {
      name: row_tables.init_table(
        jax.random.fold_in(key, i + 1), spec, self.table_rows[name], self.config.tables.dtype,
        self.mesh,
      )
      for i, (name, spec) in enumerate(sorted(self.learner.tables.items()))
    }
    batch = jax.tree.map(jnp.asarray, self.learner.schema.example(2))
    variables = {**self.learner.init(jax.random.fold_in(key, 0), tables, batch), "tables": tables}
    trained, _ = split_variables(variables, not self.by_rows)
    rows = {
      name: row_tables.optimizer_state(self.config.tables, self.table_rows[name], spec.width)
      for name, spec in self.learner.tables.items()
    } if self.by_rows else {}
    state = TrainState(
      jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.uint32), jnp.ones((), bool), variables,
      self.optimizer.init(trained), rows, {},
    )
    example = jax.tree.map(jnp.asarray, self.schema.example(self.config.train.batch_size))
    metrics = jax.eval_shape(self._advance, state, example)[1]
    return TrainState(**{**vars(state), "window": zero_window(metrics)})

  def update(self, state: TrainState, batch: Batch) -> TrainState:
    """One step on a batch [B, ...] of true ids."""
    changed, metrics, finite = self._advance(state, batch)
    go = state.healthy & finite
    keep = lambda new, old: jnp.where(go, new, old)
    trained = jax.tree.map(keep, changed["trained"], changed["before"])
    optimizer = jax.tree.map(keep, changed["optimizer"], state.optimizer)
    variables = {**state.variables, **trained}
    for name, value in changed["mutable"].items():
      variables[name] = jax.tree.map(keep, value, state.variables[name])
    rows = dict(state.rows)
    if self.by_rows:
      tables = dict(variables["tables"])
      for name, (ids, new, old, new_state, old_state) in changed["rows"].items():
        write = lambda array, new, old, ids=ids: row_tables.scatter_rows(
          array, ids, keep(new, old), self.mesh
        )
        tables[name] = write(tables[name], new, old)
        rows[name] = {k: write(rows[name][k], new_state[k], old_state[k]) for k in new_state}
      variables["tables"] = tables
    window = {
      name: tuple(total + jnp.where(go, part, jnp.zeros_like(part)) for total, part in zip(
        state.window[name], metrics[name], strict=True
      ))
      for name in metrics
    }
    return TrainState(
      state.step + go.astype(jnp.int32), state.seed, go, variables, optimizer, rows, window
    )

  def _advance(self, state: TrainState, batch: Batch) -> tuple[dict[str, Any], Metrics, jax.Array]:
    """What a step would change, its metrics, and whether they are finite."""
    key = step_key(state.seed, state.step)
    draw_key, loss_key = jax.random.split(key)
    if self.learner.draw is not None:
      batch = self.learner.draw(state.variables, batch, draw_key)
    trained, rest = split_variables(state.variables, not self.by_rows)
    before, stored, held = trained, {}, {}
    specs = self.learner.tables
    if self.by_rows:
      sizes = {spec.vocabulary: self.table_rows[name] for name, spec in specs.items()}
      batch, distinct = row_tables.compact(batch, self.learner.schema, specs, sizes)
      take = lambda array, spec: row_tables.gather_rows(
        array, distinct.ids[spec.vocabulary], self.mesh
      )
      stored = {name: take(state.variables["tables"][name], spec) for name, spec in specs.items()}
      held = {name: rows.astype(jnp.float32) for name, rows in stored.items()}
      trained = {**trained, "tables": held}
      rest = {k: v for k, v in rest.items() if k != "tables"}
    gradient, total, weight, metrics, mutable = self._gradient(trained, rest, batch, loss_key)
    scale = 1.0 / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
    gradient = jax.tree.map(lambda g: g * scale, gradient)
    if "tables" in gradient:
      gradient["tables"] = {n: g.at[0].set(0.0) for n, g in gradient["tables"].items()}
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(total) & jnp.isfinite(norm)
    changed: dict[str, Any] = {"before": before, "mutable": mutable, "rows": {}}
    if self.by_rows:
      for i, (name, spec) in enumerate(sorted(specs.items())):
        old_state = {k: take(v, spec) for k, v in state.rows[name].items()}
        new, new_state = row_tables.update_rows(
          self.config.tables, held[name], gradient["tables"][name], old_state, state.step
        )
        # Two keys were split off above; those folded in from 2 on are others.
        new = row_tables.rounded(new, stored[name].dtype, jax.random.fold_in(key, 2 + i))
        ids = distinct.ids[spec.vocabulary]
        changed["rows"][name] = (ids, new, stored[name], new_state, old_state)
      gradient = {"params": gradient["params"]}
    updates, changed["optimizer"] = self.optimizer.update(gradient, state.optimizer, before)
    changed["trained"] = optax.apply_updates(before, updates)
    one = jnp.ones((), jnp.float32)
    metrics = {"loss": (total, weight), **metrics, "gradient_norm": (norm, one)}
    return changed, metrics, finite

  def inspect(self, state: TrainState, batch: Batch) -> tuple[jax.Array, jax.Array, list[str]]:
    """(loss sum, weight, names of variables whose gradient is not finite) of a step, unchanged."""
    draw_key, loss_key = jax.random.split(step_key(state.seed, state.step))
    if self.learner.draw is not None:
      batch = self.learner.draw(state.variables, batch, draw_key)
    trained, rest = split_variables(state.variables, True)
    gradient, loss, weight, *_ = jax.jit(self._gradient)(trained, rest, batch, loss_key)
    bad = [
      jax.tree_util.keystr(path, simple=True, separator="/")
      for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
      if not bool(jnp.isfinite(leaf).all())
    ]
    return loss, weight, bad

  def _gradient(self, trained, rest, batch: Batch, key: jax.Array):
    """Gradient of the summed loss over micro-batches, with sums of everything else."""

    def value(trained, rest, part, key):
      # Losses that must not mix positions of different devices find the mesh here.
      with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
        objective = self.learner.loss({**rest, **trained}, part, key)
      return objective.loss, objective

    count = self.config.train.micro_batches
    if count == 1:
      (_, objective), gradient = jax.value_and_grad(value, has_aux=True)(trained, rest, batch, key)
      return gradient, objective.loss, objective.weight, dict(objective.metrics), dict(
        objective.mutable
      )
    size = self.config.train.batch_size
    # Fields drawn once for a whole batch have a leading axis of 1 and serve every part.
    shared = {n: x for n, x in batch.items() if x.shape[0] != size}
    parts = {
      n: x.reshape(count, size // count, *x.shape[1:]) for n, x in batch.items() if n not in shared
    }

    def body(rest, part):
      i, part = part
      (_, objective), gradient = jax.value_and_grad(value, has_aux=True)(
        trained, rest, {**shared, **part}, jax.random.fold_in(key, i)
      )
      sums = (gradient, objective.loss, objective.weight, dict(objective.metrics))
      return {**rest, **objective.mutable}, sums

    after, sums = jax.lax.scan(body, rest, (jnp.arange(count), parts))
    gradient, loss, weight, metrics = jax.tree.map(lambda x: x.sum(0), sums)
    mutable = {k: after[k] for k in after if k not in ("statistics", "tables")}
    return gradient, loss, weight, metrics, mutable

  def shardings(self, abstract: TrainState, seeds: int) -> TrainState:
    """Where each array of a state lives."""
    axis = 1 if seeds > 1 else 0
    variables = tree_shardings(abstract.variables, self.mesh, self.config.mesh.rules, axis)
    trained, _ = split_variables(variables, not self.by_rows)
    whole = replicated(self.mesh)
    optimizer = optax.tree_utils.tree_map_params(
      self.optimizer, lambda _, s: s, abstract.optimizer, trained,
      transform_non_params=lambda _: whole,
    )
    rows = {
      name: jax.tree.map(lambda _, s=variables["tables"][name]: s, state)
      for name, state in abstract.rows.items()
    }
    spread = lambda tree: jax.tree.map(lambda _: whole, tree)
    return TrainState(
      whole, whole, whole, variables, optimizer, rows, spread(abstract.window)
    )


def over_seeds(function: Callable, seeds: int, in_axes: Any = 0) -> Callable:
  """`function` mapped over a leading axis of seeds, or itself where there is one seed only."""
  return function if seeds == 1 else jax.vmap(function, in_axes=in_axes)


def constrain(batch: Mapping[str, jax.Array], mesh: Mesh) -> dict[str, jax.Array]:
  """The batch, cut along 'data', from within a jitted function."""
  if mesh.size == 1:
    return dict(batch)
  sharding = jax.NamedSharding(mesh, P("data"))
  return {n: jax.lax.with_sharding_constraint(x, sharding) for n, x in batch.items()}
