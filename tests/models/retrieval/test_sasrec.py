"""SASRec: causality, padding, layouts, gradients, and that it learns a planted chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.retrieval import sasrec
from recjax.nn.tables import init_rows

ITEMS, LENGTH = 12, 5


def schema(length=LENGTH, items=ITEMS):
  return Schema(
    {
      "hist_item": Field("ids", (length,), "item"),
      "hist_mask": Field("mask", (length,)),
      "target_item": Field("ids", (length,), "item"),
    },
    {"item": items + 1},
  )


def batch(rows):
  hist = jnp.asarray(rows, jnp.int32)
  return {"hist_item": hist, "hist_mask": hist != 0, "target_item": jnp.roll(hist, -1, axis=1)}


def start(config, spec=None, seed=0):
  learner = sasrec.build(config, spec or schema())
  key = jax.random.key(seed)
  table = learner.tables["item"]
  tables = {"item": init_rows(key, table, 0, learner.schema.vocabularies["item"])}
  variables = jax.jit(learner.init)(key, tables, learner.schema.example())
  return learner, {**variables, "tables": tables}


ROWS = [[0, 0, 3, 7, 1], [2, 4, 6, 8, 10]]


@pytest.mark.parametrize("norm", sasrec.LAYOUTS)
def test_a_later_item_never_changes_an_earlier_state(norm):
  config = sasrec.Config(width=8, norm=norm, stddev=0.5)
  _, variables = start(config)
  module = sasrec.SASRec(config, LENGTH)

  @jax.jit
  def apply(rows):
    params = {"params": variables["params"]}
    return module.apply(params, variables["tables"], rows, train=False)

  def states(rows):
    return apply(batch(rows))

  before, after = states(ROWS), states([[0, 0, 3, 9, 1], [2, 4, 6, 11, 10]])
  np.testing.assert_array_equal(before[:, :3], after[:, :3])
  assert (np.abs(before - after)[:, 3:].max(axis=-1) > 1e-4).all()
  np.testing.assert_array_equal(before[0, :2], 0)


@pytest.mark.parametrize("norm", sasrec.LAYOUTS)
def test_content_of_padding_is_irrelevant_and_empty_histories_are_zero(norm):
  learner, variables = start(sasrec.Config(width=8, norm=norm, stddev=0.5))
  clean = batch([*ROWS, [0, 0, 0, 0, 0]])
  dirty = {**clean, "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 5)}
  encode = jax.jit(learner.predict["encode_user"])
  np.testing.assert_array_equal(encode(variables, clean), encode(variables, dirty))
  np.testing.assert_array_equal(encode(variables, clean)[2], 0)


@pytest.mark.parametrize(
  ("norm", "loss"), [("pre", "full_softmax"), ("post", "sampled_softmax"), ("original", "bce")]
)
def test_gradients_are_finite_and_dropout_follows_the_key(norm, loss):
  learner, variables = start(sasrec.Config(width=8, norm=norm, loss=loss, negatives=3))
  rows = batch([*ROWS, [0, 0, 0, 0, 0]])
  if learner.draw is not None:
    rows = learner.draw(variables, rows, jax.random.key(5))

  @jax.jit
  def value_and_slope(seed):
    value = lambda v: learner.loss(v, rows, jax.random.key(seed)).loss  # noqa: E731
    return jax.value_and_grad(value)(variables)

  value, slope = value_and_slope(1)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  assert np.abs(slope["tables"]["item"]).max() > 0
  np.testing.assert_array_equal(slope["tables"]["item"][0], 0)
  assert value == value_and_slope(1)[0] and value != value_and_slope(2)[0]


def test_sampled_softmax_of_many_negatives_nears_the_full_softmax():
  full, variables = start(sasrec.Config(width=8, dropout=0.0, stddev=0.3))
  sampled, _ = start(
    sasrec.Config(width=8, dropout=0.0, loss="sampled_softmax", negatives=20_000, stddev=0.3)
  )
  key, rows = jax.random.key(0), batch(ROWS)
  drawn = sampled.draw(variables, rows, key)
  np.testing.assert_allclose(
    sampled.loss(variables, drawn, key).loss, full.loss(variables, rows, key).loss, rtol=0.01
  )


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="3 heads cannot share the width 8 evenly"):
    sasrec.build(sasrec.Config(width=8, heads=3), schema())
  with pytest.raises(ConfigError, match="Unknown norm 'preln'"):
    sasrec.build(sasrec.Config(norm="preln"), schema())


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "bce"])
def test_learns_a_planted_chain(loss):
  # Item i is followed by i + 1 or, from an even start, by i + 2: one must look at two items.
  items, length = 20, 6
  config = sasrec.Config(
    width=16, layers=1, heads=1, dropout=0.0, loss=loss, negatives=16, stddev=0.1
  )
  learner, variables = start(config, schema(length, items))
  optimizer = optax.adam(1e-2)

  def rows(key):
    starts = jax.random.randint(key, (64, 1), 0, items)
    stride = 1 + (starts + 1) % 2
    chain = (starts + stride * jnp.arange(length + 1)[None]) % items + 1
    hist = chain[:, :-1]
    return {
      "hist_item": hist,
      "hist_mask": jnp.ones_like(hist, bool),
      "target_item": chain[:, 1:].at[:, 0].set(0),
    }

  def step(carry, key):
    variables, state = carry
    drawn = rows(key) if learner.draw is None else learner.draw(variables, rows(key), key)

    def mean(variables):
      objective = learner.loss(variables, drawn, key)
      return objective.loss / objective.weight

    slope = jax.grad(mean)(variables)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
      update, state = optimizer.update(slope, state)
    return (optax.apply_updates(variables, update), state), None

  keys = jax.random.split(jax.random.key(1), 300)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])
  variables, _ = run((variables, optimizer.init(variables)))
  test = rows(jax.random.key(99))
  state = learner.predict["encode_user"](variables, test)
  scores = learner.predict["score_items"](variables, state, jnp.arange(items + 1))
  scores = np.array(scores)
  np.put_along_axis(scores, np.asarray(test["hist_item"]), -np.inf, axis=1)
  hits = scores[:, 1:].argmax(axis=1) + 1 == np.asarray(test["target_item"])[:, -1]
  assert hits.mean() > 0.95
