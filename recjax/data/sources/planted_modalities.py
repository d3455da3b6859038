"""Users who like a few clusters of items, which given vectors of two kinds tell with noise.

Item i belongs to cluster (i - 1) % clusters; within one, popularity is as 1 / rank. A user likes LIKED
clusters with weights from Dirichlet(1) and has `length` different items: of these clusters by
popularity, or with probability `noise` any. The order says nothing, so that the last are a random part.

An item has a vector of each kind, its cluster's centre N(0, 1 / width) plus NOISE N(0, 1 / width), and
those of another item as `shuffled_...`, which tell nothing.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from recjax.data.sources.base import Chunk

LIKED, NOISE = 3, 0.7
WIDTHS = {"picture": 64, "text": 48}
HELD_OUT = 2  # of a user's events: for validation and test
SELDOM = 2  # training events of an item that is had seldom
_START = 1_600_000_000
_VECTORS, _EVENTS, _ORDER = range(3)  # separate streams of randomness from one seed


def item_vectors(seed: int, num_items: int, clusters: int) -> dict[str, pa.Array]:
  """Vectors of items 1, 2, ... by column."""
  rng = np.random.default_rng([seed, _VECTORS])
  found = {}
  for name, width in WIDTHS.items():
    centre = rng.normal(0.0, width**-0.5, (clusters, width))
    noise = rng.normal(0.0, NOISE * width**-0.5, (num_items, width))
    vectors = (centre[np.arange(num_items) % clusters] + noise).astype(np.float32)
    for column, rows in ((name, vectors), (f"shuffled_{name}", rng.permutation(vectors))):
      found[column] = pa.array(list(rows), pa.list_(pa.float32()))
  return found


def chances(
  rng: np.random.Generator, num_users: int, num_items: int, clusters: int, noise: float
) -> np.ndarray:
  """How likely each user's event is each item, float64 [num_users, num_items]; rows sum to 1."""
  place = np.arange(num_items)
  popularity = 1.0 / (place // clusters + 1.0)
  popularity /= np.bincount(place % clusters, popularity, clusters)[place % clusters]
  liked = np.argsort(rng.random((num_users, clusters)), axis=1)[:, :LIKED]
  weight = np.zeros((num_users, clusters))
  np.put_along_axis(weight, liked, rng.dirichlet(np.ones(LIKED), num_users), axis=1)
  return (1.0 - noise) * weight[:, place % clusters] * popularity + noise / num_items


def events(
  seed: int, num_users: int, num_items: int, clusters: int, length: int, noise: float
) -> Iterator[Chunk]:
  """All events at once, an hour apart; column `had`: are items seldom or often had in training."""
  rng = np.random.default_rng([seed, _EVENTS])
  # The largest of log chance + Gumbel noise are draws without replacement.
  score = np.log(chances(rng, num_users, num_items, clusters, noise))
  score += rng.gumbel(size=score.shape)
  drawn = np.argpartition(-score, length - 1, axis=1)[:, :length]
  item = np.random.default_rng([seed, _ORDER]).permuted(drawn, axis=1) + 1
  count = np.bincount(item[:, :-HELD_OUT].reshape(-1), minlength=num_items + 1)
  had = np.where(count[item] <= SELDOM, "seldom", "often").reshape(-1)
  step = np.tile(np.arange(length), num_users)
  user = np.repeat(np.arange(1, num_users + 1), length)
  yield Chunk(user, item.reshape(-1), _START + 3600 * step, {"had": had})
