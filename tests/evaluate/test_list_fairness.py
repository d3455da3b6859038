"""Lists by relevance and fairness: the measures on the same lists, valid re-ranked lists, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import full_ranking, list_fairness, pareto, ranking, rerank
from recjax.evaluate.evaluation import Catalogue
from recjax.evaluate.fairness import item_fairness
from recjax.evaluate.item_rows import distinct_rows
from recjax.evaluate.user_fairness import user_fairness

USERS, ITEMS, SEEN, K, DEPTH = 40, 30, 6, 3, 8
CONFIG = list_fairness.Config(k=K, depth=DEPTH, points=0, batch_size=16, block_size=11)
PREDICT = {
  "encode_user": lambda variables, batch: variables["scores"][batch["user_id"]],
  "score_items": lambda variables, state, ids: state[:, ids],
  # Another model's: higher ids first, but for the highest three, which tie.
  "score": lambda variables, batch: jnp.minimum(batch["target_item"], ITEMS - 2).astype(jnp.float32),
}


def gather(xp, columns, index):
  return {"user_id": xp.asarray(columns["user_id"])[index]}


def make_cases(seen, targets):
  user = np.arange(1, len(targets) + 1, dtype=np.int32)
  schema = Schema({"user_id": Field("id", (), "user")}, {"user": USERS + 1, "item": ITEMS + 1})
  return Cases(Rows(len(user), {"user_id": user}, gather, schema), user, targets, lambda i: seen[i])


def build(config, cases, module=list_fairness, predict=PREDICT):
  mesh = jax.make_mesh((1, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:1])
  counts = np.arange(ITEMS + 1)
  return module.build(config, predict, cases, mesh=mesh, catalogue=Catalogue(ITEMS, counts))


@pytest.fixture(scope="module")
def world():
  """Scores [users + 1, items + 1] that lean towards low ids, seen [users, S], targets [users, 2]."""
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(USERS + 1, ITEMS + 1)) + 3 * np.linspace(1, 0, ITEMS + 1)
  mixed = np.argsort(rng.random((USERS, ITEMS)), axis=1).astype(np.int32) + 1
  targets = mixed[:, SEEN : SEEN + 2].copy()
  targets[::3, 1] = 0
  return {"scores": scores.astype(np.float32)}, mixed[:, :SEEN], targets


@pytest.fixture(scope="module")
def plain(world):
  variables, seen, targets = world
  return build(CONFIG, make_cases(seen, targets))(variables)


def best(world, length):
  """The best unseen items by NumPy [users, length], their scores, and all, -inf where seen."""
  variables, seen, _ = world
  scores = variables["scores"][1:].copy()
  scores[:, 0] = -np.inf
  np.put_along_axis(scores, seen, -np.inf, axis=1)
  ids = np.argsort(-scores, axis=1, kind="stable")[:, :length]
  return ids, np.take_along_axis(scores, ids, axis=1), scores


def test_values_are_those_of_the_measures_on_the_lists(world, plain):
  _, seen, targets = world
  ids, _, _ = best(world, K)
  np.testing.assert_array_equal(plain.lists, ids)
  relevant, known = distinct_rows(targets), distinct_rows(seen)
  expected = item_fairness(ids, relevant=relevant, num_items=ITEMS, k=K)
  expected |= user_fairness(ids, relevant=relevant, histories=known, num_items=ITEMS, k=K)
  hits = (ids[:, :, None] == targets[:, None, :]).any(axis=2)
  per_case = ranking.ranking_metrics(hits, ranking.count_targets(targets), (K,))
  assert 0 < hits.mean() < 1
  expected |= {name: value.mean() for name, value in per_case.items()}
  for name, value in expected.items():
    assert plain.values[name] == pytest.approx(value, nan_ok=True), name
    assert np.isnan(value) == (name in plain.facts["undefined"])
  np.testing.assert_allclose(plain.per_case[f"ndcg@{K}"], per_case[f"ndcg@{K}"])
  np.testing.assert_array_equal(plain.case_user, np.arange(1, USERS + 1))

  frontier = pareto.pareto_frontier(relevant, known, K, np.arange(1, ITEMS + 1))
  assert plain.facts["frontier"]["replacements"] == frontier.steps[-1] > 0
  model = {**expected, "NDCG": expected[f"ndcg@{K}"], "P": expected[f"precision@{K}"]}
  for relevance, fairness in CONFIG.pairs:
    name = f"{relevance}-{fairness}"
    distance = pareto.dpfr(frontier, {"a": model}, relevance, fairness)["a"]
    assert plain.values[f"DPFR {name}"] == pytest.approx(distance)
    assert plain.values[f"average {name}"] == pytest.approx(pareto.average(model, relevance, fairness))
    np.testing.assert_allclose(
      plain.facts["frontier"][name]["reference"],
      pareto.reference_point(frontier.pair(relevance, fairness)),
    )


@pytest.mark.parametrize("name", ["borda", "combmnz", "greedy"])
def test_reranked_lists_are_valid_and_show_items_more_evenly(world, plain, name):
  variables, seen, targets = world
  config = dataclasses.replace(CONFIG, rerank=name, points=2)
  found = build(config, make_cases(seen, targets))(variables)
  ids, scores, every = best(world, DEPTH)
  expected = {
    "borda": lambda: rerank.borda(ids, ITEMS, K),
    "combmnz": lambda: rerank.combmnz(ids, scores, ITEMS, K),
    "greedy": lambda: rerank.greedy_substitution(ids, every, K),
  }[name]()
  np.testing.assert_array_equal(found.lists, expected)
  for row, known in zip(found.lists.tolist(), seen.tolist(), strict=True):
    assert len(set(row)) == K and not set(row) & {0, *known}
  hits = (expected[:, :, None] == targets[:, None, :]).any(axis=2)
  relevance = ranking.ranking_metrics(hits, ranking.count_targets(targets), (K,))[f"ndcg@{K}"]
  np.testing.assert_allclose(found.per_case[f"ndcg@{K}"], relevance)
  assert found.values["Gini_our"] < plain.values["Gini_our"]
  assert found.values["Ent_our"] > plain.values["Ent_our"]
  assert found.values["II-D_ori"] == pytest.approx(plain.values["II-D_ori"])


def test_a_second_model_orders_what_the_first_one_finds(world):
  variables, seen, targets = world
  config = dataclasses.replace(CONFIG, rerank="model", pairs=())
  found = build(config, make_cases(seen, targets))(variables)
  ids, _, _ = best(world, DEPTH)
  for row, listed in zip(found.lists.tolist(), ids.tolist(), strict=True):
    assert row == sorted(listed, key=lambda item: -min(item, ITEMS - 2))[:K]  # stable
  without = {name: PREDICT[name] for name in ("encode_user", "score_items")}
  with pytest.raises(ConfigError, match="needs the prediction function 'score'"):
    build(config, make_cases(seen, targets), predict=without)
  wild = {**PREDICT, "score": lambda v, batch: jnp.full(batch["target_item"].shape, jnp.nan)}
  with pytest.raises(DataError, match="scores some items NaN or infinite"):
    build(config, make_cases(seen, targets), predict=wild)(variables)
  # Lists that end early are re-ranked as far as they go.
  deep = dataclasses.replace(config, depth=ITEMS, k=ITEMS)
  short = build(deep, make_cases(seen, targets))(variables)
  assert ((short.lists != 0).sum(axis=1) == ITEMS - SEEN).all() and (short.lists[:, 0] != 0).all()


def test_ties_count_against_the_model_as_in_the_full_ranking(world):
  _, seen, targets = world
  tied = {"scores": np.round(world[0]["scores"])}
  found = build(CONFIG, make_cases(seen, targets))(tied)
  config = full_ranking.Config(cutoffs=(K,), batch_size=16, block_size=11)
  ranked = build(config, make_cases(seen, targets), full_ranking)(tied)
  shared = set(found.values) & set(ranked.values)
  assert {f"ndcg@{K}", f"coverage@{K}", f"novelty@{K}"} <= shared
  for name in shared:
    assert found.values[name] == pytest.approx(ranked.values[name]), name
  np.testing.assert_array_equal(found.lists, ranked.lists)
  assert ranked.facts.items() <= found.facts.items()


def test_answers_that_were_seen_are_misses_but_not_on_the_frontier(world):
  variables, seen, targets = world
  again = targets.copy()
  again[:5] = seen[:5, :2]  # impossible
  again[5, 1] = seen[5, 0]  # one of two
  again[6] = 0  # not counted
  found = build(CONFIG, make_cases(seen, again))(variables)
  assert (found.facts["cases"], found.facts["cases_impossible"]) == (USERS - 1, 5)
  assert found.facts["frontier"]["cases"] == USERS - 6
  assert not found.per_case[f"hr@{K}"][:5].any() and found.per_case[f"recall@{K}"][5] <= 0.5
  at = np.setdiff1d(np.arange(USERS), [0, 1, 2, 3, 4, 6])
  possible = again.copy()
  possible[5, 1] = 0
  frontier = pareto.pareto_frontier(
    distinct_rows(possible[at]), distinct_rows(seen[at]), K, np.arange(1, ITEMS + 1)
  )
  ends = found.facts["frontier"]["NDCG-Ent_our"]["ends"]
  np.testing.assert_allclose(ends, frontier.pair("NDCG", "Ent_our")[[0, -1]])
  with pytest.raises(DataError, match="seen all right answers before, so there is no frontier"):
    build(CONFIG, make_cases(seen, seen[:, :1]))(variables)
  alone = build(dataclasses.replace(CONFIG, pairs=()), make_cases(seen, seen[:, :1]))(variables)
  assert "frontier" not in alone.facts and alone.values[f"hr@{K}"] == 0


def test_what_cannot_be_measured_is_refused(world):
  variables, seen, targets = world
  for settings, message in (
    ({"rerank": "bord"}, "Unknown re-ranker 'bord'. Did you mean 'borda'"),
    ({"k": 30, "rerank": "borda"}, "k = 30 items cannot be taken from a depth of 25"),
    ({"pairs": (("NDCG", "Ent"),)}, "Unknown measure of a pair 'Ent'. Did you mean 'Ent_our'"),
    ({"pairs": (("Ent_our", "NDCG"),)}, "Unknown measure of a pair 'Ent_our'"),
    ({"pairs": (("NDCG",),)}, "A pair is a relevance and a fairness measure, not"),
  ):
    with pytest.raises(ConfigError, match=message):
      list_fairness.Config(**settings)
  with pytest.raises(DataError, match="some of these are short"):
    deep = dataclasses.replace(CONFIG, rerank="borda", depth=ITEMS - SEEN + 1)
    build(deep, make_cases(seen, targets))(variables)


def test_distinct_rows():
  padded = np.array([[3, 0, 3], [0, 0, 0], [2, 5, 1]])
  indptr, indices = distinct_rows(padded)
  assert indptr.tolist() == [0, 1, 1, 4] and indices.tolist() == [3, 1, 2, 5]
