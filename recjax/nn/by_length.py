"""Encoding rows of unlike length without computing all of their padding.

Histories are padded in front. Where most are short, most of what an encoder computes is thrown
away; a batch can be encoded in groups of rows of like length instead, each on as many of the newest
positions as its longest row fills.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from recjax.errors import ConfigError

_SHORTEST = 4  # positions; lengths grow by doubling from here, one compiled encoder each


def by_length(
  encode: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  vectors: jax.Array,
  mask: jax.Array,
  key: jax.Array,
  groups: int,
) -> jax.Array:
  """What `encode` makes of all rows at once, [B, L, D], computed in `groups` of rows by length.

  The groups take turns, so every gradient of what `encode` closes over is added up `groups` times:
  big tables are looked up before. The activations of a group are computed again for the gradient.
  Mapped over seeds, all seeds agree on the length of each group.

  Args:
    encode: (vectors [b, l, D], mask [b, l], key) -> states [b, l, D], zero at padding, in which no
      row depends on another and leading padding changes nothing.
    vectors: [B, L, D].
    mask: bool [B, L].
    key: random key; each group has one of its own.
    groups: must divide B.
  """
  rows, length = mask.shape
  if groups < 1 or rows % groups:
    raise ConfigError(f"{rows} rows of a batch cannot be cut into {groups} groups.")
  lengths = []
  shortest = _SHORTEST
  while shortest < length:
    lengths.append(shortest)
    shortest *= 2
  lengths.append(length)
  age = length - jnp.arange(length, dtype=jnp.int32)
  extent = jnp.max(jnp.where(mask, age[None, :], 0), axis=1)
  order = jnp.argsort(extent, stable=True)
  cut = lambda array: array[order].reshape(groups, rows // groups, *array.shape[1:])
  longest = _agreed(jnp.max(cut(extent), axis=1))
  choice = jnp.searchsorted(jnp.asarray(lengths), longest).astype(jnp.int32)

  def at(newest):
    @jax.checkpoint
    def run(vectors, mask, key):
      states = encode(vectors[:, -newest:], mask[:, -newest:], key)
      return jnp.pad(states, ((0, 0), (length - newest, 0), (0, 0)))

    return run

  branches = [at(newest) for newest in lengths]

  def one_group(_, group):
    which, *arrays = group
    return None, jax.lax.switch(which, branches, *arrays)

  keys = jax.random.split(key, groups)
  _, states = jax.lax.scan(one_group, None, (choice, cut(vectors), cut(mask), keys))
  return jnp.zeros_like(vectors).at[order].set(states.reshape(vectors.shape), unique_indices=True)


@custom_vmap
def _agreed(lengths):
  """Lengths [groups]; under vmap their maximum, the same for all, so that a switch stays one."""
  return lengths


@_agreed.def_vmap
def _agreed_over_seeds(axis_size, batched, lengths):
  del axis_size
  return (jnp.max(lengths, axis=0) if batched[0] else lengths), False
