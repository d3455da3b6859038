"""Votes for tests: from tables of wins and ties, and at random."""

import numpy as np

from recjax.evaluate import votes

WINS = np.array([[0, 12, 9, 7], [6, 0, 11, 8], [5, 4, 0, 10], [3, 6, 5, 0]])
TIES = np.array([[0, 4, 2, 0], [4, 0, 3, 1], [2, 3, 0, 5], [0, 1, 5, 0]])
MUSIC_WINS = np.array([[0, 8, 9], [2, 0, 5], [1, 4, 0]])
MUSIC_TIES = np.array([[0, 2, 0], [2, 0, 3], [0, 3, 0]])


def names(size):
  return [f"m{i}" for i in range(size)]


def table(wins, ties=None, **more):
  """Votes of which row i beat column j wins[i][j] times, and tied ties[i][j] times."""
  rows = [(i, j, 1.0) for i, j in np.ndindex(*np.shape(wins)) for _ in range(wins[i][j])]
  if ties is not None:
    rows += [(i, j, 0.5) for i, j in np.ndindex(*np.shape(ties)) if i < j for _ in range(ties[i][j])]
  a, b, y = (np.array(column) for column in zip(*rows, strict=True))
  return votes.make(names(len(wins)), a, b, y, **more)


def random(seed, size=5, count=300, covariates=0, users=0):
  """Votes with ties that are near enough to even for a maximum to exist."""
  rng = np.random.default_rng(seed)
  a = rng.integers(0, size, count)
  b = (a + rng.integers(1, size, count)) % size
  x = rng.normal(size=(count, covariates))
  strength = rng.normal(size=size) * 0.4
  chance = 1 / (1 + np.exp(-(strength[a] - strength[b] + x.sum(axis=1) * 0.3)))
  y = np.where(rng.random(count) < 0.2, 0.5, rng.random(count) < chance)
  return votes.make(
    names(size), a, b, y, x=x, covariates=[f"x{f}" for f in range(covariates)],
    cluster=rng.integers(0, users, count) if users else None,
  )
