"""SDIM: both paths and the split agree, what the rotations are, what has gradients, limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import LENGTH, make_batch, random_variables, schema, with_target

from recjax.errors import ConfigError
from recjax.models.ranking import sdim

SMALL = sdim.Config(
  item_width=4, category_width=3, bits=12, group=2, recent=3, unit_hidden=(5,), hidden=(6, 5),
  stddev=0.5,
)
KEY = jax.random.key(0)


def compiled(**changes):
  learner = sdim.build(dataclasses.replace(SMALL, **changes), schema())
  predict = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(predict=predict), random_variables(learner)


@pytest.mark.parametrize("reading", ["l2", "count"])
def test_few_candidates_and_many_take_different_ways_to_the_same_scores(reading):
  learner, variables = compiled(reading=reading)
  batch = make_batch(candidates=6)  # more than the 4 codes of a group: sums by code
  many = learner.predict["score"](variables, batch)
  for c in range(6):
    one = with_target(batch, batch["target_item"][:, c])
    np.testing.assert_allclose(learner.predict["score"](variables, one), many[:, c], atol=1e-5)


@pytest.mark.parametrize("unit", [(), (5,)])
def test_a_history_apart_from_its_candidates_scores_the_same(unit):
  learner, variables = compiled(unit_hidden=unit)
  batch = make_batch(rows=5, candidates=3)
  batch["hist_mask"] = batch["hist_mask"].at[0].set(False)
  encoded = learner.predict["encode_history"](variables, batch)
  candidates = {name: batch[name] for name in ("target_item", "target_cat")}
  got = learner.predict["score_encoded"](variables, encoded, candidates)
  np.testing.assert_allclose(got, learner.predict["score"](variables, batch), atol=1e-5)
  flat = {name: value[:, 0] for name, value in candidates.items()}
  assert learner.predict["score_encoded"](variables, encoded, flat).shape == (5,)


def test_advancing_equals_encoding_anew():
  learner, variables = compiled()
  batch = make_batch(rows=3)
  batch["hist_mask"] = jnp.ones((3, LENGTH), bool)
  batch["hist_item"] = jnp.maximum(batch["hist_item"], 1)
  names = ("hist_item", "hist_cat", "hist_mask")
  before = {name: jnp.pad(batch[name][:, :-1], ((0, 0), (1, 0))) for name in names}
  before["hist_mask"] = before["hist_mask"].at[1, :2].set(False)  # there is nothing to leave
  pair = {name: jnp.stack([before[name][:, 0], batch[name][:, -1]], 1) for name in names}
  after = {name: jnp.concatenate([before[name][:, 1:], batch[name][:, -1:]], 1) for name in names}
  encode = learner.predict["encode_history"]
  got = learner.predict["advance_history"](variables, encode(variables, before), pair)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, encode(variables, after)
  )


def test_what_is_kept_does_not_grow_with_the_history():
  sizes = set()
  for length in (10, 500):
    learner = sdim.build(SMALL, schema(length=length))
    variables = jax.eval_shape(lambda le=learner: random_variables(le))
    made = jax.eval_shape(learner.predict["encode_history"], variables, learner.schema.example())
    sizes.add(sum(leaf.size for leaf in jax.tree.leaves(made)))
  assert len(sizes) == 1


def test_rotations_come_from_the_key_and_are_no_parameters():
  learner, variables = compiled()
  sizes = learner.schema.vocabularies
  tables = {n: jnp.zeros((sizes[t.vocabulary], t.width)) for n, t in learner.tables.items()}
  init = jax.jit(lambda key: learner.init(key, tables, learner.schema.example()))
  one, same, other = (init(jax.random.key(k))["constants"]["rotations"] for k in (0, 0, 1))
  assert one.shape == (12, 7)
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).min() > 0 and abs(one.mean()) < 0.3 and 0.8 < one.std() < 1.2
  objective = jax.jit(learner.loss)(variables, make_batch(), KEY)
  assert set(objective.mutable) <= {"batch_stats"}
  constant = lambda v: learner.loss({**variables, "constants": v}, make_batch(), KEY).loss
  slope = jax.jit(jax.grad(constant))(variables["constants"])
  np.testing.assert_array_equal(slope["rotations"], 0)


def test_the_long_part_gives_candidates_no_gradient():
  """Without a short part and with a tower that reads the long interest alone, none is left."""
  learner, variables = compiled(unit_hidden=(), norm="none")
  first = variables["params"]["tail"]["tower"]["dense_0"]
  first["kernel"] = first["kernel"].at[:7].set(0).at[14:].set(0)
  batch = {**make_batch(), "target_item": jnp.full(3, 30), "target_cat": jnp.full(3, 5)}
  batch["hist_item"] = jnp.minimum(batch["hist_item"], 29)
  batch["hist_cat"] = jnp.minimum(batch["hist_cat"], 4)
  slope = jax.jit(jax.grad(lambda v: learner.loss(v, batch, KEY).loss))(variables)["tables"]
  assert not np.any(slope["item"][30]) and not np.any(slope["category"][5])
  assert np.any(slope["item"])


def test_more_bits_come_nearer_to_the_expectation():
  learner, variables = compiled(estimate="expected", reading="none", unit_hidden=())
  batch = make_batch(rows=20)
  assert "encode_history" not in learner.predict
  expected = learner.predict["score"](variables, batch)
  distances = []
  for bits in (12, 4000):
    other, _ = compiled(bits=bits, reading="none", unit_hidden=())
    rotations = jax.random.normal(KEY, (bits, 7))
    same = {**variables, "constants": {"rotations": rotations}}
    distances.append(np.abs(other.predict["score"](same, batch) - expected).mean())
  assert distances[1] < 0.5 * distances[0]


def test_mistakes_are_named():
  build = lambda **changes: sdim.build(dataclasses.replace(SMALL, **changes), schema())
  with pytest.raises(ConfigError, match="12 bits cannot be cut into groups of 5"):
    build(group=5)
  with pytest.raises(ConfigError, match="Unknown reading 'l3'"):
    build(reading="l3")
  with pytest.raises(ConfigError, match="Unknown estimate 'expect'. Did you mean 'expected'"):
    build(estimate="expect")
