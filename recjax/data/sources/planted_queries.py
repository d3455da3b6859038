"""Planted searches and recommendations: what users like, what they need now, and words for needs.

User u has a taste a_u, item i a style b_i, both N(0, 1) in each of WIDTH numbers, and every item has a
need. For an event a need is drawn from the user's own Dirichlet(NEEDS) distribution, and an item with a
probability in proportion to exp(a_u . b_i / 2), among those that the user did not have yet. With the
probability `searches` it is a search, whose query holds QUERY of the need's WORDS words, each any other
word of all with the probability `noise`.
"""

from collections.abc import Iterator

import numpy as np

from recjax.data.sources.base import Chunk

WIDTH, NEEDS, WORDS, QUERY = 8, 0.3, 3, 2
_START = 1_600_000_000


def events(
  seed: int, num_users: int, num_items: int, needs: int, shortest: int, longest: int,
  searches: float, noise: float,
) -> Iterator[Chunk]:
  """All events at once, an hour apart, with columns word_1, word_2 (0 for none) and kind.

  Item i has the need (i - 1) % needs; words of need n, from 0, are WORDS n + 1 and following.
  """
  rng = np.random.default_rng([seed, 0])
  taste, style = rng.normal(size=(num_users, WIDTH)), rng.normal(size=(num_items, WIDTH))
  share = rng.dirichlet(np.full(needs, NEEDS), num_users)
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  # Drawing without replacement in proportion to exp(x) is the order of x + Gumbel noise.
  liking = taste @ style.T / 2 + rng.gumbel(size=(num_users, num_items))
  size, users = num_items // needs, np.arange(num_users)
  order = np.argsort(-liking.reshape(num_users, size, needs), axis=1)
  item = np.empty((num_users, longest), np.int64)
  taken = np.zeros((num_users, needs), np.int64)
  for step in range(longest):
    # A need whose items are used up is not felt again; a little for each keeps the sum above 0.
    weight = np.cumsum(np.where(taken < size, share + 1e-9, 0.0), axis=1)
    ticket = rng.random(num_users) * weight[:, -1]
    need = np.minimum((ticket[:, None] >= weight).sum(axis=1), needs - 1)
    item[:, step] = order[users, taken[users, need], need] * needs + need + 1
    taken[users, need] += 1
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  item = item[user, step]
  words = np.argsort(rng.random((len(item), WORDS)), axis=1)[:, :QUERY] + 1
  words += ((item - 1) % needs * WORDS)[:, None]
  anything = rng.integers(1, needs * WORDS, size=words.shape, endpoint=True)
  words = np.where(rng.random(words.shape) < noise, anything, words)
  searched = rng.random(len(item)) < searches
  words = np.where(searched[:, None], words, 0)
  columns = {f"word_{n + 1}": words[:, n] for n in range(QUERY)}
  columns["kind"] = np.where(searched, "search", "recommendation")
  yield Chunk(user + 1, item, _START + 3600 * step, columns)
