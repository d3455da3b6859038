"""Users who follow fixed successors of items: walks along a chain, and steps of two kinds.

Walks (`markov`) go to the last item's successor or, with the probability `noise`, anywhere. Of
`two_signals` a share `follow` of steps goes to the last item's one successor, which is of another
category; the others stay in a category that the user owns and has visited lately.
"""

from collections.abc import Iterator

import numpy as np

from recjax.data.sources.base import Chunk

INTERESTS = 3  # categories that a user of two_signals likes


def chain(seed: int, num_items: int) -> np.ndarray:
  """Next item by item, int64 [num_items + 1]: one cycle through all items; entry 0 is 0."""
  cycle = np.random.default_rng([seed, 0]).permutation(num_items) + 1
  successor = np.zeros(num_items + 1, np.int64)
  successor[cycle] = np.roll(cycle, -1)
  return successor


def other_category(seed: int, num_items: int, num_categories: int) -> np.ndarray:
  """A successor of another category by item, drawn evenly, int64 [num_items + 1]; entry 0 is 0."""
  rng = np.random.default_rng([seed, 0])
  item = np.arange(num_items)
  shift = rng.integers(1, num_categories, size=num_items)
  turn = rng.integers(num_items // num_categories, size=num_items)
  successor = turn * num_categories + (item % num_categories + shift) % num_categories
  return np.concatenate([[0], successor + 1])


def two_signals(
  seed: int,
  successor: np.ndarray,
  num_categories: int,
  follow: float,
  num_users: int,
  num_items: int,
  shortest: int,
  longest: int,
) -> Iterator[Chunk]:
  """All sequences at once.

  A step that does not follow draws one of the last three items whose category the user owns (any
  owned category where none is), and then any item of that category.
  """
  rng = np.random.default_rng([seed, 1])
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  owned = np.argsort(rng.random((num_users, num_categories)), axis=1)[:, :INTERESTS]
  own = np.zeros((num_users, num_categories), bool)
  np.put_along_axis(own, owned, True, axis=1)
  users = np.arange(num_users)
  of_category = lambda category: (
    rng.integers(num_items // num_categories, size=num_users) * num_categories + category + 1
  )
  any_owned = lambda: owned[users, rng.integers(INTERESTS, size=num_users)]
  item = np.empty((num_users, longest), np.int64)
  item[:, 0] = of_category(any_owned())
  follows = rng.random((num_users, longest)) < follow
  follows[:, 0] = False
  for step in range(1, longest):
    recent = (item[:, max(0, step - 3) : step] - 1) % num_categories
    weight = np.where(own[users[:, None], recent], rng.random(recent.shape), -1.0)
    best = weight.argmax(axis=1)
    category = np.where(weight[users, best] > 0, recent[users, best], any_owned())
    drawn = of_category(category)
    item[:, step] = np.where(follows[:, step], successor[item[:, step - 1]], drawn)
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  kind = np.where(follows, "successor", "collaborative")
  kind[:, 0] = "start"
  time = 1_600_000_000 + 3600 * step
  yield Chunk(user + 1, item[user, step], time, {"step": kind[user, step]})


def walks(
  seed: int,
  successor: np.ndarray,
  noise: float,
  num_users: int,
  num_items: int,
  shortest: int,
  longest: int,
) -> Iterator[Chunk]:
  """All walks at once: an event an hour, starting at an hour of the user's own."""
  rng = np.random.default_rng([seed, 1])
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  starts = 1_600_000_000 + 3600 * rng.integers(24 * 28, size=num_users)
  item = np.empty((num_users, longest), np.int64)
  item[:, 0] = rng.integers(num_items, size=num_users) + 1
  for step in range(1, longest):
    jump = rng.integers(num_items, size=num_users) + 1
    item[:, step] = np.where(
      rng.random(num_users) < noise, jump, successor[item[:, step - 1]]
    )
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  yield Chunk(user + 1, item[user, step], starts[user] + 3600 * step, {})
