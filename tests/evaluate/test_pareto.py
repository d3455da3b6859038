"""Oracle2Fair and the distance to its frontier: worked cases, a slow walk, invariants, errors."""

import math
import sys

import numpy as np
import pytest
from fairness_twins import csr
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError, DataError
from recjax.evaluate import pareto
from recjax.evaluate.oracle_to_fair import oracle, walk_to_fair
from recjax.evaluate.pareto import Frontier, pareto_frontier, reference_point

# (relevance, Gini) with .9 twice.
POINTS = np.array([(1, 0.6), (0.9, 0.4), (0.9, 0.35), (0.7, 0.2), (0.4, 0)])


def random_data(users, num_items, seed, most=8):
  """Relevant and seen rows of users, disjoint, at least one relevant item each."""
  rng = np.random.default_rng(seed)
  skew = 1 / np.arange(1, num_items + 1)
  relevant, seen = [], []
  for _ in range(users):
    order = rng.choice(num_items, num_items, replace=False, p=skew / skew.sum()) + 1
    size = rng.integers(1, most)
    relevant.append(sorted(order[:size].tolist()))
    seen.append(sorted(order[size : size + rng.integers(0, most)].tolist()))
  return relevant, seen


def slow_walk(lists, relevant, seen, items, k):
  """Replacements as written in the definition, with counts made anew each time."""
  lists = [list(row) for row in lists]
  limit = -(-len(lists) * k // len(items))
  while True:
    yield lists
    count = {item: sum(item in row for row in lists) for item in items}
    if max(count.values()) <= limit:
      return
    chosen = None
    for old in sorted(items, key=lambda i: (-count[i], i)):
      holders = [u for u, row in enumerate(lists) if old in row]
      holders.sort(key=lambda u, old=old: (-lists[u].index(old), u))
      for new in sorted(items, key=lambda i: (count[i], i)):
        free = [u for u in holders if new not in seen[u] and new not in lists[u]]
        if count[new] + 1 < count[old] and free:
          wanting = [u for u in free if new in relevant[u]]
          chosen = ((wanting or free)[0], old, new)
          break
      if chosen:
        break
    if not chosen:
      return
    user, old, new = chosen
    row = [new if item == old else item for item in lists[user]]
    lists[user] = [i for i in row if i in relevant[user]] + [i for i in row if i not in relevant[user]]


def test_worked_walks():
  found = pareto_frontier(csr([[1, 2], [1, 2], [1, 2], [1]]), csr([[6], [5], [4], [3]]), 2)
  np.testing.assert_array_equal(found.start, [[1, 2], [1, 2], [1, 2], [1, 4]])
  expected = {
    "P": [0.875, 0.75, 0.625, 0.5], "NDCG": [1, 0.903287, 0.806574, 0.709860],
    "Jain_our": [0.138462, 0.36, 0.6, 1], "Gini_our": [0.916667, 0.666667, 0.416667, 0],
    "QF_our": [0.25, 0.5, 0.75, 1],
  }
  for name, values in expected.items():
    np.testing.assert_allclose(found.values[name], values, atol=6e-7)
  assert found.values["Ent_our"][0] == pytest.approx(0.270426, abs=1e-6)
  assert found.converged and found.expected == 3 and found.steps.tolist() == [0, 1, 2, 3]

  # Ids need not be dense: the six items here are 1, 2, 3, 5, 6 and 7.
  found = pareto_frontier(csr([[1, 2], [1, 2], [1, 2, 3], [1]]), csr([[7], [7], [5], [6]]), 2)
  expected = {
    "P": [0.875, 0.75, 0.625], "MAP": [1, 0.875, 0.625], "Jain_our": [0.272727, 0.6, 1],
    "Ent_our": [0.5, 0.770426, 1],
  }
  for name, values in expected.items():
    np.testing.assert_allclose(found.values[name], values, atol=6e-7)
  np.testing.assert_array_equal(found.start, [[1, 2], [1, 2], [3, 1], [1, 5]])
  np.testing.assert_array_equal(found.end, [[1, 2], [1, 2], [3, 6], [7, 5]])


def test_groups_of_the_oracle_are_served_by_how_much_is_taken():
  """Users with 3 relevant items, k = 2: the one whose items are shown least comes first."""
  relevant = [[1, 2], [1, 2, 3], [3, 4, 5], [6]]
  walk = oracle(csr(relevant), csr([[], [], [], [1, 3]]), 2)
  # Counts of 1 and 2 are 1. The third user takes 3 and 4, the second 3, then 1 of the taken ones.
  # The fourth is filled with 5, which nobody shows.
  assert walk.lists.tolist() == [[1, 2], [3, 1], [3, 4], [6, 5]]
  assert walk.counts.tolist() == [0, 2, 1, 2, 1, 1, 1]
  # Where all is shown the least shown one fills, the lowest of equals, never one that is known.
  walk = oracle(csr([[1, 2], [1, 3], [4]]), csr([[], [], [2]]), 2)
  assert walk.lists.tolist() == [[1, 2], [1, 3], [4, 3]]


@pytest.mark.parametrize("seed", range(100, 120))
def test_walk_keeps_its_promises(seed):
  users, num_items, k = 30, 40, 5
  relevant, seen = random_data(users, num_items, seed)
  items = np.arange(1, num_items + 1)
  walk = oracle(csr(relevant), csr(seen), k, items)
  assert walk.expected == np.maximum(walk.counts - 4, 0).sum()  # ceil(150 / 40)
  slow = slow_walk(walk.lists.tolist(), relevant, seen, items.tolist(), k)
  before, values = next(slow), [pareto.measure_walk(walk)]
  before = np.array(before)

  def look(step):
    nonlocal before
    lists = walk.recommendations()
    assert ((lists != before).any(axis=1)).sum() == 1  # in one list alone
    np.testing.assert_array_equal(lists, next(slow))
    np.testing.assert_array_equal(np.bincount(lists.ravel(), minlength=num_items + 1), walk.counts)
    assert walk.counts.max() <= np.bincount(before.ravel()).max()
    for row, known, wanted in zip(lists.tolist(), seen, relevant, strict=True):
      assert len(set(row)) == k and not set(row) & set(known)
      right = [item in wanted for item in row]
      assert right == sorted(right, reverse=True)
    before = lists
    values.append(pareto.measure_walk(walk))

  _, converged = walk_to_fair(walk, look)
  assert converged and next(slow, None) is None
  assert values[0]["NDCG"] == values[0]["MAP"] == 1
  assert values[0]["P"] * k == pytest.approx(np.mean([min(len(row), k) for row in relevant]))
  assert values[-1]["NDCG"] <= 1 and walk.counts.max() <= 4
  assert (np.diff([v["Ent_our"] for v in values]) >= -1e-9).all()


def test_fully_fair_goes_on_and_points_are_few():
  relevant, seen = random_data(20, 33, 7)
  data = csr(relevant), csr(seen), 5, np.arange(1, 34)  # 100 places: an item may have 4 at the end
  half = pareto_frontier(*data)
  whole = pareto_frontier(*data, fully_fair=True)
  count = np.bincount(whole.end.ravel(), minlength=34)[1:]
  assert count.max() - count.min() <= 1 and whole.values["Jain_our"][-1] == 1
  assert whole.steps[-1] > half.steps[-1] and half.values["Jain_our"][-1] < 1
  few = pareto_frontier(*data, points=3)
  every = half.expected // 4
  assert few.steps.tolist() == [0, every, 2 * every, 3 * every, half.steps[-1]]
  for name, values in few.values.items():
    np.testing.assert_array_equal(values, half.values[name][few.steps])
  own = pareto_frontier(*data, points=0, measure=lambda lists: {"largest": lists.max()})
  assert list(own.values) == ["largest"] and own.steps.tolist() == [0, half.steps[-1]]


def test_everybody_has_enough_relevant_items():
  found = pareto_frontier(csr([[1, 2, 3], [1, 2, 4]]), csr([[5], []]), 2)
  assert found.start.tolist() == [[1, 2], [1, 2]]
  assert found.converged and np.bincount(found.end.ravel()).max() == 1


def test_a_walk_without_a_way_stops():
  """Items 2 and 3 are known to all, so item 1 stays in all lists."""
  found = pareto_frontier(csr([[1]] * 3), csr([[2, 3]] * 3), 1)
  assert not found.converged and found.steps.tolist() == [0]
  # The next most shown item is tried: 1 is stuck, 2 is not.
  found = pareto_frontier(csr([[1, 2], [1, 2], [1, 2]]), csr([[4], [4], [4]]), 2, items=range(1, 6))
  assert found.converged and np.bincount(found.end.ravel()).max() == 2


@pytest.mark.parametrize("alpha, expected", [
  (0, (0.9, 0.35)), (0.25, (0.9, 0.35)), (0.5, (0.7, 0.2)), (0.75, (0.7, 0.2)), (1, (0.4, 0)),
])
def test_reference_points(alpha, expected):
  assert reference_point(POINTS, alpha) == pytest.approx(expected)


def frontier_of(points):
  values = {"P": points[:, 0], "Gini_our": points[:, 1]}
  return Frontier(values, np.arange(len(points)), None, None, 0, True)


def test_distances_and_averages():
  models = {"a": (0.5, 0.5), "b": (0.8, 0.9), "c": (0.3, 0.1), "d": (0.7, 0.2), "e": (0.1, math.nan)}
  models = {name: {"P": p, "Gini_our": g} for name, (p, g) in models.items()}
  found = pareto.dpfr(frontier_of(POINTS), models, "P", "Gini_our")
  expected = {"a": 0.360555, "b": 0.707107, "c": 0.412311, "d": 0, "e": math.nan}
  assert found == pytest.approx(expected, abs=6e-7, nan_ok=True)
  averages = [pareto.average(models[name], "P", "Gini_our") for name in "abc"]
  assert averages == pytest.approx([0.5, 0.45, 0.6])
  assert pareto.average({"P": 0.2, "QF_our": 0.4}, "P", "QF_our") == pytest.approx(0.3)


def test_distance_between_models_bounds_that_of_their_distances():
  rng = np.random.default_rng(0)
  models = {str(i): {"P": p, "Gini_our": g} for i, (p, g) in enumerate(rng.random((20, 2)))}
  found = pareto.dpfr(frontier_of(POINTS), models, "P", "Gini_our", alpha=0.8)
  for i, one in models.items():
    for j, other in models.items():
      apart = math.dist(one.values(), other.values())
      assert abs(found[i] - found[j]) <= apart + 1e-12


def test_references_of_other_frontiers():
  shuffled = np.delete(POINTS, 1, axis=0)[[2, 0, 3, 1]]
  for alpha in (0, 0.5, 1):
    np.testing.assert_array_equal(reference_point(shuffled, alpha), reference_point(POINTS, alpha))
  np.testing.assert_array_equal(reference_point(POINTS[:1], 0.3), POINTS[0])
  np.testing.assert_allclose(reference_point(POINTS, 0, interpolate=True), POINTS[0])
  half = reference_point(POINTS, 0.5, interpolate=True)  # 0.439906 of 0.879813 along the line
  share = (0.439906 - 0.269258) / 0.25
  np.testing.assert_allclose(half, [0.9 - 0.2 * share, 0.35 - 0.15 * share], atol=1e-5)


def test_slope_of_a_pair():
  assert pareto.slope(POINTS) == pytest.approx(1.0)
  assert pareto.slope(np.array([(1, 0.5), (0.5, 0.5)])) == 0
  assert math.isnan(pareto.slope(np.array([(1, 0.5), (1, 0.7)])))


@settings(max_examples=60, deadline=None)
@given(
  st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=15), st.booleans()
)
def test_nondominated_points(points, higher_fairer):
  points = np.array(points, float)
  sign = np.array([1, 1 if higher_fairer else -1])
  expected = [
    not any((sign * (q - p) >= 0).all() and (sign * (q - p) > 0).any() for q in points) for p in points
  ]
  found = pareto.nondominated(points[:, 0], points[:, 1], higher_fairer)
  np.testing.assert_array_equal(found, expected)


def test_the_picture_shows_frontier_models_and_distances(tmp_path):
  models = {"a": {"P": 0.5, "Gini_our": 0.5}, "b": {"P": 0.8, "Gini_our": 0.9}}
  figure = pareto.draw(frontier_of(POINTS), models, "P", "Gini_our")
  axes = figure.axes[0]
  lines = axes.get_lines()
  np.testing.assert_array_equal(lines[0].get_xydata(), POINTS)
  np.testing.assert_allclose(lines[1].get_xydata(), [[0.7, 0.2]])
  np.testing.assert_allclose(lines[3].get_xydata(), [[0.5, 0.5], [0.7, 0.2]])
  assert [t.get_text() for t in axes.get_legend().get_texts()][2:] == ["a: 0.361", "b: 0.707"]
  assert axes.get_ylabel() == "Gini_our (lower is fairer)"
  figure.savefig(tmp_path / "frontier.png")
  assert (tmp_path / "frontier.png").stat().st_size > 1000


def test_a_picture_needs_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  with pytest.raises(ConfigError, match=r"recjax\[plot\]"):
    pareto.draw(frontier_of(POINTS), {}, "P", "Gini_our")


@pytest.mark.parametrize("change, error, message", [
  ({"k": 0}, ConfigError, "k is at least 1"),
  ({"relevant": csr([[1], []])}, DataError, "row 1 has no relevant item"),
  ({"seen": csr([[1], []])}, DataError, "row 0 has seen an item that is to be recommended"),
  ({"seen": csr([[3]])}, DataError, "indptr of seen items"),
  ({"relevant": csr([[1, 1], [2]])}, DataError, "relevant items of row 0 name an item twice"),
  ({"items": [1, 3]}, DataError, "Item 2 is relevant or seen but not among the items"),
  ({"k": 4}, DataError, "row 0 has fewer than 4 items that are not in the history"),
])
def test_data_without_a_walk_are_refused(change, error, message):
  good = {"relevant": csr([[1], [2]]), "seen": csr([[3], [4]]), "k": 2}
  with pytest.raises(error, match=message):
    pareto_frontier(**(good | change))


def test_wrong_questions_to_a_frontier():
  frontier = frontier_of(POINTS)
  with pytest.raises(ConfigError, match="share between 0 and 1, not 1.5"):
    pareto.dpfr(frontier, {}, "P", "Gini_our", alpha=1.5)
  with pytest.raises(ConfigError, match="Gini_our"):
    frontier.pair("P", "Gini_ours")
  with pytest.raises(ConfigError, match="NaN"):
    reference_point(np.array([[1, np.nan]]))
