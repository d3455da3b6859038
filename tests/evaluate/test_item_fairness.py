"""Item fairness: hand-worked tables, slow twins on random ones, limits, and what is undefined."""

import math

import numpy as np
import pytest
from fairness_twins import csr, full_ranking, slow, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError, DataError
from recjax.evaluate import item_exposure, item_relevance
from recjax.evaluate.fairness import NAMES, higher_is_fairer, item_fairness
from recjax.evaluate.judged_table import judged_table
from recjax.evaluate.ranking import ranking_metrics

COUNTED = ("Jain", "QF", "Ent", "Gini", "Gini-w", "FSat")
JUDGED = [[1], [3, 4], [5]]
few = settings(max_examples=60, deadline=None)


def measured(lists, relevant, num_items, **rest):
  lists = np.asarray(lists)
  return item_fairness(
    lists, relevant=csr(relevant), num_items=num_items, k=rest.pop("k", lists.shape[1]), **rest
  )


def test_every_measure_has_its_name():
  both = ["Jain", "QF", "Ent", "Gini", "Gini-w", "FSat", "II-F", "IBO", "IWO", "IAA", "IFD_div",
          "MDG", "OD-E", "OD-F"]
  expected = {f"{name}_{form}" for name in both for form in ("ori", "our")}
  expected |= {"VoCD_ori", "II-D_ori", "AI-D_ori", "MME_ori", "AI-F_ori", "IFD_mul_ori",
               "IFD_div_ori-cut-off"}
  assert set(NAMES) == expected
  assert set(measured([[1, 2]], [[1]], 5)) == expected
  assert higher_is_fairer("QF_our") and not higher_is_fairer("Gini-w_ori")


@pytest.mark.parametrize("lists, num_items, expected", [
  ([[1, 2]] * 3, 5, {
    "Jain_our": 0, "QF_our": 0, "Ent_our": 0, "FSat_our": 0, "Gini_our": 1, "Gini-w_our": 1,
    "Jain_ori": 0.4, "QF_ori": 0.4, "FSat_ori": 0.4, "Gini_ori": 0.6, "VoCD_ori": 0,
    "II-D_ori": 0.1984, "AI-D_ori": 0.1984,
  }),
  ([[1, 2], [1, 3], [2, 1]], 5, {
    "Jain_ori": 0.514286, "Jain_our": 0.228571, "QF_ori": 0.6, "QF_our": 0.333333,
    "Ent_ori": math.nan, "Ent_our": 0.366840, "Gini_ori": 0.533333, "Gini_our": 0.857143,
    "Gini-w_ori": 0.563506, "Gini-w_our": 0.873302, "FSat_ori": 0.6, "FSat_our": 0.333333,
    "VoCD_ori": 0.5, "II-D_ori": 0.1984, "AI-D_ori": 0.130844, "MME_ori": 0.166667,
    "II-F_ori": 0.34, "II-F_our": 0.518519, "AI-F_ori": 0.184444, "IBO_our": 0.5, "IWO_our": 0.5,
    "IBO_ori": math.nan, "IAA_ori": 0.333333, "IAA_our": 0.555556,
  }),
  ([[1, 2], [3, 4], [5, 1]], 5, {
    "Jain_our": 1, "QF_our": 1, "Ent_our": 1, "FSat_our": 1, "Gini_our": 0, "Jain_ori": 0.9,
    "Ent_ori": 0.969724, "Gini_ori": 0.133333, "Gini-w_our": 0.300156, "AI-D_ori": 0.015289,
  }),
  ([[1, 2], [3, 4], [5, 6]], 10, {
    "Jain_our": 1, "QF_our": 1, "Ent_our": 1, "FSat_our": 1, "Gini_our": 0, "Gini-w_our": 0,
    "Jain_ori": 0.6, "QF_ori": 0.6, "Gini_ori": 0.4, "FSat_ori": 1, "II-D_ori": 0.1316,
    "AI-D_ori": 0.022267,
  }),
], ids=["all the same", "between", "even", "room for more"])
def test_worked_tables(lists, num_items, expected):
  found = measured(lists, JUDGED, num_items)
  assert {n: found[n] for n in expected} == pytest.approx(expected, abs=6e-7, nan_ok=True)


def test_relevance_of_a_worked_table():
  table = item_exposure.list_table(np.array([[1, 2], [1, 3], [2, 1]]), 5)
  judged = judged_table(table, table.items, csr(JUDGED))
  found = ranking_metrics(judged.hits, judged.num_relevant, (2,))
  expected = {"precision@2": 0.333333, "map@2": 0.416667, "ndcg@2": 0.462284}
  assert {n: found[n].mean() for n in expected} == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize("second, expected", [
  ([1, 2, 3], 0.156426242), ([1, 3, 2], 0.1359453927), ([2, 1, 3], 0.0986939703),
  ([2, 3, 1], 0.078213121), ([3, 2, 1], 0.0372514224),
])
def test_weighted_gini_of_two_lists_of_everything(second, expected):
  found = measured([[1, 2, 3], second], [[1], [1]], 3)
  assert found["Gini-w_ori"] == pytest.approx(expected, abs=1e-9)
  assert math.isnan(found["Gini-w_our"])


@pytest.mark.parametrize("lists, num_items, expected", [
  ([[1], [1]], 3, (2 / 9, 2 / 9)), ([[1], [2]], 3, (2 / 9, 1 / 18)),
  ([[1], [1]], 2, (0.25, 0.25)), ([[1], [2]], 2, (0.25, 0.0)),
])
def test_disparity_from_a_random_ranker(lists, num_items, expected):
  found = measured(lists, [[1], [1]], num_items)
  assert (found["II-D_ori"], found["AI-D_ori"]) == pytest.approx(expected)


@few
@given(tables())
def test_all_measures_equal_their_loops(table):
  lists, relevant, num_items = table
  scores = np.zeros((len(lists), num_items))  # what the lists leave out stands in the order of ids
  expected = slow(lists, relevant, num_items)
  found = measured(lists, relevant, num_items, scores=scores)
  assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_ranks_outside_of_the_lists_come_from_scores(monkeypatch):
  rng = np.random.default_rng(3)
  monkeypatch.setattr("recjax.evaluate.judged_table._ROWS", 2)
  lists = np.array([rng.permutation(12)[:3] + 1 for _ in range(7)])
  relevant = [sorted((rng.permutation(12)[:4] + 1).tolist()) for _ in range(7)]
  relevant[2] = []
  scores = rng.integers(0, 4, (7, 12)).astype(float)
  scores[0, :2] = -np.inf
  rankings = []
  for u, row in enumerate(lists.tolist()):
    others = [i for i in range(1, 13) if i not in row]
    rankings.append(row + sorted(others, key=lambda i, u=u: -scores[u, i - 1]))
  keep = [u for u in range(7) if u != 2]
  expected = slow(lists[keep], [relevant[u] for u in keep], 12, rankings=[rankings[u] for u in keep])
  for given_scores in (scores, np.pad(scores, ((0, 0), (1, 0)), constant_values=np.nan)):
    found = measured(lists, relevant, 12, scores=given_scores)
    for name in ("IFD_div_ori", "IFD_div_ori-cut-off", "IFD_div_our", "II-F_our", "IAA_our"):
      assert found[name] == pytest.approx(expected[name])
  # Lists that go on after place k rank by themselves.
  found = measured(rankings, relevant, 12, k=3)
  assert found["IFD_div_ori"] == pytest.approx(expected["IFD_div_ori"])
  assert measured(lists, relevant, 12, scores=scores) == pytest.approx(found, nan_ok=True)


@few
@given(tables())
def test_corrected_values_lie_between_their_ends(table):
  lists, relevant, num_items = table
  relevant = [row[: max(1, num_items - lists.shape[1])] for row in relevant]  # see IFD_div_our
  found = measured(lists, relevant, num_items)
  for name in (*COUNTED, "II-F", "IAA", "IFD_div", "IBO", "IWO"):
    least = -np.inf if name == "FSat" else -1e-12
    value = found[f"{name}_our"]
    assert math.isnan(value) or least <= value <= 1 + 1e-12, name


def test_the_least_fair_share_is_not_that_of_equal_lists():
  """Counts 10, 4, 3, 3 give their share of 5 to one item, the same lists for all give it to two."""
  lists = [[1, 2]] * 4 + [[1, 3]] * 3 + [[1, 4]] * 3
  found = measured(lists, [[1]] * 10, 4)
  assert (found["FSat_ori"], found["FSat_our"]) == (0.25, -0.5)


@few
@given(st.integers(2, 12), st.integers(1, 5), st.integers(1, 12), st.integers(0, 99))
def test_both_ends_are_reached(users, k, more, seed):
  num_items = k + more
  same = np.tile(np.random.default_rng(seed).permutation(num_items)[:k] + 1, (users, 1))
  found = measured(same, [[1]] * users, num_items)
  unfair = {f"{n}_our": float(n.startswith("Gini")) for n in COUNTED}
  unfair["FSat_our"] = float(users * k < num_items)  # nobody is owed anything then
  assert {n: found[n] for n in unfair} == unfair
  assert found["AI-D_ori"] == pytest.approx(found["II-D_ori"])
  even = (np.arange(users * k) % num_items + 1).reshape(users, k)
  found = measured(even, [[1]] * users, num_items)
  fair = {f"{n}_our": float(not n.startswith("Gini")) for n in COUNTED}
  if users * k > num_items:
    del fair["Gini-w_our"]
  assert {n: found[n] for n in fair} == fair


@few
@given(tables(), st.integers(0, 2**32 - 1))
def test_names_of_items_and_order_of_users_do_not_matter(table, seed):
  lists, relevant, num_items = table
  rng = np.random.default_rng(seed)
  name = np.concatenate([[0], rng.permutation(num_items) + 1])
  users = rng.permutation(len(lists))
  before = measured(lists, relevant, num_items)
  after = measured(name[lists[users]], [name[relevant[u]].tolist() for u in users], num_items)
  assert after == pytest.approx(before, abs=1e-9, nan_ok=True)
  shuffled = measured(rng.permuted(lists, axis=1), relevant, num_items)
  twice = measured(np.tile(lists, (2, 1)), relevant * 2, num_items)
  for n in ("Jain_ori", "Gini_ori", "QF_ori", "Ent_ori", "VoCD_ori"):
    assert shuffled[n] == pytest.approx(before[n], nan_ok=True)
    assert twice[n] == pytest.approx(before[n], nan_ok=True)
  larger = measured(lists, relevant, num_items + 1)
  assert larger["Jain_ori"] < before["Jain_ori"] and larger["QF_ori"] < before["QF_ori"]
  assert larger["Gini_ori"] > before["Gini_ori"]


def test_relevance_measures_at_their_ends():
  relevant = [[1, 2], [3], [4, 5, 6]]
  best = measured([[1, 2, 9], [3, 9, 8], [4, 5, 6]], relevant, 12)
  none = measured([[9, 8, 7]] * 3, relevant, 12)
  assert (best["II-F_our"], best["IAA_our"]) == pytest.approx((0, 0), abs=1e-12)
  assert (none["II-F_our"], none["IAA_our"]) == pytest.approx((1, 1))
  assert none["IFD_div_our"] == none["IFD_mul_ori"] == none["IBO_our"] == 0
  assert none["IWO_our"] == 1 and none["MDG_our"] == 0
  half_first = measured([[1, 9, 8], [9, 8, 7], [4, 5, 9]], relevant, 12)
  assert half_first["IFD_div_our"] == pytest.approx(2 / 3)  # that of one item is always 0


def test_fair_items_put_into_the_least_fair_lists():
  """From equal lists to different ones, a fair item a step: corrected measures go from end to end."""
  users, k = 10, 4
  num_items = users * k
  lists = np.tile(np.arange(1, k + 1), (users, 1))
  fair = np.arange(1, num_items + 1).reshape(users, k)
  path = [measured(lists, [[1]] * users, num_items)]
  for place in reversed(range(k)):
    for user in range(1, users):
      lists[user, place] = fair[user, place]
      path.append(measured(lists, [[1]] * users, num_items))
  for name in COUNTED:
    walk = np.array([found[f"{name}_our"] for found in path])
    up = walk if not name.startswith("Gini") else 1 - walk
    assert up[0] == 0 and up[-1] == 1 and (np.diff(up) >= -1e-12).all(), name


def test_short_lists_count_what_they_hold():
  lists = np.array([[1, 2, 3], [1, 0, 0], [2, 4, 0]])
  found = measured(lists, [[1], [2], [4]], 6)
  count = np.array([2, 2, 1, 1, 0, 0])
  assert found["Jain_ori"] == pytest.approx(36 / (6 * 10))
  # Least fair: three lists show item 1, two item 2, one item 3; most fair: one each.
  assert found["Jain_our"] == pytest.approx((36 / 60 - 36 / (6 * 14)) / (1 - 36 / (6 * 14)))
  assert found["QF_our"] == pytest.approx((4 - 3) / (6 - 3))
  weights = 1 / np.log2([2, 3, 4])
  assert found["Gini-w_ori"] == pytest.approx(item_exposure.gini_of(
    np.array([2 * weights[0], weights[1] + weights[0], weights[2], weights[1], 0, 0])
  ))
  assert count.sum() == 6 and found["VoCD_ori"] == pytest.approx(4 * 0.5 / 6)
  same = measured([[5, 6, 1], [5, 0, 0], [5, 6, 0]], [[1], [2], [4]], 6)
  assert [same[f"{n}_our"] for n in ("Jain", "QF", "Ent", "Gini", "Gini-w")] == [0, 0, 0, 1, 1]


def test_disparity_of_similar_items(monkeypatch):
  lists = np.array([[1, 2], [1, 3], [1, 4]])
  vectors = np.array([[1, 0], [2, 0.1], [0, 1], [0, 3], [-1, 0]])
  pairs = lambda **rest: measured(lists, [[1]] * 3, 5, item_vectors=vectors, **rest)["VoCD_ori"]
  assert pairs() == pytest.approx((2 / 3 + 0) / 2)  # items 1 and 2, 3 and 4
  monkeypatch.setattr(item_exposure, "_BLOCK", 1)
  assert pairs() == pytest.approx(1 / 3)
  assert pairs(least_similarity=-1) == measured(lists, [[1]] * 3, 5)["VoCD_ori"]
  _, why = measured(lists[:, :1], [[1]] * 3, 5, item_vectors=vectors, explain=True)
  assert why["VoCD_ori"].endswith("only one item is shown, so there is no pair of items.")
  _, why = measured([[1], [3]], [[1]] * 2, 5, item_vectors=vectors, explain=True)
  assert why["VoCD_ori"].endswith("no two shown items have a cosine of at least 0.5.")
  vectors[0] = 0
  _, why = measured(lists, [[1]] * 3, 5, item_vectors=vectors, explain=True)
  assert "vector of zeros" in why["VoCD_ori"]


def test_what_is_undefined_says_why():
  def reasons(lists, relevant, num_items):
    values, why = measured(lists, relevant, num_items, explain=True)
    assert {n for n, value in values.items() if math.isnan(value)} == set(why)
    return why

  assert reasons([[1, 2], [3, 1], [2, 3]], [[1, 2, 3]] * 3, 4)["Ent_ori"].startswith(
    "Ent_ori is undefined: an item is never shown"
  )
  everything = reasons([[1, 2], [2, 1]], [[1, 2]] * 2, 2)
  assert set(everything) == {f"{n}_our" for n in COUNTED} | {"IAA_our"}
  assert "k equals the number of items" in everything["Gini_our"]
  assert "every user finds all items relevant" in everything["IAA_our"]
  one = reasons([[1]], [[2]], 3)
  assert "the same value" in one["Jain_our"] and "k = 1" in one["IAA_ori"]
  assert "one item is shown" in one["VoCD_ori"] and "no scores" in one["IFD_div_ori"]
  assert "no relevant user" in one["IBO_ori"] and "gain is 0 / 0" in one["MDG_ori"]
  assert "merit is 0" in one["OD-E_ori"] and "fewer than two items" in one["OD-F_our"]
  nobody = reasons([[1, 2], [2, 3]], [[], []], 4)
  for name in ("II-F_our", "IAA_our", "IFD_div_ori", "IFD_div_ori-cut-off", "IFD_div_our"):
    assert "user" in nobody[name]
  assert "no item has a relevant user" in nobody["IBO_our"]
  assert "no item has a relevant user" in nobody["MDG_our"]
  alone = reasons([[1]], [[1]], 1)
  assert "one item makes no pair" in alone["IFD_mul_ori"]


def test_users_without_relevant_items_are_left_out_where_they_are_undefined():
  with_them = measured([[1, 2], [3, 4], [2, 5]], [[1], [], [5, 6]], 7)
  without = measured([[1, 2], [2, 5]], [[1], [5, 6]], 7)
  for name in ("II-F_our", "IAA_our", "IFD_div_our", "IFD_div_ori-cut-off"):
    assert with_them[name] == pytest.approx(without[name])
  assert with_them["IAA_ori"] != pytest.approx(without["IAA_ori"])


def test_envy_is_the_same_in_blocks(monkeypatch):
  rng = np.random.default_rng(0)
  lists = np.array([rng.permutation(30)[:5] + 1 for _ in range(40)])
  relevant = [(rng.permutation(30)[: rng.integers(0, 6)] + 1).tolist() for _ in range(40)]
  whole = measured(lists, relevant, 30)
  monkeypatch.setattr(item_relevance, "_PRODUCTS", 7)
  assert measured(lists, relevant, 30) == pytest.approx(whole, nan_ok=True)


@pytest.mark.parametrize("change, error, message", [
  ({"recommendations": [[1, 1]]}, DataError, "The list of row 0 shows an item twice."),
  ({"recommendations": [[0, 1]]}, DataError, "empty place before an item"),
  ({"recommendations": [[1, 6]]}, DataError, "ids from 1 to 6; items are 1 to 5"),
  ({"recommendations": [[-1, 2]]}, DataError, "ids from -1 to 2"),
  ({"recommendations": [[0, 0]]}, DataError, "all empty"),
  ({"recommendations": [[1.0, 2.0]]}, DataError, "integers"),
  ({"recommendations": [[1, 2, 3, 4, 5, 0]]}, DataError, "cannot be made of 5"),
  ({"recommendations": [1, 2]}, ConfigError, "cannot be cut at k = 2"),
  ({"k": 3}, ConfigError, r"shape \(1, 2\) cannot be cut at k = 3"),
  ({"k": 0}, ConfigError, "k = 0"),
  ({"patience": 1.0}, ConfigError, "between 0 and 1"),
  ({"relevant": csr([[1], [2]])}, DataError, r"for 1 users it is \(2,\)"),
  ({"relevant": ([0, 3], [1, 2])}, DataError, "does not ascend from 0 to the 2 indices"),
  ({"relevant": csr([[0]])}, DataError, "hold ids from 0 to 0"),
  ({"relevant": csr([[2, 2]])}, DataError, "relevant items of row 0 name an item twice"),
  ({"scores": np.zeros((1, 4))}, DataError, "axis 1 is 5 or 6 long for 5 items"),
  ({"scores": np.zeros((2, 5))}, DataError, "scores of 2 users and lists of 1"),
  ({"scores": np.full((1, 5), np.nan)}, DataError, "NaN or infinite"),
  ({"item_vectors": np.zeros(5)}, DataError, "item_vectors has shape"),
  ({"item_vectors": np.full((5, 2), np.nan)}, DataError, "item_vectors hold NaN"),
])
def test_what_does_not_fit_is_refused(change, error, message):
  given_ = {
    "recommendations": [[1, 2]], "relevant": csr([[3]]), "num_items": 5, "k": 2, **change
  }
  with pytest.raises(error, match=message):
    item_fairness(np.asarray(given_.pop("recommendations")), **given_)


def test_no_array_of_users_by_items_is_made():
  """3,000 users and 200,000 items: what all measures hold is far below the product's 600 M cells."""
  import tracemalloc

  rng = np.random.default_rng(0)
  users, num_items, k = 3_000, 200_000, 10
  lists = (rng.integers(0, num_items // k, (users, k)) * k + np.arange(k)) + 1
  relevant = np.arange(users * 4 + 1)[::4], rng.integers(1, num_items, users * 4)
  tracemalloc.start()
  found = item_fairness(lists, relevant=relevant, num_items=num_items, k=k)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 60e6 and 0 < found["Jain_our"] <= 1


def test_the_twin_ranks_what_the_list_leaves_out_by_id():
  assert full_ranking([4, 2], 5) == [4, 2, 1, 3, 5]
