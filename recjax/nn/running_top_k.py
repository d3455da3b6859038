"""The best columns of a table of scores that is never whole: block by block, the best so far kept."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec


def running_top_k(
  score: Callable[[jax.Array], jax.Array],
  rows: int,
  count: int,
  block: int,
  k: int,
  mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Columns int32 [rows, k] of the largest of `count` scores a row, best first, and their scores.

  Of equal scores the lower column comes first; the result does not depend on `block`. Memory is that
  of one block. Where fewer than k scores are above -inf, the rest is -inf, and its columns are 0.

  Args:
    score: (start) -> float32 [rows, block] of the columns from `start` on, -inf beyond the last one.
    rows: of the table.
    count: columns of the table.
    block: columns scored at once.
    k: how many are wanted.
    mesh: where rows are split over the axis "data" of a mesh, that mesh.
  """

  def take_block(number, best):
    best_columns, best_scores = best
    start = number * block
    # What is kept comes first and top_k prefers the earlier of equals: lower columns win ties.
    scores = jnp.concatenate([best_scores, score(start)], axis=1)
    best_scores, place = row_top_k(scores, k, mesh)
    kept = jnp.take_along_axis(best_columns, jnp.minimum(place, k - 1), axis=1)
    return jnp.where(place < k, kept, start + place - k), best_scores

  nothing = jnp.zeros((rows, k), jnp.int32), jnp.full((rows, k), -jnp.inf, jnp.float32)
  columns, scores = jax.lax.fori_loop(0, -(-count // block), take_block, nothing)
  return jnp.where(jnp.isneginf(scores), 0, columns), scores


def row_top_k(scores: jax.Array, k: int, mesh: Mesh | None) -> tuple[jax.Array, jax.Array]:
  """`lax.top_k` of scores [B, n]: values and columns [B, k], on a mesh by each device for its rows.

  XLA does not split top_k by itself: it would send all scores to all devices, in every block.
  """
  if mesh is None:
    return jax.lax.top_k(scores, k)
  rows = PartitionSpec("data")
  split = jax.shard_map(lambda s: jax.lax.top_k(s, k), mesh=mesh, in_specs=rows, out_specs=rows)
  return split(scores)
