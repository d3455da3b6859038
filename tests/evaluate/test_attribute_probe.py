"""Probes against a plain Newton, chance and certainty; lists, states, folds; and session metrics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import attribute_probe, sessions
from recjax.evaluate.evaluation import Catalogue
from recjax.evaluate.probe import fit_logistic, folds, macro_f1, predict_logits, probe

rng = np.random.default_rng(0)
MESH = jax.make_mesh((1, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:1])


def newton(x, y, l2):
  """Weights of the ridge-penalised logistic regression, intercept last and free."""
  design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
  ridge = l2 * np.diag([1.0] * x.shape[1] + [0.0])
  weights = np.zeros(design.shape[1])
  for _ in range(50):
    p = 1 / (1 + np.exp(-design @ weights))
    hessian = design.T @ (design * (p * (1 - p))[:, None]) + ridge
    weights -= np.linalg.solve(hessian, design.T @ (p - y) + ridge @ weights)
  return weights


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
def test_fit_equals_newton(l2):
  x = rng.normal(size=(60, 4)) * [1.0, 2.0, 0.3, 1.0]
  y = (x @ [1.0, -1.0, 0.5, 0.0] + rng.logistic(size=60) > 0.3).astype(np.int64)
  found = fit_logistic(x, y, l2)
  np.testing.assert_allclose(found[:, 0], newton(x, y, l2), atol=2e-4)


def test_three_classes_are_at_a_stationary_point():
  x, y = rng.normal(size=(90, 3)), rng.integers(3, size=90)
  weights = fit_logistic(x, y, 0.7)
  share = np.exp(predict_logits(x, weights))
  share /= share.sum(axis=1, keepdims=True)
  slope = x.T @ (share - np.eye(3)[y]) + 0.7 * weights[:-1]
  np.testing.assert_allclose(slope, 0, atol=1e-3)
  np.testing.assert_allclose((share - np.eye(3)[y]).sum(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_what_tells_all_is_found_and_noise_is_not(classes):
  label = np.arange(600) % classes
  fold = folds(np.arange(600), label, 5, 0)
  noise = rng.normal(size=(600, 4))
  nothing = probe(noise, label, fold, 1.0, True)
  assert nothing.auc == pytest.approx(0.5, abs=0.08)
  assert nothing.accuracy == pytest.approx(1 / classes, abs=0.08)
  told = np.concatenate([noise, 3 * np.eye(classes)[label], np.full((600, 1), 7.7)], axis=1)
  for standardize in (True, False):
    found = probe(told, label, fold, 1.0, standardize)
    assert found.auc == found.macro_f1 == found.accuracy == 1.0
  # The scale of a state does not matter once it is divided out.
  half = told + 5 * rng.normal(size=told.shape)
  one, other = (probe(s * half, label, fold, 1.0, True) for s in (1.0, 1e-3))
  np.testing.assert_allclose(one, other, atol=1e-6)
  with pytest.raises(DataError, match="features to probe are NaN or infinite"):
    probe(np.where(told > 2, np.nan, told), label, fold, 1.0, True)


def test_folds_share_out_classes_and_keep_users_together():
  users = np.repeat(np.arange(40), 3)
  label = (np.arange(40) % 4 == 0).astype(int).repeat(3)
  fold = folds(users, label, 5, 7)
  assert all(len(set(fold[users == u])) == 1 for u in range(40))
  table = np.array([np.bincount(fold[label == c], minlength=5) // 3 for c in (0, 1)])
  np.testing.assert_array_equal(table, [[6] * 5, [2] * 5])
  np.testing.assert_array_equal(folds(users, label, 5, 7), fold)
  assert (folds(users, label, 5, 8) != fold).any()
  with pytest.raises(DataError, match=r"two classes or more of 11 users each; there are \[30, 10\]"):
    folds(users, label, 11, 0)
  with pytest.raises(DataError, match="two classes or more"):
    folds(users, 0 * label, 2, 0)


def test_macro_f1_by_hand():
  label, guess = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
  assert macro_f1(label, guess, 2) == pytest.approx((2 / 3 + 1 / 2) / 2)
  # Guessing the largest class only, as in MovieLens 100K: .7105 right, macro-F1 half of 2 p / (1 + p).
  label = np.array([1] * 670 + [0] * 273)
  assert macro_f1(label, np.ones(943, int), 2) == pytest.approx(0.7105 / 1.7105, abs=1e-4)


USERS, ITEMS = 60, 30


def columns():
  """Users of group 1 have seen and are recommended items 1 to 10, those of group 2 items 11 to 20."""
  group = np.where(np.arange(USERS) % 2 == 0, 1, 2)
  group[-4:] = 0
  return {"user_id": np.arange(1, USERS + 1, dtype=np.int32), "attribute": group.astype(np.int32)}


def cases(with_attribute=True):
  data = columns()
  fields = {"user_id": Field("id", (), "user")}
  if with_attribute:
    fields["attribute"] = Field("id", (), "attribute")
  data = {n: c for n, c in data.items() if n in fields}
  schema = Schema(fields, {"user": USERS + 1, "item": ITEMS + 1, "attribute": 3})
  gather = lambda xp, columns, index: {n: xp.asarray(c)[index] for n, c in columns.items()}
  group = columns()["attribute"]
  seen = np.where(group == 2, 11, 1)[:, None].astype(np.int32)
  targets = np.full((USERS, 1), 25, np.int32)
  return Cases(Rows(USERS, data, gather, schema), data["user_id"], targets, lambda i: seen[i])


def likes(fair):
  """Prediction functions; the model is not shown the attribute."""

  def encode_user(variables, batch):
    assert "attribute" not in batch
    return variables["user"][batch["user_id"]]

  def score_items(variables, state, ids):
    low, high = (ids <= 10) & (ids > 0), (ids > 10) & (ids <= 20)
    if fair:
      return jnp.broadcast_to(1.0 * (ids > 20)[None], (len(state), len(ids))) + 0.0 * ids[None]
    return state[:, :1] * low[None] + state[:, 1:2] * high[None]

  return {
    "encode_user": encode_user, "score_items": score_items,
    "noise": lambda v, b: v["noise"][b["user_id"]],
  }


def variables():
  group = np.concatenate([[0], columns()["attribute"]])
  user = np.eye(3)[group][:, 1:] + 0.1
  return {
    "user": jnp.asarray(user, jnp.float32),
    "noise": jnp.asarray(rng.normal(size=(USERS + 1, 2)), jnp.float32),
  }


CATALOGUE = Catalogue(ITEMS, np.ones(ITEMS + 1, int), np.repeat([0, 1, 2, 3], [1, 10, 10, 10]))


def run(fair=False, **options):
  config = attribute_probe.Config(k=5, states=("encode_user", "noise", "other"), **options)
  build = attribute_probe.build(config, likes(fair), cases(), mesh=MESH, catalogue=CATALOGUE)
  return build(variables())


@pytest.mark.parametrize("features", attribute_probe.FEATURES)
def test_lists_that_tell_and_lists_that_do_not(features):
  told, fair = run(features=features, history=True), run(fair=True, features=features)
  assert told.values["probe_auc_list"] == told.values["probe_accuracy_list"] == 1.0
  assert told.values["probe_auc_history"] == 1.0 and "probe_auc_history" not in fair.values
  # The same list for everybody tells nothing: all ties.
  assert fair.values["probe_auc_list"] == 0.5
  assert fair.values["probe_auc_encode_user"] == 1.0
  assert fair.values["probe_auc_noise"] == pytest.approx(0.5, abs=0.25)
  assert told.values["majority_accuracy"] == 0.5
  assert told.facts["cases_by_class"] == [28, 28]
  assert told.facts["cases_of_unknown_attribute"] == 4
  assert np.isnan(told.values["probe_auc_other"]) and told.facts["states_not_offered"] == ["other"]
  assert np.isnan(told.values["abs_cosine_noise_other"])
  state, noise = (np.asarray(variables()[n])[1:-4] for n in ("user", "noise"))
  assert 0 < told.values["abs_cosine_encode_user_noise"] < 1
  assert attribute_probe.abs_cosine(state, state) == pytest.approx(1.0)
  # What was seen is not recommended again.
  assert not (told.lists == np.where(columns()["attribute"] == 2, 11, 1)[:, None]).any()


def test_counts_of_lists():
  lists = np.array([[1, 11, 12, 0], [21, 21, 2, 3]])
  by_category = attribute_probe.counted(lists, CATALOGUE, "categories")
  np.testing.assert_array_equal(by_category, [[1, 2, 0], [2, 0, 2]])
  by_item = attribute_probe.counted(lists, CATALOGUE, "items")
  assert by_item.shape == (2, ITEMS) and by_item.sum() == 7 and by_item[1, 20] == 2


def test_probe_mistakes_are_explained():
  build = lambda config, predict=None, case=None, catalogue=CATALOGUE: attribute_probe.build(
    config, predict or likes(False), case or cases(), mesh=MESH, catalogue=catalogue
  )
  usual = attribute_probe.Config()
  with pytest.raises(ConfigError, match="needs rows with an attribute"):
    build(usual, case=cases(with_attribute=False))
  with pytest.raises(ConfigError, match="these items have none: features=items"):
    build(usual, catalogue=CATALOGUE._replace(categories=None))
  with pytest.raises(ConfigError, match="needs the prediction function 'score_items'"):
    build(usual, {"encode_user": None})
  with pytest.raises(DataError, match="A probe in 29 folds"):
    build(dataclasses.replace(usual, folds=29))
  with pytest.raises(ConfigError, match="Unknown features of lists 'item'"):
    attribute_probe.Config(features="item")
  with pytest.raises(ConfigError, match="two folds or more"):
    attribute_probe.Config(folds=1)


def session_cases(**changes):
  """Two users: the first with sessions (1: 2 3), (4: 11 5), the second with (12: 1 2)."""
  data = {
    "user_id": np.array([1, 2], np.int32),
    "target_item": np.array([[1, 2, 3, 4, 11, 5], [12, 1, 2, 0, 0, 0]], np.int32),
    "label": np.array([[1, 0, 0] * 2] * 2, np.float32),
    "weight": np.array([[1] * 6, [1] * 3 + [0] * 3], np.float32),
    "session": np.array([[0, 0, 0, 1, 1, 1]] * 2, np.int32),
    **changes,
  }
  fields = {
    "user_id": Field("id", (), "user"), "target_item": Field("ids", (6,), "item"),
    "label": Field("label", (6,)), "weight": Field("float", (6,)), "session": Field("ids", (6,)),
  }
  gather = lambda xp, columns, index: {n: xp.asarray(c)[index] for n, c in columns.items()}
  rows = Rows(2, data, gather, Schema(fields, {"user": 3, "item": ITEMS + 1}))
  return Cases(rows, np.array([7, 9]), np.ones((2, 1), int), lambda i: np.zeros((len(i), 1), int))


def session_run(scores, case=None, **options):
  def score(variables, batch):
    assert set(batch) == {"user_id", "target_item"}
    return variables[batch["target_item"]]

  config = sessions.Config(**options)
  build = sessions.build(
    config, {"score": score}, case or session_cases(), mesh=MESH, catalogue=CATALOGUE
  )
  return build(jnp.asarray(scores, jnp.float32))


def test_session_metrics_by_hand():
  scores = np.zeros(ITEMS + 1)
  scores[[1, 2, 3]] = 3, 2, 4  # session 1: one of two is beaten, rank 1
  scores[[4, 11, 5]] = 5, 5, 1  # session 2: a tie, which counts half for the AUC and against the rank
  scores[12] = 9  # session 3: right
  found = session_run(scores, cutoffs=(1, 2), within={"first": (1,), "none": (3,)})
  np.testing.assert_allclose(found.per_case["session_auc"], [0.5, 0.75, 1.0])
  np.testing.assert_allclose(found.per_case["session_mrr"], [0.5, 0.5, 1.0])
  np.testing.assert_array_equal(found.case_user, [7, 7, 9])
  assert found.values["session_auc"] == pytest.approx(0.75)
  assert found.values["session_ndcg@1"] == pytest.approx(1 / 3)
  assert found.values["session_ndcg@2"] == pytest.approx((2 / np.log2(3) + 1) / 3)
  # Among category 1 alone: session 1 as it is, session 2 beats item 5, session 3 has no right answer.
  assert found.values["session_auc first"] == pytest.approx(0.75)
  assert np.isnan(found.values["session_auc none"])
  assert found.facts["sessions"] == 3 and found.facts["sessions first"] == 2
  assert found.facts["sessions none"] == 0


def test_session_mistakes_are_explained():
  two = np.array([[1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]], np.float32)
  with pytest.raises(DataError, match="exactly one right answer"):
    session_run(np.zeros(ITEMS + 1), session_cases(label=two))
  alone = np.array([[1, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]], np.float32)
  with pytest.raises(DataError, match="a candidate beside the right answer"):
    session_run(np.zeros(ITEMS + 1), session_cases(weight=alone))
  with pytest.raises(DataError, match="scores are NaN"):
    session_run(np.full(ITEMS + 1, np.nan))
  build = lambda config, case, catalogue=CATALOGUE: sessions.build(
    config, {"score": None}, case, mesh=MESH, catalogue=catalogue
  )
  with pytest.raises(ConfigError, match="needs the field 'target_item': take the view 'sessions'"):
    build(sessions.Config(), cases())
  with pytest.raises(ConfigError, match="names categories, and these items have none"):
    build(sessions.Config(within={"a": (1,)}), session_cases(), CATALOGUE._replace(categories=None))
