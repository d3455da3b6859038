"""One list that several lists fill, each to its share: quotas by largest remainder, and the merge."""

import jax
import jax.numpy as jnp


def largest_remainder(weights: jax.Array, total: int) -> jax.Array:
  """Quotas int32 [..., m] that sum to `total`, in proportion to weights [..., m] >= 0, not all 0.

  Each gets the floor of its exact share, and what is left goes one by one to the largest remainders
  (Hamilton's method), to the first among equals.
  """
  return jnp.vectorize(lambda row: _quotas(row, total), signature="(m)->(m)")(weights)


def _quotas(weights, total):
  exact = total * weights / jnp.sum(weights)
  # A share that is whole but for rounding is whole.
  floor = jnp.floor(exact + total * 4 * jnp.finfo(exact.dtype).eps)
  rest, number = exact - floor, jnp.arange(len(weights))
  tied = (rest[None] == rest[:, None]) & (number[None] < number[:, None])
  place = jnp.sum((rest[None] > rest[:, None]) | tied, axis=1)
  return (floor + (place < total - jnp.sum(floor))).astype(jnp.int32)


def fill_in_shares(lists: jax.Array, weights: jax.Array, length: int) -> jax.Array:
  """One list [B, length] of lists [B, m, K] by weights [B, m], which descend; 0 is an empty place.

  List c gives its first n_c items that no list before it has given, n_c by largest remainder. The j-th
  item that it gives comes in order of (j - 1/2) / weight, so that the beginning of the result is
  shared out like the whole. With K >= length, places stay empty only where all lists are exhausted.
  Memory and time are those of B x K x length comparisons, m times.
  """
  quotas = largest_remainder(weights, length)

  def give(state, part):
    chosen, when, filled = state
    items, quota, weight = part
    taken = jnp.any(items[:, :, None] == chosen[:, None, :], axis=-1)
    new = (items != 0) & ~taken
    turn = jnp.cumsum(new, axis=1, dtype=jnp.int32)
    given = new & (turn <= quota[:, None])
    place = jnp.where(given, filled[:, None] + turn - 1, length)
    put = jax.vmap(lambda row, at, values: row.at[at].set(values, mode="drop"))
    moment = (turn - 0.5) / jnp.where(weight > 0, weight, 1.0)[:, None]
    filled = filled + jnp.sum(given, axis=1, dtype=jnp.int32)
    return (put(chosen, place, items), put(when, place, moment), filled), None

  rows = len(lists)
  start = (
    jnp.zeros((rows, length), lists.dtype), jnp.full((rows, length), jnp.inf, jnp.float32),
    jnp.zeros(rows, jnp.int32),
  )
  parts = jnp.swapaxes(lists, 0, 1), quotas.T, weights.astype(jnp.float32).T
  (chosen, when, _), _ = jax.lax.scan(give, start, parts)
  return jax.lax.sort((when, chosen), dimension=1, is_stable=True, num_keys=1)[1]
