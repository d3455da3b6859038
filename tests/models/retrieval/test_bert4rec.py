"""BERT4Rec: masks, what a masked position sees, padding, the loss, a planted chain, mistakes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.retrieval import bert4rec
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
ROWS = [[0, 0, 3, 7, 1, 9], [2, 4, 6, 8, 10, 5], [0, 0, 0, 0, 4, 2]]


def batch(rows=ROWS):
  rows = jnp.asarray(rows, jnp.int32)
  hist = rows[:, :-1]
  target = jnp.where(hist != 0, rows[:, 1:], 0)
  return {"hist_item": hist, "hist_mask": hist != 0, "target_item": target}


@pytest.fixture(scope="module")
def system():
  learner = bert4rec.build(bert4rec.Config(width=8, layers=1, stddev=0.5, dropout=0.0), SCHEMA)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  variables = {**jax.jit(learner.init)(key, tables, learner.schema.example()), "tables": tables}
  module = bert4rec.BERT4Rec(bert4rec.Config(width=8, layers=1, stddev=0.5, dropout=0.0), LENGTH + 1)

  @jax.jit
  def states(ids, masked):
    ids = jnp.asarray(ids, jnp.int32)
    params = {"params": variables["params"]}
    return module.apply(params, tables, ids, ids != 0, jnp.asarray(masked), train=False)

  return learner, variables, states


def test_a_row_is_its_inputs_and_its_last_target():
  ids, real = bert4rec.sequence(batch())
  np.testing.assert_array_equal(ids, ROWS)
  np.testing.assert_array_equal(real, np.asarray(ROWS) != 0)


_masks = jax.jit(bert4rec.masks)


@settings(deadline=None, max_examples=20)
@given(
  st.lists(st.integers(1, 9), min_size=5, max_size=5), st.sampled_from((0.0, 0.3, 0.6, 1.0)),
  st.integers(0, 2**31 - 1),
)
def test_as_many_items_are_masked_as_asked_for(counts, share, seed):
  real = np.arange(9)[None] >= 9 - np.asarray(counts)[:, None]
  masked = np.asarray(_masks(jax.random.key(seed), real, share, 0.0))
  assert not (masked & ~real).any()
  np.testing.assert_array_equal(masked.sum(axis=1), [max(1, round(share * n)) for n in counts])
  last = np.asarray(_masks(jax.random.key(seed), real, share, 1.0))
  assert last[:, -1].all() and last.sum() == len(counts)


def test_masks_are_even_and_a_share_of_rows_has_the_last_alone():
  real = jnp.ones((4000, 8), bool)
  masked = np.asarray(bert4rec.masks(jax.random.key(0), real, 0.25, 0.0))
  np.testing.assert_allclose(masked.mean(axis=0), 0.25, atol=0.03)
  mixed = np.asarray(bert4rec.masks(jax.random.key(1), real, 0.25, 0.3))
  assert abs((mixed.sum(axis=1) == 1).mean() - 0.3) < 0.03


def test_a_masked_item_is_unknown_and_others_are_seen_from_both_sides(system):
  _, _, states = system
  masked = np.zeros((3, 6), bool)
  masked[:, 3] = True
  ids = np.asarray(ROWS)
  before = states(ids, masked & (ids != 0))
  hidden = ids.copy()
  hidden[:2, 3] = 11
  np.testing.assert_array_equal(before, states(hidden, masked & (ids != 0)))
  for place in (2, 5):
    other = ids.copy()
    other[:2, place] = 11
    after = states(other, masked & (ids != 0))
    assert (np.abs(after - before)[:2, 3].max(axis=-1) > 1e-4).all()
  np.testing.assert_array_equal(before[0, :2], 0)


def test_content_of_padding_is_irrelevant_and_an_empty_history_has_a_constant(system):
  learner, variables, states = system
  encode = jax.jit(learner.predict["encode_user"])
  clean = batch([[0, 0, 3, 7, 1, 9], [0, 0, 0, 0, 0, 0], [2, 4, 6, 8, 10, 5]])
  dirty = {**clean, "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 5)}
  np.testing.assert_array_equal(encode(variables, clean), encode(variables, dirty))
  assert np.isfinite(encode(variables, clean)).all()
  # The mask stands behind the history: what is asked for is not there.
  at_end = np.zeros((1, 6), bool)
  at_end[0, -1] = True
  asked = states(np.array([[0, 0, 3, 7, 1, 12]]), at_end)[0, -1]
  np.testing.assert_allclose(encode(variables, clean)[0], asked, atol=1e-6)
  shorter = {n: x[:1, 2:] for n, x in clean.items()}
  np.testing.assert_allclose(encode(variables, shorter)[0], asked, atol=1e-6)


def test_loss_by_hand_and_gradients(system):
  learner, variables, states = system
  drawn = learner.draw(variables, batch(), jax.random.key(3))
  masked = np.asarray(drawn["masked"])
  assert masked.shape == (3, 6) and masked.dtype == bool
  ids, table = np.asarray(ROWS), np.asarray(variables["tables"]["item"], np.float64)
  logits = np.asarray(states(ids, masked), np.float64) @ table[1:].T
  expected = sum(
    np.log(np.exp(logits[row, at]).sum()) - logits[row, at, ids[row, at] - 1]
    for row, at in zip(*np.nonzero(masked), strict=True)
  )
  value = lambda variables: learner.loss(variables, drawn, jax.random.key(0))
  objective = value(variables)
  assert objective.weight == masked.sum()
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-5)
  slope = jax.jit(jax.grad(lambda v: value(v).loss))(variables)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  assert np.abs(slope["params"]["mask"]).max() > 0
  np.testing.assert_array_equal(slope["tables"]["item"][0], 0)
  zero = {**variables, "tables": jax.tree.map(jnp.zeros_like, variables["tables"])}
  objective = value(zero)
  np.testing.assert_allclose(objective.loss / objective.weight, math.log(ITEMS), rtol=1e-6)
  assert learner.whole_tables == ("item",)


def test_learns_what_needs_both_sides():
  # The first and the last item of a row are equal, those between are free.
  config = bert4rec.Config(width=16, layers=1, dropout=0.0, last=0.5, stddev=0.1)
  learner = bert4rec.build(config, SCHEMA)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  variables = {**learner.init(key, tables, learner.schema.example()), "tables": tables}
  optimizer = optax.adam(1e-2)

  def rows(key):
    free = jax.random.randint(key, (64, LENGTH + 1), 1, ITEMS + 1)
    return batch(free.at[:, -1].set(free[:, 0]))

  def step(carry, key):
    variables, state = carry
    drawn = learner.draw(variables, rows(key), key)

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
  scores = learner.predict["score_items"](variables, state, jnp.arange(1, ITEMS + 1))
  assert (scores.argmax(axis=1) + 1 == test["hist_item"][:, 0]).mean() > 0.9
  # And from behind: the first item, given the last.
  params = {"params": variables["params"]}
  ids, real = bert4rec.sequence(test)
  first = jnp.zeros_like(real).at[:, 0].set(True)
  module = bert4rec.BERT4Rec(config, LENGTH + 1)
  states = module.apply(params, variables["tables"], ids, real, first, train=False)
  scores = states[:, 0] @ variables["tables"]["item"][1 : ITEMS + 1].T
  assert (scores.argmax(axis=1) + 1 == ids[:, -1]).mean() > 0.9


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="3 heads cannot share the width 8 evenly"):
    bert4rec.build(bert4rec.Config(width=8, heads=3), SCHEMA)
  with pytest.raises(ConfigError, match="one target a row: take the view 'next_item'"):
    bert4rec.build(bert4rec.Config(), SCHEMA.extend(target_item=Field("id", (), "item")))
