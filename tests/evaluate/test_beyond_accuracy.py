"""List metrics against hand-worked numbers and their limits."""

import math

import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluate import beyond_accuracy

LISTS = np.array([[1, 2], [1, 3], [1, 0]])  # exposure 3, 1, 1, 0 over four items
COUNTS = np.array([0, 8, 4, 3, 1])


def test_hand_worked_lists():
  np.testing.assert_array_equal(beyond_accuracy.exposure(LISTS, 4), [3, 1, 1, 0])
  assert beyond_accuracy.coverage(LISTS, 4) == 0.75
  # Ascending exposure 0, 1, 1, 3: (-3*0 - 1*1 + 1*1 + 3*3) / (4 * 5).
  assert beyond_accuracy.gini(LISTS, 4) == pytest.approx(0.45)
  assert beyond_accuracy.popularity(LISTS, COUNTS) == pytest.approx((3 * 8 + 4 + 3) / 5)
  bits = (3 * 1 + 2 + math.log2(16 / 3)) / 5
  assert beyond_accuracy.novelty(LISTS, COUNTS) == pytest.approx(bits)


def test_gini_limits():
  same = np.tile([5, 9], (100, 1))
  assert beyond_accuracy.gini(same, 10) == pytest.approx(1 - 2 / 10)
  assert beyond_accuracy.coverage(same, 10) == 0.2
  even = np.arange(1, 11).reshape(5, 2)
  assert beyond_accuracy.gini(even, 10) == pytest.approx(0)
  assert beyond_accuracy.coverage(even, 10) == 1


def test_gini_is_half_the_relative_mean_difference():
  counts = np.random.default_rng(0).integers(0, 6, 20)
  lists = np.repeat(np.arange(1, 21), counts)[:, None]
  difference = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
  assert beyond_accuracy.gini(lists, 20) == pytest.approx(difference)


def test_novelty_of_an_item_never_seen_in_training():
  counts = np.array([0, 7, 1, 0])
  assert beyond_accuracy.novelty(np.array([[3]]), counts) == pytest.approx(3)
  assert beyond_accuracy.novelty(np.array([[2]]), counts) == pytest.approx(3)


def test_diversity_is_the_share_of_mixed_pairs():
  category = np.array([0, 1, 1, 2, 3])
  assert beyond_accuracy.diversity(np.array([[1, 2, 3]]), category) == pytest.approx(2 / 3)
  assert beyond_accuracy.diversity(np.array([[1, 2]]), category) == 0
  assert beyond_accuracy.diversity(np.array([[1, 3, 4]]), category) == 1
  # A short list has fewer pairs; one with a single item has none and is left out.
  lists = np.array([[1, 3, 0], [1, 2, 0], [4, 0, 0]])
  assert beyond_accuracy.diversity(lists, category) == pytest.approx(0.5)
  assert math.isnan(beyond_accuracy.diversity(np.array([[1, 0]]), category))


def test_spread_is_the_mean_of_one_less_cosine():
  vectors = np.array([[0, 0], [1, 0], [0, 2], [3, 0], [-1, 0]], np.float32)
  spread = lambda *rows: beyond_accuracy.spread(np.array(rows), vectors)
  assert spread([1, 3]) == pytest.approx(0)  # copies of one direction
  assert spread([1, 2]) == pytest.approx(1)  # orthogonal
  assert spread([1, 4, 0]) == pytest.approx(2)  # opposite, in a short list
  assert spread([1, 2, 3]) == pytest.approx(2 / 3)
  assert spread([1, 2], [1, 3], [4, 0]) == pytest.approx(1 / 2)  # the last has no pairs
  assert math.isnan(spread([1, 0]))
  vectors[2] = 0
  assert math.isnan(spread([1, 2]))


def test_empty_lists_are_refused():
  with pytest.raises(DataError, match="empty"):
    beyond_accuracy.coverage(np.zeros((2, 3), int), 4)
