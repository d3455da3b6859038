"""Re-rankers: worked lists, slow twins, invariants and errors."""

import math

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.evaluate import rerank

# Coverage in the first two places: 3, 2, 1, 0, 0 of items 1 to 5.
ITEMS = np.array([[1, 2, 4], [1, 2, 3], [1, 3, 5]])


def random_lists(seed, users=12, num_items=14, length=6):
  """Lists of the best `length` items of random scores, and all scores with a first column of NaN."""
  rng = np.random.default_rng(seed)
  scores = np.round(rng.normal(size=(users, num_items)) + 2 * np.linspace(1, 0, num_items), 2)
  items = np.argsort(-scores, axis=1, kind="stable")[:, :length] + 1
  return items, np.pad(scores, ((0, 0), (1, 0)), constant_values=np.nan)


def by_coverage(items, k):
  """Each user's items, least shown first."""
  shown = lambda item: sum(item in row[:k] for row in items.tolist())
  return [sorted(row, key=lambda item: (shown(item), item)) for row in items.tolist()]


def slow_borda(items, k):
  out, length = [], items.shape[1]
  for row, seldom in zip(items.tolist(), by_coverage(items, k), strict=True):
    points = {i: (length - 1 - row.index(i)) + (length - 1 - seldom.index(i)) for i in row}
    out.append(sorted(row, key=lambda i, p=points: (-p[i], i))[:k])
  return np.array(out)


def slow_combmnz(items, scores, k):
  shown = {i: sum(i in row[:k] for row in items.tolist()) for row in items.tolist() for i in row}
  low, high = min(shown.values()), max(shown.values())
  scaled = (scores - scores.min()) / (scores.max() - scores.min())
  out = []
  for row, value, seldom in zip(items.tolist(), scaled, by_coverage(items, k), strict=True):
    total = {}
    for place, item in enumerate(row):
      parts = [
        value[place] if place < k else 0,
        1 - (shown[item] - low) / (high - low) if item in seldom[:k] else 0,
      ]
      total[item] = sum(parts) * sum(part != 0 for part in parts)
    out.append(sorted(row, key=lambda i, t=total: (-t[i], i))[:k])
  return np.array(out)


def slow_greedy(items, scores, k, beta):
  lists = [row[:k] for row in items.tolist()]
  shown = {i: sum(i in row for row in lists) for i in np.unique(items).tolist()}
  most, mean = max(shown.values()), np.mean(list(shown.values()))
  upper = min(math.floor(mean + beta * most), most)
  lower = upper - beta * most
  over, under = [i for i in shown if shown[i] > upper], [i for i in shown if shown[i] < lower]
  middle = [i for i in shown if i not in over and i not in under and shown[i] != lower]
  if not over:
    over = middle
  elif not under:
    under = middle
  pairs = []
  for old in over:
    for new in under:
      users = [u for u, row in enumerate(lists) if old in row and new not in row]
      if users:
        loss = [scores[u, old] - scores[u, new] for u in users]
        pairs.append((min(loss), users[int(np.argmin(loss))], old, new))
  pairs.sort(key=lambda pair: pair[0])
  for _, user, old, new in pairs[: round(0.25 * k * len(lists))]:
    row = lists[user]
    if old in row:
      place = row.index(old)
      if new in row:
        row[row.index(new)] = old
      row[place] = new
  return np.array(lists)


def test_worked_borda():
  # First user: by score 1, 2, 4 and by coverage 4, 2, 1: 2 points each, so ids decide.
  np.testing.assert_array_equal(rerank.borda(ITEMS, 5, 2), [[1, 2], [1, 2], [1, 3]])
  # The other way round 1 is in nobody's first two places: 3 points for 4, 2 for 1, 1 for 2.
  np.testing.assert_array_equal(rerank.borda(ITEMS[:, ::-1].copy(), 5, 2)[0], [4, 1])


def test_worked_combmnz():
  scores = np.array([[1.0, 0.5, 0.0]] * 3)
  # First user: 1 has 1 of its score; 2 has 0.5 + (1 - 2/3), both counted, 5/3; 4 has 1 of coverage.
  np.testing.assert_array_equal(rerank.combmnz(ITEMS, scores, 5, 2)[0], [2, 1])
  np.testing.assert_array_equal(rerank.combmnz(ITEMS, scores, 5, 1)[:, 0], [1, 1, 1])
  same = np.ones((3, 3))  # a constant score says nothing, coverage alone decides
  np.testing.assert_array_equal(rerank.combmnz(ITEMS, same, 5, 2)[0], [4, 2])


def test_worked_greedy_substitution():
  # Coverage 3, 2, 1, 0, 0, mean 1.2: the band with beta 0 is at 1, so 1 and 2 give to 4 and 5.
  scores = np.array([
    [np.nan, 9, 8, 0, 7, 1], [np.nan, 9, 8, 7, 0, 0], [np.nan, 9, 1, 8, 0, 7],
  ])
  # Losses: 2 -> 4 costs 1 (user 0), 1 -> 4 and 1 -> 5 cost 2 (users 0 and 2), 2 -> 5 costs 7.
  found = rerank.greedy_substitution(ITEMS, scores, 2, beta=0.0, share=1 / 6)
  np.testing.assert_array_equal(found, [[1, 4], [1, 2], [1, 3]])
  found = rerank.greedy_substitution(ITEMS, scores, 2, beta=0.0, share=0.5)
  # The second pair, 1 -> 4 of user 0, finds 4 in the list: they change places.
  np.testing.assert_array_equal(found, [[4, 1], [1, 2], [5, 3]])
  np.testing.assert_array_equal(
    rerank.greedy_substitution(ITEMS, scores, 2, beta=0.0, share=0.0), ITEMS[:, :2]
  )


@pytest.mark.parametrize("seed", range(8))
def test_rerankers_equal_their_loops(seed):
  items, scores = random_lists(seed)
  own = np.take_along_axis(scores, items, axis=1)
  for k in (1, 3, 5):
    np.testing.assert_array_equal(rerank.borda(items, 14, k), slow_borda(items, k))
    np.testing.assert_array_equal(rerank.combmnz(items, own, 14, k), slow_combmnz(items, own, k))
    for beta in (0.0, 0.05, 0.4):
      found = rerank.greedy_substitution(items, scores, k, beta)
      np.testing.assert_array_equal(found, slow_greedy(items, scores, k, beta))
      assert all(len(set(row)) == k for row in found.tolist())
      assert np.isin(found, items).all()


@pytest.mark.parametrize("seed", range(3))
def test_rerankers_show_more_items(seed):
  items, scores = random_lists(seed, users=60, num_items=40, length=12)
  own = np.take_along_axis(scores, items, axis=1)
  shown = lambda lists: len(np.unique(lists))
  before = shown(items[:, :4])
  assert shown(rerank.greedy_substitution(items, scores, 4)) > before
  for found in (rerank.borda(items, 40, 4), rerank.combmnz(items, own, 40, 4)):
    assert shown(found) > before
    assert all(set(row) <= set(items[user]) for user, row in enumerate(found.tolist()))


def test_scores_may_be_shifted_and_scaled():
  items, scores = random_lists(3)
  own = np.take_along_axis(scores, items, axis=1)
  before = rerank.combmnz(items, own, 14, 4)
  np.testing.assert_array_equal(rerank.combmnz(items, 8 * own - 3, 14, 4), before)
  np.testing.assert_array_equal(
    rerank.greedy_substitution(items, scores + 16, 4), rerank.greedy_substitution(items, scores, 4)
  )


def test_equal_coverage_leaves_lists_alone():
  items = np.array([[1, 2], [2, 3], [3, 1]])
  scores = np.random.default_rng(0).random((3, 4))
  np.testing.assert_array_equal(rerank.greedy_substitution(items, scores, 2, beta=0.0), items)


def test_items_without_a_score_are_not_brought_in():
  scores = np.array([[np.nan, 9, 8, -np.inf, -np.inf, -np.inf]] * 3)
  np.testing.assert_array_equal(
    rerank.greedy_substitution(ITEMS, scores, 2, beta=0.0, share=1.0), ITEMS[:, :2]
  )


def test_what_cannot_be_reranked_is_refused():
  scores = np.zeros((3, 6))
  with pytest.raises(ConfigError, match="Lists of 3 items cannot be re-ranked to k = 4"):
    rerank.borda(ITEMS, 5, 4)
  with pytest.raises(DataError, match="some of these are short"):
    rerank.borda(np.array([[1, 2], [3, 0]]), 5, 1)
  with pytest.raises(DataError, match="row 0 shows an item twice"):
    rerank.combmnz(np.array([[1, 1]]), np.zeros((1, 2)), 5, 1)
  with pytest.raises(DataError, match=r"finite scores of shape \(3, 3\)"):
    rerank.combmnz(ITEMS, np.full((3, 3), -np.inf), 5, 2)
  with pytest.raises(ConfigError, match="beta = 2"):
    rerank.greedy_substitution(ITEMS, scores, 2, beta=2)
  with pytest.raises(DataError, match="scores of 2 users and lists of 3"):
    rerank.greedy_substitution(ITEMS, scores[:2], 2)
