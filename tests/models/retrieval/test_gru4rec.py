"""GRU4Rec: causality, padding, gradients, and that it learns a planted chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.data.schema import Field, Schema
from recjax.models.retrieval import gru4rec
from recjax.nn.tables import init_rows

ITEMS, LENGTH = 12, 5
SCHEMA = Schema(
  {
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("ids", (LENGTH,), "item"),
  },
  {"item": ITEMS + 1},
)
ROWS = [[0, 0, 3, 7, 1], [2, 4, 6, 8, 10], [0, 0, 0, 0, 0]]


def batch(rows):
  hist = jnp.asarray(rows, jnp.int32)
  return {"hist_item": hist, "hist_mask": hist != 0, "target_item": jnp.roll(hist, -1, axis=1)}


def start(config):
  learner = gru4rec.build(config, SCHEMA)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  return learner, {**jax.jit(learner.init)(key, tables, learner.schema.example()), "tables": tables}


def test_a_later_item_never_changes_an_earlier_state():
  config = gru4rec.Config(width=8, layers=2, stddev=0.5)
  _, variables = start(config)

  @jax.jit
  def apply(rows):
    params = {"params": variables["params"]}
    return gru4rec.GRU4Rec(config).apply(params, variables["tables"], rows, train=False)

  def states(rows):
    return apply(batch(rows))

  before, after = states(ROWS[:2]), states([[0, 0, 3, 9, 1], [2, 4, 6, 11, 10]])
  np.testing.assert_array_equal(before[:, :3], after[:, :3])
  assert (np.abs(before - after)[:, 3:].max(axis=-1) > 1e-4).all()


def test_padding_is_irrelevant_and_empty_histories_are_zero():
  learner, variables = start(gru4rec.Config(width=8, stddev=0.5))
  encode, clean = jax.jit(learner.predict["encode_user"]), batch(ROWS)
  dirty = {**clean, "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 5)}
  np.testing.assert_array_equal(encode(variables, clean), encode(variables, dirty))
  np.testing.assert_array_equal(encode(variables, clean)[2], 0)
  longer = batch(np.pad(np.asarray(ROWS), ((0, 0), (3, 0))))
  np.testing.assert_allclose(encode(variables, longer), encode(variables, clean), atol=1e-6)


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "bce"])
def test_gradients_are_finite(loss):
  learner, variables = start(gru4rec.Config(width=8, layers=2, loss=loss, negatives=3))
  key, rows = jax.random.key(0), batch(ROWS)
  if learner.draw is not None:
    rows = learner.draw(variables, rows, key)
  slope = jax.jit(jax.grad(lambda v: learner.loss(v, rows, key).loss))(variables)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  np.testing.assert_array_equal(slope["tables"]["item"][0], 0)


def test_learns_a_planted_chain():
  # The next item is the one of two steps ago: the last item alone does not tell.
  learner, variables = start(gru4rec.Config(width=16, dropout=0.0))
  optimizer = optax.adam(1e-2)

  def rows(key):
    pair = 1 + jax.random.randint(key, (64, 2), 0, ITEMS)
    hist = jnp.tile(pair, (1, 3))[:, :LENGTH]
    target = jnp.tile(pair, (1, 3))[:, 1:].at[:, 0].set(0)
    return {"hist_item": hist, "hist_mask": jnp.ones_like(hist, bool), "target_item": target}

  def step(carry, key):
    variables, state = carry

    def mean(variables):
      objective = learner.loss(variables, rows(key), key)
      return objective.loss / objective.weight

    value, slope = jax.value_and_grad(mean)(variables)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
      update, state = optimizer.update(slope, state)
    return (optax.apply_updates(variables, update), state), value

  keys = jax.random.split(jax.random.key(1), 500)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[1])
  losses = run((variables, optimizer.init(variables)))
  assert losses[0] > 2.0 and losses[-20:].mean() < 0.3
