"""The best items of a whole catalogue for every user, or all its scores, block by block."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from recjax.nn.running_top_k import running_top_k
from recjax.nn.shares import fill_in_shares


def top_items(
  predict: Mapping[str, Callable],
  variables: Any,
  batch: Mapping[str, jax.Array],
  seen: jax.Array,
  *,
  num_items: int,
  block: int,
  k: int,
  mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
  """The k best unseen items of each user, best first, the lower id first among equal scores.

  Memory follows `block`, not the catalogue: scores exist for one block of items at a time. The
  result does not depend on `block`. Pure; jit it with the keywords static.

  A model that offers `shares` has several queries a user, each with a share of the list. Every query
  is searched for in the whole catalogue, and `nn.shares.fill_in_shares` makes one list, whose scores
  are k, k - 1, ..., 1: an order without ties.

  Args:
    predict: `encode_user` and `score_items` of a learner, and `shares` where it has that.
    variables: variables of the learner.
    batch: what the model may see of the users, leading axis B.
    seen: int32 [B, S] items to leave out, padded with 0.
    num_items: real items; ids run from 1 to num_items.
    block: items scored at once.
    k: length of the lists.
    mesh: where users are split over the axis "data" of a mesh, that mesh; B must divide by it.

  Returns:
    ids int32 [B, k] and scores float32 [B, k]. Where fewer than k items can be recommended, the
    rest of a list has id 0 and score -inf. A score of NaN comes back as +inf, at the front of the
    list, so that callers can tell a diverged model from a good one.
  """
  state = predict["encode_user"](variables, batch)
  size = {"num_items": num_items, "block": min(block, num_items), "k": k, "mesh": mesh}
  if "shares" not in predict:
    return _best_items(predict, variables, state, seen, **size)
  queries, weights = predict["shares"](state)
  several = weights.shape[1]
  given = predict, variables, queries, jnp.repeat(seen, several, axis=0)
  ids, scores = (a.reshape(len(seen), several, k) for a in _best_items(*given, **size))
  merged = fill_in_shares(ids, weights, k)
  places = jnp.where(merged != 0, jnp.arange(k, 0, -1, dtype=jnp.float32)[None], -jnp.inf)
  diverged = jnp.any(jnp.isposinf(scores), axis=(1, 2))
  return merged, jnp.where(diverged[:, None], jnp.inf, places)


def _best_items(predict, variables, state, seen, *, num_items, block, k, mesh):
  score = lambda start: score_block(predict, variables, state, seen, 1 + start, block, num_items)
  columns, scores = running_top_k(score, seen.shape[0], num_items, block, k, mesh)
  return jnp.where(jnp.isneginf(scores), 0, 1 + columns), scores


def all_scores(
  predict: Mapping[str, Callable],
  variables: Any,
  batch: Mapping[str, jax.Array],
  seen: jax.Array,
  *,
  num_items: int,
  block: int,
) -> jax.Array:
  """Scores float32 [B, num_items + 1] of all items by id, arguments as of `top_items`.

  Entry 0 and those of seen items are -inf; NaN comes back as +inf.
  """
  state = predict["encode_user"](variables, batch)
  block = min(block, num_items)
  starts = 1 + block * jnp.arange(-(-num_items // block), dtype=jnp.int32)
  score = lambda start: score_block(predict, variables, state, seen, start, block, num_items)
  scores = jnp.moveaxis(jax.lax.map(score, starts), 0, 1).reshape(seen.shape[0], -1)
  return jnp.pad(scores[:, :num_items], ((0, 0), (1, 0)), constant_values=-jnp.inf)


def score_block(
  predict: Mapping[str, Callable],
  variables: Any,
  state: Any,
  seen: jax.Array,
  start: jax.Array,
  block: int,
  num_items: int,
) -> jax.Array:
  """Scores float32 [B, block] of the items from `start` on; -inf where seen [B, S] or beyond the last.

  NaN becomes +inf: comparisons with NaN are all false, which would rank every target first.
  """
  ids = start + jnp.arange(block, dtype=jnp.int32)
  scores = predict["score_items"](variables, state, jnp.minimum(ids, num_items))
  scores = scores.astype(jnp.float32)
  scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)
  scores = jnp.where((ids <= num_items)[None, :], scores, -jnp.inf)
  return leave_out(scores, seen - start)


def leave_out(scores: jax.Array, columns: jax.Array) -> jax.Array:
  """Sets scores [B, n] at columns [B, S] of each row to -inf; columns outside 0..n-1 do nothing."""
  width = scores.shape[1]
  inside = (columns >= 0) & (columns < width)  # JAX would count negative columns from the end
  columns = jnp.where(inside, columns, width)
  # One scatter a row under vmap keeps the batch axis a batch axis, so it stays sharded.
  return jax.vmap(lambda row, at: row.at[at].set(-jnp.inf, mode="drop"))(scores, columns)
