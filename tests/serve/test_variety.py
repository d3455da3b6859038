"""Maximal marginal relevance: a list by hand, against a slow loop, and owners."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recjax.serve.variety import mmr

# Scores .9, .8, .6; the second is the first again, the third is orthogonal to both.
SCORES = np.array([[0.9, 0.8, 0.6]])
VECTORS = np.array([[[1.0, 0], [1, 0], [0, 1]]])


def test_a_list_by_hand():
  """At .7: .56 - .3 for the copy, .42 for what is new."""
  assert mmr(SCORES, VECTORS, 3).tolist() == [[0, 2, 1]]
  assert mmr(SCORES, VECTORS, 3, weight=1.0).tolist() == [[0, 1, 2]]


def test_owners_and_empty_places():
  owners = np.array([[5, 5, 7]])
  assert mmr(SCORES, VECTORS, 3, 1.0, owners, most=1).tolist() == [[0, 2, -1]]
  assert mmr(SCORES, VECTORS, 3, 1.0, owners, most=2).tolist() == [[0, 1, 2]]
  assert mmr(np.array([[-np.inf, 0.1, -np.inf]]), VECTORS, 2).tolist() == [[1, -1]]


@given(st.integers(0, 50), st.floats(0, 1))
def test_equals_a_slow_loop(seed, weight):
  rng = np.random.default_rng(seed)
  scores, vectors = rng.normal(size=(1, 7)), rng.normal(size=(1, 7, 3))
  listed = []
  for _ in range(5):
    value = {
      i: weight * scores[0, i]
      - (1 - weight) * max((vectors[0, i] @ vectors[0, j] for j in listed), default=0.0)
      for i in range(7) if i not in listed
    }
    listed.append(max(value, key=value.get))
  assert mmr(scores, vectors, 5, weight).tolist() == [listed]
