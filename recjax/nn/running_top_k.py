"""The best columns of a table of scores that is never whole: block by block, the best so far kept."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

_LEAST = 8  # columns of a group, for groups to be worth their while


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
  best_of = _on_own_rows(functools.partial(_best_of, k=k), mesh)

  def take_block(number, best):
    best_columns, best_scores = best
    start = number * block
    best_scores, place = best_of(best_scores, score(start))
    kept = jnp.take_along_axis(best_columns, jnp.minimum(place, k - 1), axis=1)
    return jnp.where(place < k, kept, start + place - k), best_scores

  nothing = jnp.zeros((rows, k), jnp.int32), jnp.full((rows, k), -jnp.inf, jnp.float32)
  columns, scores = jax.lax.fori_loop(0, -(-count // block), take_block, nothing)
  return jnp.where(jnp.isneginf(scores), 0, columns), scores


def _on_own_rows(function, mesh):
  """The function of rows, on a mesh by each device for its own.

  XLA does not split top_k by itself: it would send all scores to all devices, in every block.
  """
  if mesh is None:
    return function
  rows = PartitionSpec("data")
  return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows)


def _best_of(best, scores, *, k):
  """The k largest of best [B, k] and scores [B, n], and their places in both, one after the other.

  What is kept comes first and top_k prefers the earlier of equals: lower columns win ties.
  """
  width = _width(scores.shape[1], k)
  if width < _LEAST:
    return jax.lax.top_k(jnp.concatenate([best, scores], axis=1), k)
  values, column = _by_groups(scores, k, width)
  values, place = jax.lax.top_k(jnp.concatenate([best, values], axis=1), k)
  new = jnp.take_along_axis(column, jnp.maximum(place - k, 0), axis=1)
  return values, jnp.where(place < k, place, k + new)


def _width(count: int, k: int) -> int:
  """Columns of a group, a power of two near the root of count / k, for which least is sorted."""
  return 1 << max(count // k, 1).bit_length() // 2


def _by_groups(scores, k, width):
  """`lax.top_k` of scores [B, n]: the k largest are in the k groups of largest maxima.

  Of equal maxima the earlier groups are taken, and in the order of their columns, so that of equal
  scores the lower columns come first here, too.
  """
  rows, count = scores.shape
  filled = jnp.pad(scores, ((0, 0), (0, -count % width)), constant_values=-jnp.inf)
  groups = filled.reshape(rows, -1, width)
  chosen = jnp.sort(jax.lax.top_k(jnp.max(groups, axis=2), k)[1], axis=1)
  near = jnp.take_along_axis(groups, chosen[:, :, None], axis=1)
  values, place = jax.lax.top_k(near.reshape(rows, -1), k)
  return values, jnp.take_along_axis(chosen, place // width, axis=1) * width + place % width
