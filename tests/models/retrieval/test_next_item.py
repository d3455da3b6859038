"""Next-item objective: three losses by hand, draws from true ids, compact ids, predictions."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.retrieval._next_item import build_next_item
from recjax.nn.tables import TableSpec, take

ITEMS, LENGTH = 6, 3
SCHEMA = Schema(
  {
    "user_id": Field("id", (), "user"),
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("ids", (LENGTH,), "item"),
  },
  {"item": ITEMS + 1, "user": 3},
)
BATCH = {
  "user_id": jnp.array([1, 2]),
  "hist_item": jnp.array([[0, 2, 3], [4, 1, 2]]),
  "hist_mask": jnp.array([[False, True, True], [True, True, True]]),
  "target_item": jnp.array([[5, 3, 6], [1, 2, 0]]),  # the 5 follows padding: no target
}
TARGETS = [(2, 3), (3, 6), (4, 1), (1, 2)]  # (state's item, target) of the real positions


class LastItem(nn.Module):
  """State of a position: its own item's vector. Nothing to learn."""

  @nn.compact
  def __call__(self, tables, batch, *, train, newest=None):
    states = take(tables["item"], batch["hist_item"] * batch["hist_mask"].astype(jnp.int32))
    return states[:, -(newest or states.shape[1]) :]


def learner(loss="full_softmax", negatives=4, sampling="uniform", counts=None):
  return build_next_item(
    LastItem(),
    TableSpec("item", 2, 0.5),
    SCHEMA,
    counts,
    loss=loss,
    negatives=negatives,
    sampling=sampling,
  )


TABLE = np.random.default_rng(0).normal(size=(ITEMS + 1, 2)).astype(np.float32)
TABLE[0] = 0
VARIABLES = {"params": {}, "tables": {"item": jnp.asarray(TABLE)}}
SCORES = TABLE @ TABLE.T


def test_full_softmax_by_hand():
  objective = learner().loss(VARIABLES, BATCH, jax.random.key(0))
  expected = sum(np.log(np.exp(SCORES[i, 1:]).sum()) - SCORES[i, t] for i, t in TARGETS)
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-6)
  assert objective.weight == 4
  assert objective.metrics["accuracy"][1] == 4


def test_full_softmax_says_that_it_needs_the_whole_table():
  assert learner("full_softmax").whole_tables == ("item",)
  assert learner("sampled_softmax", 2).whole_tables == ()
  assert learner("bce").whole_tables == ()


def test_sampled_softmax_by_hand():
  system = learner("sampled_softmax")
  batch = system.draw(VARIABLES, BATCH, jax.random.key(1))
  drawn = np.asarray(batch["negative_item"])
  assert drawn.shape == (1, 4) and drawn.min() >= 1 and drawn.max() <= ITEMS
  np.testing.assert_allclose(batch["negative_log_q"], math.log(4 / 6), rtol=1e-6)
  expected = 0.0
  for i, t in TARGETS:
    others = [math.exp(SCORES[i, n]) * 6 / 4 for n in drawn[0] if n != t]
    own = math.exp(SCORES[i, t]) / (1 - math.exp(-4 / 6))
    expected += math.log(own + sum(others)) - math.log(own)
  objective = system.loss(VARIABLES, batch, jax.random.key(0))
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-5)


def test_bce_by_hand():
  system = learner("bce")
  batch = system.draw(VARIABLES, BATCH, jax.random.key(1))
  negatives = np.asarray(batch["negative_item"])
  softplus = lambda z: math.log1p(math.exp(z))  # noqa: E731
  where = [(0, 1), (0, 2), (1, 0), (1, 1)]
  expected = 0.0
  for (i, t), (row, position) in zip(TARGETS, where, strict=True):
    expected += softplus(-SCORES[i, t])
    if negatives[row, position]:
      expected += softplus(SCORES[i, negatives[row, position]])
  np.testing.assert_allclose(
    system.loss(VARIABLES, batch, jax.random.key(0)).loss, expected, rtol=1e-5
  )


def test_bce_negatives_are_never_items_of_the_row():
  draw = jax.jit(learner("bce").draw)
  seen = [{2, 3, 5, 6}, {4, 1, 2}]
  for seed in range(50):
    rows = np.asarray(draw(VARIABLES, BATCH, jax.random.key(seed))["negative_item"])
    for row, own in zip(rows, seen, strict=True):
      assert not own & set(row.tolist())


def test_popularity_draws_follow_the_counts():
  counts = {"item": np.array([99, 1, 0, 2, 0, 0, 5])}  # padding's count is ignored
  system = learner("sampled_softmax", 4000, "popularity", counts)
  key = jax.random.key(0)
  variables = {**system.init(key, VARIABLES["tables"], BATCH), "tables": VARIABLES["tables"]}
  batch = system.draw(variables, BATCH, key)
  ids, log_q = np.asarray(batch["negative_item"])[0], np.asarray(batch["negative_log_q"])[0]
  share = np.bincount(ids, minlength=7) / 4000
  np.testing.assert_allclose(share, np.array([0, 1, 0, 2, 0, 0, 5]) / 8, atol=0.03)
  np.testing.assert_allclose(log_q, np.log(4000 * counts["item"][ids] / 8), rtol=1e-5)
  few = learner("sampled_softmax", 2, "popularity", counts).draw(variables, BATCH, key)
  expected_count = 2 * np.maximum(counts["item"], 1)[BATCH["target_item"]] / 8
  real = BATCH["target_item"] != 0
  np.testing.assert_allclose(
    few["target_log_q"][real], np.log(1 - np.exp(-expected_count[real])), rtol=1e-5
  )
  assert np.isfinite(few["target_log_q"]).all()


@pytest.mark.parametrize("loss", ["sampled_softmax", "bce"])
def test_compact_ids_give_the_same_loss_and_row_gradients(loss):
  system = learner(loss)
  key = jax.random.key(2)
  batch = system.draw(VARIABLES, BATCH, key)
  fields = system.schema.indexing("item")
  rows = np.unique(np.concatenate([[0], *[np.ravel(batch[f]) for f in fields]]))
  compact = {**batch, **{f: jnp.asarray(np.searchsorted(rows, batch[f])) for f in fields}}

  def value(table, batch):
    return system.loss({"params": {}, "tables": {"item": table}}, batch, key).loss

  whole, slope = jax.value_and_grad(value)(jnp.asarray(TABLE), batch)
  part, part_slope = jax.value_and_grad(value)(jnp.asarray(TABLE[rows]), compact)
  np.testing.assert_allclose(part, whole, rtol=1e-6)
  np.testing.assert_allclose(part_slope, slope[rows], atol=1e-6)
  rest = np.setdiff1d(np.arange(ITEMS + 1), rows)
  assert not np.asarray(slope)[rest].any()


def test_drawn_fields_match_the_schema():
  for loss in ("sampled_softmax", "bce"):
    system = learner(loss)
    batch = system.draw(VARIABLES, BATCH, jax.random.key(0))
    for name, field in system.schema.fields.items():
      assert batch[name].shape[1:] == field.shape and batch[name].dtype == field.dtype


def test_predictions_agree_with_each_other():
  predict = learner().predict
  batch = {**BATCH, "target_item": jnp.array([[1, 5, 0], [6, 2, 2]])}
  state = predict["encode_user"](VARIABLES, batch)
  np.testing.assert_allclose(state, TABLE[[3, 2]])
  ids = jnp.array([4, 1, 0])
  scores = predict["score_items"](VARIABLES, state, ids)
  np.testing.assert_allclose(scores, SCORES[[3, 2]][:, [4, 1, 0]], atol=1e-6)
  np.testing.assert_allclose(scores, state @ predict["encode_items"](VARIABLES, ids).T, atol=1e-6)
  expected = np.stack([SCORES[3, [1, 5, 0]], SCORES[2, [6, 2, 2]]])
  many = predict["score"](VARIABLES, batch)
  np.testing.assert_allclose(many, expected, atol=1e-6)
  one = predict["score"](VARIABLES, {**batch, "target_item": batch["target_item"][:, 1]})
  np.testing.assert_allclose(one, many[:, 1], atol=1e-6)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown loss 'full_softmx'. Did you mean 'full_softmax'"):
    learner("full_softmx")
  with pytest.raises(ConfigError, match="Unknown sampling"):
    learner("bce", sampling="log_uniform")
  with pytest.raises(ConfigError, match="at least one negative"):
    learner("sampled_softmax", negatives=0)
  with pytest.raises(ConfigError, match="needs the training counts"):
    system = learner("sampled_softmax", sampling="popularity")
    system.init(jax.random.key(0), VARIABLES["tables"], BATCH)
  with pytest.raises(ConfigError, match="one target a row: take the view 'next_item'"):
    one = dataclasses.replace(SCHEMA.fields["target_item"], shape=())
    build_next_item(
      LastItem(), TableSpec("item", 2), Schema({**SCHEMA.fields, "target_item": one},
      SCHEMA.vocabularies), None, loss="full_softmax",
    )
  with pytest.raises(ConfigError, match="The batch lacks 'target_item'"):
    fields = {n: f for n, f in SCHEMA.fields.items() if n != "target_item"}
    build_next_item(
      LastItem(),
      TableSpec("item", 2),
      Schema(fields, SCHEMA.vocabularies),
      None,
      loss="bce",
      negatives=1,
      sampling="uniform",
    )
