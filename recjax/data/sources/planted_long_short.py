"""Users of three lasting interests and a new one.

Clusters of items come in groups of GROUP. A user has LONG lasting clusters and one new one, all of
different groups. LONG_EVENTS events are evenly of the lasting clusters; then come SHORT_EVENTS, of
which NEW are of the new cluster and the others of lasting ones, in random order. An event falls with
probability `noise` on another cluster of its group. What comes next is an unseen item, with probability
FRESH of the new cluster, else of a lasting one.

Column `kind` of an event says what its cluster is to the user, `new` or `lasting`.
"""

from collections.abc import Iterator

import numpy as np

from recjax.data.sources.base import Chunk

GROUP = 5
LONG, LONG_EVENTS, SHORT_EVENTS, NEW, FRESH = 3, 40, 8, 6, 0.6
KINDS = ("lasting", "new")
_START, _DAY, _APART = 1_600_000_000, 86_400, 1200


def clicks(
  seed: int, num_users: int, num_items: int, clusters: int, noise: float
) -> Iterator[Chunk]:
  """All events at once, users a day after one another; clusters are blocks of items."""
  rng = np.random.default_rng([seed, 0])
  size, length = num_items // clusters, LONG_EVENTS + SHORT_EVENTS
  groups = np.argsort(rng.random((num_users, clusters // GROUP)), axis=1)[:, : LONG + 1]
  own = groups * GROUP + rng.integers(GROUP, size=groups.shape)  # the last is new
  which = rng.integers(LONG, size=(num_users, length))
  which[:, LONG_EVENTS : LONG_EVENTS + NEW] = LONG
  which[:, LONG_EVENTS:] = rng.permuted(which[:, LONG_EVENTS:], axis=1)
  cluster = np.take_along_axis(own, which, axis=1)
  shift = rng.integers(1, GROUP, size=which.shape)
  other = cluster // GROUP * GROUP + (cluster + shift) % GROUP
  cluster = np.where(rng.random(which.shape) < noise, other, cluster)
  history = cluster * size + rng.integers(size, size=which.shape) + 1
  fresh = rng.random(num_users) < FRESH
  last = np.where(fresh, LONG, rng.integers(LONG, size=num_users))
  block = own[np.arange(num_users), last][:, None] * size + np.arange(size)[None] + 1
  seen = np.zeros(block.shape, bool)
  for event in range(length):
    seen |= block == history[:, event : event + 1]
  best = np.where(seen, -1.0, rng.random(block.shape)).argmax(axis=1)
  item = np.concatenate([history, np.take_along_axis(block, best[:, None], axis=1)], axis=1)
  kind = np.asarray(KINDS)[(np.concatenate([which, last[:, None]], axis=1) == LONG).astype(np.int64)]
  user, step = np.indices(item.shape)
  time = _START + _DAY * user + _APART * step
  columns = {"kind": kind.reshape(-1)}
  yield Chunk(user.reshape(-1) + 1, item.reshape(-1), time.reshape(-1), columns)
