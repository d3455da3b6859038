"""Baselines that search long histories: what each search finds, mistakes."""

import dataclasses

import jax
import numpy as np
import pytest
from click_toys import (
  ITEMS,
  LENGTH,
  category,
  full_history,
  make_batch,
  random_variables,
  schema,
)

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.ranking import history_search

SEARCH = history_search.Config(
  item_width=4, category_width=4, keep=2, unit_hidden=(), hidden=(5,), recent=2, stddev=0.5
)


def search(name, **changes):
  learner = history_search.build(dataclasses.replace(SEARCH, search=name, **changes), schema())
  variables = random_variables(learner)
  return learner, variables, jax.jit(learner.predict["score"])


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


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown search 'sim'"):
    search("sim")
  with pytest.raises(ConfigError, match="heads=3 does not divide 8, the width of an item"):
    search("twin", heads=3)
  plain = Schema({n: f for n, f in schema().fields.items() if "cat" not in n}, {"item": ITEMS + 1})
  config = dataclasses.replace(SEARCH, category_width=0)
  with pytest.raises(ConfigError, match="search='sim_hard' looks for categories"):
    history_search.build(config, plain)
