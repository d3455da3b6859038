"""Baselines of click models: what each search finds, which features meet, parameters, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import ITEMS, LENGTH, category, make_batch, random_variables, schema, with_target

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.ranking import feature_interactions, history_search

SEARCH = history_search.Config(
  item_width=4, category_width=4, keep=2, unit_hidden=(), hidden=(5,), recent=2, stddev=0.5
)
INTERACTIONS = feature_interactions.Config(item_width=4, category_width=4, hidden=(5,))


def search(name, **changes):
  learner = history_search.build(dataclasses.replace(SEARCH, search=name, **changes), schema())
  variables = random_variables(learner)
  return learner, variables, jax.jit(learner.predict["score"])


def full_history():
  batch = make_batch(rows=1)
  batch["hist_item"] = jnp.array([[1, 6, 2, 11, 3, 4]], jnp.int32)  # categories 2 2 3 2 4 5
  batch |= {"hist_cat": category(batch["hist_item"]), "hist_mask": jnp.ones((1, LENGTH), bool)}
  return with_target(batch, jnp.array([16], jnp.int32))  # of category 2


def changed(batch, place, item):
  hist = batch["hist_item"].at[0, place].set(item)
  return {**batch, "hist_item": hist, "hist_cat": category(hist)}


def test_the_hard_search_sees_the_newest_of_its_category():
  _, variables, score = search("sim_hard")
  batch = full_history()
  before = score(variables, batch)
  for place, seen in enumerate([False, True, False, True, False, False]):
    item = int(batch["hist_item"][0, place])
    other = item + 5 if item + 5 != 16 else item + 15  # of the same category
    np.testing.assert_equal(
      not np.allclose(score(variables, changed(batch, place, other)), before, atol=1e-6), seen
    )


def test_only_the_short_part_sees_a_history_without_a_search():
  _, variables, score = search("none", unit_hidden=(4,))
  batch = full_history()
  before = score(variables, batch)
  seen = [
    not np.allclose(score(variables, changed(batch, place, 7)), before, atol=1e-6)
    for place in range(LENGTH)
  ]
  assert seen == [False] * 4 + [True] * 2


def test_a_search_that_keeps_everything_is_attention_to_everything():
  _, variables, score = search("all")
  batch = make_batch(rows=4)
  expected = score(variables, batch)
  for name in ("sim_soft", "eta", "twin"):
    _, others, other = search(name, keep=LENGTH)
    shared = {**others, "tables": variables["tables"], "batch_stats": variables["batch_stats"]}
    for part in ("attention", "tail"):
      shared["params"] = {**shared["params"], part: variables["params"][part]}
    if name == "sim_soft":
      shared["batch_stats"] = {**others["batch_stats"], **variables["batch_stats"]}
    np.testing.assert_allclose(other(shared, batch), expected, atol=1e-5)


def test_the_soft_search_learns_by_a_loss_of_its_own():
  learner, variables, _ = search("sim_soft")
  batch = make_batch(rows=4)

  def slope_and_objective(learner):
    def value(variables):
      made = learner.loss(variables, batch, jax.random.key(0))
      return made.loss, made

    return jax.jit(jax.grad(value, has_aux=True))(variables)

  slope, made = slope_and_objective(learner)
  assert np.any(slope["params"]["search_candidate"]["kernel"])
  parts = made.metrics["log_loss"][0] + made.metrics["search_loss"][0]
  np.testing.assert_allclose(made.loss, parts, rtol=1e-6)
  none, _ = slope_and_objective(search("sim_soft", search_weight=0.0)[0])
  assert not np.any(none["params"]["search_candidate"]["kernel"])


def test_eta_finds_the_nearest_in_hamming_distance():
  learner, variables, score = search("eta", keep=1, bits=16)
  batch = full_history()
  # The candidate itself, at any place, is nearest; then nothing else matters.
  for place in (0, 3):
    known = changed(batch, place, 16)
    before = score(variables, known)
    other = changed(known, 5, 9)
    np.testing.assert_allclose(score(variables, other), before, atol=1e-6)


def interactions(kind, spec=None, **changes):
  config = dataclasses.replace(INTERACTIONS, kind=kind, **changes)
  learner = feature_interactions.build(config, spec or schema())
  predict = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(predict=predict), random_variables(learner)


def test_logistic_regression_by_hand():
  learner, variables = interactions("lr")
  assert set(learner.tables) == {"item_weight", "category_weight"}
  batch = full_history()
  item, cat = (np.asarray(variables["tables"][f"{n}_weight"]) for n in ("item", "category"))
  hist = np.asarray(batch["hist_item"][0])
  expected = item[16, 0] + cat[2, 0] + item[hist, 1].mean() + cat[category(hist), 1].mean()
  expected += variables["params"]["bias"][0, 0]
  np.testing.assert_allclose(learner.predict["score"](variables, batch), [expected], rtol=1e-5)


@pytest.mark.parametrize("kind", ["wide_deep", "ipnn", "deepfm", "dcnv2"])
def test_parts_beside_the_tower(kind):
  """Each is the base model plus a part of its own: with that part at zero, it is the base model."""
  learner, variables = interactions(kind, norm="none")
  base, base_variables = interactions("dnn", norm="none")
  batch = make_batch()
  params = dict(variables["params"])
  tables = {n: t for n, t in variables["tables"].items() if not n.endswith("_weight")}
  same = {"tables": tables, "batch_stats": variables["batch_stats"]}
  kernel = params["tower"]["dense_0"]["kernel"]
  same["params"] = {"tower": {**params["tower"], "dense_0": {
    **params["tower"]["dense_0"], "kernel": kernel[:16]}}}
  assert jax.tree.structure(same) == jax.tree.structure(base_variables)
  assert kernel.shape[0] == (16 + 6 if kind == "ipnn" else 16)
  expected = base.predict["score"](same, batch)
  whole = learner.predict["score"](variables, batch)
  assert np.abs(whole - expected).max() > 1e-3
  off = {n: jax.tree.map(jnp.zeros_like, p) for n, p in params.items() if n != "tower"}
  off["tower"] = params["tower"]
  if kind == "ipnn":
    off["tower"] = {**params["tower"], "dense_0": {
      **params["tower"]["dense_0"], "kernel": kernel.at[16:].set(0)}}
  weightless = {
    n: jnp.zeros_like(t) if n.endswith("_weight") else t for n, t in variables["tables"].items()
  }
  got = learner.predict["score"]({**variables, "params": off, "tables": weightless}, batch)
  if kind == "deepfm":  # its second-order term has no weights to set to zero
    vectors = [tables[n] for n in ("item", "category")]
    target = [v[i] for v, i in zip(vectors, (batch["target_item"], batch["target_cat"]), strict=True)]
    count = batch["hist_mask"].sum(1, keepdims=True)
    history = [
      (v[i] * batch["hist_mask"][..., None]).sum(1) / count
      for v, i in zip(vectors, (batch["hist_item"], batch["hist_cat"]), strict=True)
    ]
    fields = [*target, *history]
    pairs = [(fields[i] * fields[j]).sum(-1) for i in range(4) for j in range(i)]
    expected = expected + sum(pairs)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown search 'sim'"):
    search("sim")
  with pytest.raises(ConfigError, match="heads=3 does not divide 8, the width of an item"):
    search("twin", heads=3)
  with pytest.raises(ConfigError, match="Unknown kind 'fm'"):
    interactions("fm")
  with pytest.raises(ConfigError, match="category_width must be 4 or 0, not 2"):
    interactions("dnn", category_width=2)
  plain = Schema({n: f for n, f in schema().fields.items() if "cat" not in n}, {"item": ITEMS + 1})
  config = dataclasses.replace(SEARCH, category_width=0)
  with pytest.raises(ConfigError, match="search='sim_hard' looks for categories"):
    history_search.build(config, plain)
