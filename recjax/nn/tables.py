"""Embedding tables: declared by a model, created and updated row by row by whoever trains it.

A model never makes its big tables itself. It declares them (`TableSpec`), and is handed arrays
[rows, width] to index, which during training may hold only the rows a batch needs.
Row 0 belongs to padding and is zero, always.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_BLOCK = 65_536  # rows written at a time: the only temporary memory that creating a table needs


class TableSpec(NamedTuple):
  """A table: the vocabulary that indexes it, its width, the deviation of its initial values."""

  vocabulary: str
  width: int
  stddev: float = 0.02


def init_rows(
  key: jax.Array, spec: TableSpec, first: jax.Array | int, count: int, dtype: str = "float32"
) -> jax.Array:
  """Rows first .. first + count - 1 of a new table, [count, width].

  Row r is a function of (key, r) alone, so a table is the same however it is cut into shards, and
  a grown vocabulary keeps the rows it had. Written block by block into one buffer.
  """
  def block(start, size):
    rows = (jnp.asarray(first, jnp.int32) + start).astype(jnp.uint32) + jnp.arange(
      size, dtype=jnp.uint32
    )
    keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(rows)
    values = jax.vmap(lambda k: jax.random.normal(k, (spec.width,)))(keys) * spec.stddev
    return jnp.where((rows == 0)[:, None], 0.0, values).astype(dtype)

  whole, rest = divmod(count, _BLOCK)
  table = jnp.zeros((count, spec.width), dtype)
  if whole:
    write = lambda i, t: jax.lax.dynamic_update_slice(t, block(i * _BLOCK, _BLOCK), (i * _BLOCK, 0))
    table = jax.lax.fori_loop(0, whole, write, table)
  if rest:
    table = jax.lax.dynamic_update_slice(table, block(whole * _BLOCK, rest), (whole * _BLOCK, 0))
  return table


def take(table: jax.Array, ids: jax.Array) -> jax.Array:
  """Rows of a table [V, D] at ids [...], as [..., D]; the padding id 0 gives exactly zero.

  bfloat16, which only saves memory, comes back as float32.
  """
  rows = jnp.take(table, ids, axis=0, mode="clip")
  if rows.dtype == jnp.bfloat16:
    rows = rows.astype(jnp.float32)
  return rows * (ids != 0)[..., None].astype(rows.dtype)


def take_mean(table: jax.Array, ids: jax.Array) -> jax.Array:
  """Means [..., D] of the rows of a table [V, D] at ids [..., A], padding left out; 0 without any."""
  rows = take(table, ids)
  count = jnp.sum(ids != 0, axis=-1, keepdims=True).astype(rows.dtype)
  return jnp.sum(rows, axis=-2) / jnp.maximum(count, 1.0)
