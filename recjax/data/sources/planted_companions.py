"""Users of one cause, whose histories a companion fills, and a shift that parts the two.

Of C categories the first half are causes, the others companions; each cause has one usual companion.
A user has a cause, evenly drawn, and with probability 1 - noise its usual companion, else any. A
history is FROM_CAUSE items of the cause and FROM_COMPANION items of the companion in random order; the
item after it is an unseen one of the cause, of the style (of two) that most of the user's items of the
cause have, of either where both have half.

Users come one after another, a day each. The last LATE of them are of two kinds by turns, as column
`shift` says of all their events: `in` as before, and `out` with the probability `noise` of the usual
companion. What goes with the target is learned from users among whom the companion tells the cause, and
then asked of others among whom it does not.
"""

from collections.abc import Iterator

import numpy as np

from recjax.data.sources.base import Chunk

FROM_CAUSE, FROM_COMPANION = 4, 6
LATE = 0.3
KINDS = ("in", "out")
_START, _DAY, _HOUR = 1_600_000_000, 86_400, 3600
_PAIRS, _EVENTS = range(2)  # separate streams of randomness from one seed


def companions(seed: int, causes: int) -> np.ndarray:
  """The usual companion of each cause, 0 .. causes - 1, int64 [causes]."""
  return np.random.default_rng([seed, _PAIRS]).permutation(causes)


def style(item: np.ndarray) -> np.ndarray:
  """Style 0 or 1 of items numbered from 1."""
  return (item - 1) % 2


def clicks(
  seed: int, num_users: int, num_items: int, categories: int, noise: float
) -> Iterator[Chunk]:
  """All events at once; categories are blocks of items."""
  rng = np.random.default_rng([seed, _EVENTS])
  causes, size = categories // 2, num_items // categories
  user = np.arange(num_users)
  shifted = (user >= num_users - round(LATE * num_users)) & (user % 2 == 1)
  cause = rng.integers(causes, size=num_users)
  usual = rng.random(num_users) < np.where(shifted, noise, 1.0 - noise)
  companion = np.where(usual, companions(seed, causes)[cause], rng.integers(causes, size=num_users))
  some = lambda count: np.argsort(rng.random((num_users, size)), axis=1)[:, :count]
  own = some(FROM_CAUSE) + 1 + cause[:, None] * size
  other = some(FROM_COMPANION) + 1 + (causes + companion)[:, None] * size
  history = rng.permuted(np.concatenate([own, other], axis=1), axis=1)
  # Twice the share of style 1, so that a half is exact.
  share = 2 * style(own).sum(axis=1)
  wanted = np.where(
    share == FROM_CAUSE, rng.integers(2, size=num_users), (share > FROM_CAUSE).astype(np.int64)
  )
  block = np.arange(size)[None] + 1 + cause[:, None] * size
  seen = (block[:, :, None] == own[:, None]).any(axis=2)
  eligible = (style(block) == wanted[:, None]) & ~seen
  target = np.take_along_axis(
    block, np.where(eligible, rng.random(block.shape), -1.0).argmax(axis=1)[:, None], axis=1
  )
  item = np.concatenate([history, target], axis=1)
  step = np.arange(item.shape[1])
  time = _START + _DAY * user[:, None] + _HOUR * step[None]
  kind = np.repeat(np.asarray(KINDS)[shifted.astype(np.int64)], item.shape[1])
  yield Chunk(np.repeat(user + 1, item.shape[1]), item.reshape(-1), time.reshape(-1), {"shift": kind})
