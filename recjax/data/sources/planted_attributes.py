"""Users of two groups, half of whose clicks tell the group, and the other half a taste of their own.

Topics 0 .. T/2 - 1 are neutral; of the others the first half belongs to group a, the second to b. Every
click is, with probability DRIVEN, driven by the group: any topic of its own block with probability OWN,
else any of the other block's. Otherwise its topic is drawn from the user's own Dirichlet(TASTE)
preference among the neutral topics. Items of a topic are equally likely.

An item's vector is its topic's centre, N(0, 9 / WIDTH) in each of WIDTH numbers, plus NOISE N(0, 1).
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from recjax.data.sources.base import Chunk

DRIVEN, OWN, TASTE = 0.5, 0.9, 0.3
WIDTH, NOISE = 24, 0.3
GROUPS = ("a", "b")
_START = 1_600_000_000
_VECTORS, _GROUPS, _CLICKS = range(3)  # separate streams of randomness from one seed


def groups(seed: int, num_users: int) -> np.ndarray:
  """Group 0 or 1 of every user, evenly drawn, int64 [num_users]."""
  return np.random.default_rng([seed, _GROUPS]).integers(2, size=num_users)


def user_table(seed: int, num_users: int) -> pa.Table:
  """Users with their `group`."""
  names = np.asarray(GROUPS)[groups(seed, num_users)]
  return pa.table({"user_id": np.arange(1, num_users + 1), "group": names})


def item_vectors(seed: int, num_items: int, topics: int) -> pa.Array:
  """Vectors of items 1, 2, ...; item i has topic (i - 1) % topics."""
  rng = np.random.default_rng([seed, _VECTORS])
  centre = rng.normal(0.0, 3.0 / WIDTH**0.5, (topics, WIDTH))
  vectors = centre[np.arange(num_items) % topics] + NOISE * rng.normal(size=(num_items, WIDTH))
  return pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32()))


def clicks(
  seed: int, num_users: int, num_items: int, topics: int, shortest: int, longest: int
) -> Iterator[Chunk]:
  """All clicks at once, an hour apart, with a column `drive`: group or taste."""
  rng = np.random.default_rng([seed, _CLICKS])
  shape, block = (num_users, longest), topics // 4
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  driven = rng.random(shape) < DRIVEN
  other = rng.random(shape) >= OWN
  favoured = groups(seed, num_users)[:, None] ^ other
  taste = np.cumsum(rng.dirichlet(np.full(2 * block, TASTE), num_users), axis=1)
  of_taste = (rng.random(shape)[:, :, None] > taste[:, None, :-1]).sum(axis=2)
  topic = np.where(driven, (2 + favoured) * block + rng.integers(block, size=shape), of_taste)
  item = rng.integers(num_items // topics, size=shape) * topics + topic + 1
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  drive = np.where(driven, "group", "taste")[user, step]
  yield Chunk(user + 1, item[user, step], _START + 3600 * step, {"drive": drive})
