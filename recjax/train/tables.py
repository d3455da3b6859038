"""Row-sparse training of embedding tables: the cost follows the batch, not the vocabulary.

A step finds the distinct ids of a batch (`compact`), takes their rows, differentiates with respect to
those alone, and writes the changed rows back into the donated table. Model code indexes a table that
happens to be small. Row 0 is padding: it is always the first compact row, and never changes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from recjax.config import Tables as TablesConfig
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.nn.tables import TableSpec, init_rows
from recjax.registry import unknown

P = jax.P
_DTYPES = ("float32", "bfloat16")


def padded_rows(spec: TableSpec, schema: Schema, config: TablesConfig) -> int:
  """Rows of a table: its vocabulary, padding included, rounded up to `row_multiple`."""
  rows = -(-schema.vocabularies[spec.vocabulary] // config.row_multiple) * config.row_multiple
  if rows > np.iinfo(np.int32).max:
    raise ConfigError(
      f"tables.row_multiple={config.row_multiple} makes a table of {rows:,} rows for the vocabulary "
      f"{spec.vocabulary!r}; ids are 32-bit numbers, which count to {np.iinfo(np.int32).max:,}."
    )
  return rows


def check_dtype(config: TablesConfig) -> None:
  """Raises ConfigError for a dtype that is unknown, or that tables trained densely cannot have."""
  if config.dtype not in _DTYPES:
    raise ConfigError(unknown("tables.dtype", config.dtype, _DTYPES))
  if config.dtype != "float32" and config.training != "rows":
    raise ConfigError(f"tables.dtype={config.dtype} needs tables.training=rows.")


def init_table(key: jax.Array, spec: TableSpec, rows: int, dtype: str, mesh: Mesh) -> jax.Array:
  """A new table [rows, width]; every device makes only its own rows, in place."""
  shards = mesh.shape["model"]
  if shards == 1:
    return init_rows(key, spec, 0, rows, dtype)

  @partial(jax.shard_map, mesh=mesh, in_specs=P(), out_specs=P("model"), check_vma=False)
  def own(key):
    count = rows // shards
    return init_rows(key, spec, jax.lax.axis_index("model") * count, count, dtype)

  return own(key)


class Compact(NamedTuple):
  """Ids of a batch by vocabulary, ascending, int32 [N]; repeats are replaced by the row count."""

  ids: Mapping[str, jax.Array]


def compact(
  batch: Mapping[str, jax.Array],
  schema: Schema,
  specs: Mapping[str, TableSpec],
  rows: Mapping[str, int],
) -> tuple[dict[str, jax.Array], Compact]:
  """Renumbers the ids of a batch to rows of the smaller tables that hold just those ids.

  Id 0 stays 0. `rows` gives the row count of a table of each vocabulary; no id reaches it, so it
  marks repeats, which gathers clip and scatters drop. Sorting the ids alone and finding each by
  bisection takes a third of the time of `jnp.unique`, which sorts pairs (measured, 100 k ids, CPU).
  """
  batch = dict(batch)
  distinct = {}
  for vocabulary in sorted({spec.vocabulary for spec in specs.values()}):
    names = [n for n in schema.indexing(vocabulary) if n in batch]
    flat = jnp.concatenate([jnp.zeros(1, jnp.int32)] + [batch[n].reshape(-1) for n in names])
    ordered = jnp.sort(flat)
    place = jnp.searchsorted(ordered, flat).astype(jnp.int32)
    repeat = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    distinct[vocabulary] = jnp.where(repeat, rows[vocabulary], ordered)
    start = 1
    for name in names:
      size = batch[name].size
      batch[name] = place[start : start + size].reshape(batch[name].shape)
      start += size
  return batch, Compact(distinct)


def gather_rows(table: jax.Array, ids: jax.Array, mesh: Mesh) -> jax.Array:
  """Rows of a table [V, ...] at ids [n]; over a row-sharded table one all-reduce of [n, ...]."""
  if mesh.shape["model"] == 1:
    return jnp.take(table, ids, axis=0, mode="clip")

  @partial(jax.shard_map, mesh=mesh, in_specs=(P("model"), P()), out_specs=P(), check_vma=False)
  def own(block, ids):
    local = ids - jax.lax.axis_index("model") * block.shape[0]
    rows = jnp.take(block, local, axis=0, mode="clip")
    inside = (local >= 0) & (local < block.shape[0])
    inside = inside.reshape(-1, *(1,) * (rows.ndim - 1))
    return jax.lax.psum(jnp.where(inside, rows, jnp.zeros((), rows.dtype)), "model")

  return own(table, ids)


def scatter_rows(table: jax.Array, ids: jax.Array, rows: jax.Array, mesh: Mesh) -> jax.Array:
  """The table with rows [n, ...] written at distinct ids [n]; ids outside it are dropped."""
  if mesh.shape["model"] == 1:
    return table.at[ids].set(rows, mode="drop", unique_indices=False)

  @partial(
    jax.shard_map, mesh=mesh, in_specs=(P("model"), P(), P()), out_specs=P("model"), check_vma=False
  )
  def own(block, ids, rows):
    local = ids - jax.lax.axis_index("model") * block.shape[0]
    # A negative index would count from the end: send it past the end, where it is dropped.
    local = jnp.where(local < 0, block.shape[0], local)
    return block.at[local].set(rows, mode="drop")

  return own(table, ids, rows)


def optimizer_state(config: TablesConfig, rows: int, width: int) -> dict[str, jax.Array]:
  """Fresh row-wise optimizer state of a table [rows, width]: one array a statistic."""
  if config.optimizer == "adagrad":
    return {"accumulator": jnp.full((rows,), config.initial_accumulator, jnp.float32)}
  if config.optimizer == "lazy_adam":
    return {k: jnp.zeros((rows, width), jnp.float32) for k in ("mean", "variance")}
  raise ConfigError(unknown("table optimizer", config.optimizer, ("adagrad", "lazy_adam")))


def update_rows(
  config: TablesConfig, rows: jax.Array, gradient: jax.Array, state: Mapping[str, Any], step: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
  """One step on rows [n, D] with gradient [n, D]; `state` holds the same rows of its arrays.

  adagrad: a <- a + mean_d g^2; w <- w - lr g / (sqrt(a) + eps), one accumulator a row.
  lazy_adam: Adam whose moments move only for rows in the batch; bias correction by the global step.
  """
  if config.optimizer == "adagrad":
    accumulator = state["accumulator"] + jnp.square(gradient).mean(-1)
    scale = config.learning_rate / (jnp.sqrt(accumulator) + config.eps)
    return rows - scale[:, None] * gradient, {"accumulator": accumulator}
  count = (step + 1).astype(jnp.float32)
  mean = config.b1 * state["mean"] + (1 - config.b1) * gradient
  variance = config.b2 * state["variance"] + (1 - config.b2) * jnp.square(gradient)
  corrected = mean / (1 - config.b1**count)
  deviation = jnp.sqrt(variance / (1 - config.b2**count))
  return (
    rows - config.learning_rate * corrected / (deviation + config.eps),
    {"mean": mean, "variance": variance},
  )


def rounded(rows: jax.Array, dtype: jax.Array | str, key: jax.Array) -> jax.Array:
  """Rows [n, D] in float32 as a table of `dtype` holds them.

  bfloat16 keeps the upper half of a float32. A value goes to the next one away from zero with the
  chance of the share that is cut off, so that it is right in the mean, and steps much smaller than
  the spacing of bfloat16 add up. What bfloat16 has exactly stays as it is.
  """
  if dtype == jnp.float32:
    return rows
  bits = jax.lax.bitcast_convert_type(rows, jnp.uint32)
  bits = bits + jax.random.bits(key, rows.shape, jnp.uint16).astype(jnp.uint32)
  bits = bits & jnp.uint32(0xFFFF0000)
  return jax.lax.bitcast_convert_type(bits, jnp.float32).astype(dtype)
