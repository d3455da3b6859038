"""Strata of cases by hand: transitions, event columns, means inside them, mistakes."""

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest

from recjax.config import Mesh, Split
from recjax.data.splits import make_split
from recjax.data.views import next_item
from recjax.errors import ConfigError, DataError
from recjax.evaluate import full_ranking, sampled_ranking, strata
from recjax.evaluate.evaluation import Catalogue
from recjax.train.mesh import make_mesh

LEAST = (0, 1, 2)


@pytest.fixture
def made():
  log = logs.log([[1, 2, 4, 1, 2], [1, 2, 1, 2, 1], [3, 4, 5, 4, 3], [1, 2]], num_items=5)
  log.columns["kind"] = np.asarray([0] * 4 + [1] + [0] * 4 + [2] + [0] * 4 + [1] + [0] * 2, np.int32)
  log.facts["names"] = {"events.kind": ["", "odd", "even"]}
  view = next_item.build(next_item.Config(length=3), log, make_split(log, Split()))
  return view, Catalogue(5, view.counts["item"], None, view.counts.transitions)


def test_strata_by_hand(made):
  view, catalogue = made
  # Training pairs: 1-2 2-4, 1-2 2-1, 3-4 4-5, 1-2. Tests: 1-2 (3 times), 2-1 (once), 4-3 (never).
  found = strata.by_transitions(view.test, catalogue, LEAST)
  assert {name: mask.tolist() for name, mask in found.items()} == {
    "transitions 0": [False, False, True],
    "transitions 1": [False, True, False],
    "transitions 2+": [True, False, False],
  }
  found = strata.by_column(view.test, "kind")
  assert {name: mask.tolist() for name, mask in found.items()} == {
    "kind even": [False, True, False], "kind odd": [True, False, True],
  }
  assert strata.names((0, 1, 2, 5)) == ["0", "1", "2-4", "5+"]


def test_full_ranking_reports_them(made):
  view, catalogue = made
  # Item 1 is best, then 2: seen by the first two users, so only lists of user 3 hold either.
  predict = {
    "encode_user": lambda v, b: jnp.zeros((len(b["user_id"]), 1)),
    "score_items": lambda v, state, ids: state - ids.astype(jnp.float32)[None, :],
  }
  config = full_ranking.Config(
    cutoffs=(1, 4), beyond_accuracy=False, by_transitions=(0, 1, 2, 9), by_column="kind"
  )
  mesh = make_mesh(Mesh(data=len(jax.devices())))
  found = full_ranking.build(config, predict, view.test, mesh=mesh, catalogue=catalogue)(None)
  # No target can be recommended: every one has been seen.
  assert found.facts["cases_impossible"] == found.facts["cases"] == 3
  assert found.values["hr@4 transitions 0"] == found.values["hr@4 kind odd"] == 0
  assert np.isnan(found.values["ndcg@1 transitions 9+"])
  assert found.facts["cases transitions 2-8"] == 1 and found.facts["cases kind odd"] == 2
  assert not any(name.startswith("mrr") and " " in name for name in found.values)


def test_sampled_ranking_reports_them(made):
  view, catalogue = made
  mesh = make_mesh(Mesh(data=len(jax.devices())))
  predict = {"score": lambda v, b: b["target_item"].astype(jnp.float32)}  # the larger the better
  config = sampled_ranking.Config(negatives=1, cutoffs=(1,), by_column="kind")
  found = sampled_ranking.build(config, predict, view.test, mesh=mesh, catalogue=catalogue)(None)
  hits = found.per_case["sampled1_hr@1"]
  odd = strata.by_column(view.test, "kind")["kind odd"]
  assert found.values["sampled1_hr@1 kind odd"] == pytest.approx(hits[odd].mean())
  assert found.values["sampled1_ndcg@1 kind even"] == pytest.approx(hits[~odd].mean())
  assert found.facts["cases kind odd"] == 2 and found.facts["cases kind even"] == 1


def test_means_are_those_of_the_cases_inside():
  values = {"hr@5": np.array([1.0, 0.0, 1.0]), "mrr@5": np.ones(3)}
  masks = {"a": np.array([True, True, False]), "b": np.zeros(3, bool)}
  found = strata.means(values, masks)
  assert found["hr@5 a"] == 0.5 and np.isnan(found["hr@5 b"]) and len(found) == 2


def test_mistakes_are_named(made):
  view, catalogue = made
  for least in ((1, 2), (0, 2, 2)):
    with pytest.raises(ConfigError, match="least counts ascending from 0"):
      full_ranking.Config(by_transitions=least)
  with pytest.raises(ConfigError, match="needs a view that counts transitions"):
    strata.by_transitions(view.test, Catalogue(5, view.counts["item"]), LEAST)
  with pytest.raises(ConfigError, match="by_column='kind' needs a view of an event log"):
    strata.by_column(view.test._replace(column=None), "kind")
  with pytest.raises(DataError, match="Unknown event column of made by hand 'kimd'. Did you mean"):
    strata.by_column(view.test, "kimd")
