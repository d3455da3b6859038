"""DESMIL: losses as a twin weighs them, ComiRec as its limit, warm-up, the penalty, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses import independence as ind
from recjax.models.retrieval import comirec, desmil
from recjax.nn.interests import soft_read_out
from recjax.nn.tables import init_rows

ITEMS, LENGTH, ROWS = 12, 5, 16
SCHEMA = Schema(
  {
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("id", (), "item"),
  },
  {"item": ITEMS + 1},
)
SMALL = {"width": 6, "interests": 3, "stddev": 0.5, "loss": "full_softmax"}
KEY = jax.random.key(5)


def batch():
  draw = np.random.default_rng(1)
  hist = draw.integers(1, ITEMS + 1, (ROWS, LENGTH)).astype(np.int32)
  hist[1, :3] = hist[7] = 0  # a short history, and none
  return {
    "hist_item": jnp.asarray(hist), "hist_mask": jnp.asarray(hist != 0),
    "target_item": jnp.asarray(draw.integers(1, ITEMS + 1, ROWS), jnp.int32).at[3].set(0),
  }


def start(module=desmil, **changes):
  config = module.Config(**{**SMALL, **changes})
  learner = module.build(config, SCHEMA)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  return learner, {**jax.jit(learner.init)(key, tables, learner.schema.example()), "tables": tables}


def value_and_slope(learner, variables, rows):
  def value(trained):
    objective = learner.loss({**variables, **trained}, rows, KEY)
    return objective.loss, objective

  trained = {name: variables[name] for name in ("params", "tables")}
  (_, objective), slope = jax.jit(jax.value_and_grad(value, has_aux=True))(trained)
  return objective, slope


def loss(learner, variables, rows):
  return jax.jit(learner.loss)(variables, rows, KEY)


@pytest.fixture(scope="module")
def weighed():
  learner, variables = start(spread=0.3)
  return learner, variables, *value_and_slope(learner, variables, batch())


@pytest.fixture(scope="module")
def plain(weighed):
  """ComiRec's loss and slope at the same variables."""
  return value_and_slope(start(comirec)[0], weighed[1], batch())


def test_the_loss_is_that_of_weighted_rows(weighed):
  learner, variables, objective, slope = weighed
  rows = batch()
  interests = np.asarray(learner.predict["encode_user"](variables, rows), np.float64)
  real = np.asarray((rows["target_item"] != 0) & rows["hist_mask"].any(1))
  assert real.sum() == 14 == objective.weight
  # The weights with what the model is made of, the losses with loops.
  functions = ind.coordinate_features(jax.random.fold_in(KEY, 2), 6, 5)
  centred = interests[real] - interests[real].mean(0)
  standard = np.zeros_like(interests)
  standard[real] = centred / np.sqrt(centred.var(0) + 1e-8)
  features = ind.fourier_features(jnp.asarray(standard.swapaxes(0, 1), jnp.float32), functions)
  weights, ratio = ind.independent_weights(
    features, jnp.asarray(real), spread=0.3, steps=20, rate=0.05
  )
  table, expected = np.asarray(variables["tables"]["item"], np.float64), 0.0
  for row in np.flatnonzero(real):
    target = int(rows["target_item"][row])
    nearest = interests[row][np.argmax(interests[row] @ table[target])]
    logits = table[1:] @ nearest
    expected += 14 * weights[row] * (np.log(np.exp(logits).sum()) - logits[target - 1])
  np.testing.assert_allclose(objective.loss, expected, rtol=2e-3)
  metrics = {name: float(total / weight) for name, (total, weight) in objective.metrics.items()}
  assert metrics["dependence_ratio"] == pytest.approx(float(ratio), rel=0.05) and ratio < 0.9
  assert metrics["effective_sample_size"] == pytest.approx(float(ind.effective_size(weights)), rel=0.05)
  assert 14 * 0.3 / 1.3 < metrics["effective_sample_size"] < 13.9
  assert objective.mutable["progress"]["steps"] == 1
  # Weights are constants: the slope is that of the rows' losses under them.
  fixed = lambda variables, interests, real, key: desmil.Adjustment(14 * weights)
  twin = comirec.build(comirec.Config(**SMALL), SCHEMA, adjust=fixed)
  _, other = value_and_slope(twin, variables, rows)
  for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_large_lambda_and_the_warm_up_are_comirec(weighed, plain):
  _, variables, objective, _ = weighed
  assert abs(plain[0].loss - objective.loss) > 1e-3  # weights matter
  learner, _ = start(spread=1e8)
  found, slope = value_and_slope(learner, variables, batch())
  np.testing.assert_allclose(found.loss, plain[0].loss, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(plain[1]), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)
  learner = jax.jit(start(warmup_steps=1)[0].loss)
  np.testing.assert_allclose(learner(variables, batch(), KEY).loss, plain[0].loss, rtol=1e-5)
  later = {**variables, **objective.mutable}
  np.testing.assert_allclose(learner(later, batch(), KEY).loss, objective.loss, rtol=1e-5)


def test_padding_never_matters(weighed):
  learner, variables, objective, _ = weighed
  rows = batch()
  dirty = {**rows, "hist_item": jnp.where(rows["hist_mask"], rows["hist_item"], 9)}
  np.testing.assert_allclose(loss(learner, variables, dirty).loss, objective.loss, rtol=1e-6)
  nobody = {**rows, "hist_mask": jnp.zeros_like(rows["hist_mask"])}
  empty = loss(learner, variables, nobody)
  assert empty.loss == 0 == empty.weight
  assert all(np.isfinite(total) for total, _ in empty.metrics.values())


def test_the_penalty_is_in_the_loss_and_pulls_interests_apart(weighed, plain):
  learner, _ = start(mode="penalty", penalty=2.0)
  objective, slope = value_and_slope(learner, weighed[1], batch())
  plain, without = plain
  dependence = float(objective.metrics["dependence"][0])
  np.testing.assert_allclose(objective.loss - plain.loss, 14 * 2 * dependence, rtol=1e-3)
  pull = jax.tree.map(lambda a, b: np.abs(a - b).max(), slope["params"], without["params"])
  assert max(jax.tree.leaves(pull)) > 1e-4
  assert "effective_sample_size" not in objective.metrics


def test_a_soft_read_out(weighed):
  users, target = jnp.eye(2)[None], jnp.array([[0.2, 0.9]])
  np.testing.assert_allclose(soft_read_out(users, target, 1.0), [[0.331812, 0.668188]], atol=1e-6)
  np.testing.assert_allclose(soft_read_out(users, target, 1e4), [[0, 1]], atol=1e-6)
  # So soft that all interests count alike.
  learner, variables, rows = weighed[0], weighed[1], batch()
  means = np.asarray(learner.predict["encode_user"](variables, rows), np.float64).mean(axis=1)
  logits = means @ np.asarray(variables["tables"]["item"], np.float64)[1:].T
  target = np.asarray(rows["target_item"])
  real = (target != 0) & np.asarray(rows["hist_mask"]).any(axis=1)
  each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(ROWS), target - 1]
  soft, _ = start(sharpness=1e-6, warmup_steps=1)
  np.testing.assert_allclose(loss(soft, variables, rows).loss, each[real].sum(), rtol=1e-5)


def test_one_interest_leaves_weights_equal():
  learner, variables = start(interests=1)
  objective = loss(learner, variables, batch())
  assert objective.metrics["effective_sample_size"][0] == pytest.approx(14)
  assert objective.metrics["dependence"][0] == 0


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown mode 'weights'. .*Known: .*reweight"):
    start(mode="weights")
  with pytest.raises(ConfigError, match="Unknown extractor 'x'"):
    start(extractor="x")
  assert {f.name for f in dataclasses.fields(comirec.Config)} <= {
    f.name for f in dataclasses.fields(desmil.Config)
  }
