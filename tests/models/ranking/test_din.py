"""DIN: parameter count, invariances, candidates, penalty, gradients, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from click_toys import (
  CATEGORIES,
  ITEMS,
  LENGTH,
  category,
  compact,
  make_batch,
  random_variables,
  schema,
  with_target,
)

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.ranking import din
from recjax.nn.tables import init_rows

SMALL = din.Config(
  item_width=4, category_width=3, unit_hidden=(5, 4), hidden=(6, 5), stddev=0.5, history_dense=True
)
AMAZON = din.Config(
  item_width=64,
  category_width=64,
  unit_hidden=(80, 40),
  unit_activation="sigmoid",
  history_dense=True,
  hidden=(80, 40),
  activation="sigmoid",
  norm="affine",
)


def start(config, spec=None, counts=None):
  """Learner, and variables as `init` makes them."""
  learner = din.build(config, spec or schema(), counts)
  sizes = learner.schema.vocabularies

  @jax.jit
  def create(key):
    tables = {
      name: init_rows(jax.random.fold_in(key, index), spec, 0, sizes[spec.vocabulary])
      for index, (name, spec) in enumerate(learner.tables.items())
    }
    return {**learner.init(key, tables, learner.schema.example()), "tables": tables}

  return learner, create(jax.random.key(0))


def random_start(config, spec=None, counts=None):
  """Learner, and variables that are random without compiling `init`; no weight is small."""
  learner = din.build(config, spec or schema(), counts)
  variables = random_variables(learner)
  if counts is not None:
    made = variables["statistics"]
    variables["statistics"] = {
      f"{name}_count": jnp.asarray(count, jnp.float32) for name, count in counts.items()
    }
    assert jax.tree.structure(variables["statistics"]) == jax.tree.structure(made)
  jitted = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(loss=jax.jit(learner.loss), predict=jitted), variables


def test_parameter_count_of_the_amazon_configuration():
  # 63,001 items and 801 categories; padding rows are no parameters. 4,032,064 items + 63,001 biases
  # + 51,264 categories + 44,321 unit + 256 and 16,512 norm and dense of u + 768 + 34,081 tower.
  spec = schema(items=63_001, categories=801, length=4)
  learner = din.build(AMAZON, spec)
  tables = {
    name: jax.ShapeDtypeStruct((spec.vocabularies[t.vocabulary], t.width), jnp.float32)
    for name, t in learner.tables.items()
  }
  variables = jax.eval_shape(learner.init, jax.random.key(0), tables, spec.example())
  dense = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  rows = sum((table.shape[0] - 1) * table.shape[1] for table in tables.values())
  assert dense == 44_321 + 256 + 16_512 + 768 + 34_081
  assert rows == 4_032_064 + 63_001 + 51_264
  assert dense + rows == 4_242_267


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_padding_and_order_of_the_history_are_irrelevant(normalize):
  learner, variables = random_start(dataclasses.replace(SMALL, normalize=normalize))
  score, batch = jax.jit(learner.predict["score"]), make_batch()
  expected = score(variables, batch)
  shuffled = np.random.default_rng(0).permutation(LENGTH)
  fields = ("hist_item", "hist_cat", "hist_mask")
  permuted = {**batch, **{name: batch[name][:, shuffled] for name in fields}}
  np.testing.assert_allclose(score(variables, permuted), expected, atol=1e-6)
  dirty = {
    **batch,
    "hist_item": jnp.where(batch["hist_mask"], batch["hist_item"], 7),
    "hist_cat": jnp.where(batch["hist_mask"], batch["hist_cat"], 2),
  }
  np.testing.assert_allclose(score(variables, dirty), expected, atol=1e-6)
  longer = {name: jnp.pad(batch[name], ((0, 0), (0, 4))) for name in fields}
  np.testing.assert_allclose(score(variables, {**batch, **longer}), expected, atol=1e-6)
  np.testing.assert_array_equal(
    jnp.where(batch["hist_mask"], 0.0, learner.predict["explain"](variables, dirty)), 0.0
  )


@pytest.mark.parametrize("pool", din.POOLS)
def test_an_empty_history_scores_like_any_other_empty_one(pool):
  learner, variables = random_start(dataclasses.replace(SMALL, pool=pool))
  batch = make_batch()
  empty = {**batch, "hist_mask": batch["hist_mask"] & False}
  other = {**empty, "hist_item": empty["hist_item"] * 0, "hist_cat": empty["hist_cat"] * 0}
  score = learner.predict["score"]
  np.testing.assert_array_equal(score(variables, empty), score(variables, other))

  def value(variables):
    return learner.loss(variables, empty, jax.random.key(0)).loss

  slope = jax.jit(jax.grad(value))(variables)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  absent = np.setdiff1d(np.arange(ITEMS + 1), np.asarray(batch["target_item"]))
  np.testing.assert_array_equal(np.asarray(slope["tables"]["item"])[absent], 0)


@pytest.mark.parametrize("pool", din.POOLS)
def test_many_candidates_equal_one_at_a_time(pool):
  learner, variables = random_start(dataclasses.replace(SMALL, pool=pool))
  batch = make_batch(candidates=4)
  many = learner.predict["score"](variables, batch)
  weights = learner.predict["explain"](variables, batch)
  assert many.shape == (3, 4) and weights.shape == (3, 4, LENGTH)
  for c in range(4):
    one = with_target(batch, batch["target_item"][:, c])
    np.testing.assert_allclose(learner.predict["score"](variables, one), many[:, c], atol=1e-6)
    np.testing.assert_allclose(learner.predict["explain"](variables, one), weights[:, c], atol=1e-6)


def test_loss_of_many_candidates_is_the_sum_of_single_ones():
  # Dice and batch statistics would differ: here no activation has any.
  config = dataclasses.replace(SMALL, activation="prelu")
  learner, variables = random_start(config)
  several, key = make_batch(candidates=2), jax.random.key(0)
  several = {**several, "weight": jnp.array([1.0, 0.5, 0.0])}
  whole = learner.loss(variables, several, key)
  parts = [
    learner.loss(
      variables, with_target(several, several["target_item"][:, c], several["label"][:, c]), key
    )
    for c in range(2)
  ]
  np.testing.assert_allclose(whole.loss, parts[0].loss + parts[1].loss, rtol=1e-6)
  assert whole.weight == 3.0


def test_rows_and_candidates_of_padding_have_no_effect():
  config = dataclasses.replace(SMALL, unit_activation="dice", norm="batch")
  learner, variables = random_start(config)
  batch, key = make_batch(candidates=2), jax.random.key(0)
  batch = {**batch, "weight": jnp.array([1.0, 1.0, 0.0])}
  batch = with_target(batch, batch["target_item"].at[0, 1].set(0), batch["label"])
  objective = learner.loss(variables, batch, key)
  assert objective.weight == 3.0
  other = make_batch(seed=5, candidates=2)
  mixed = {name: jnp.concatenate([batch[name][:2], other[name][2:]]) for name in batch}
  mixed = {**mixed, "weight": batch["weight"], "label": mixed["label"].at[0, 1].set(1.0)}
  again = learner.loss(variables, mixed, key)
  np.testing.assert_allclose(again.loss, objective.loss, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), again.mutable, objective.mutable
  )


def test_training_moves_running_averages_and_scoring_reads_them():
  learner, variables = random_start(SMALL)
  batch = make_batch()
  objective = learner.loss(variables, batch, jax.random.key(0))
  moved = {**variables, **objective.mutable}
  assert jax.tree.structure(moved) == jax.tree.structure(variables)
  assert not np.allclose(
    learner.predict["score"](moved, batch), learner.predict["score"](variables, batch), atol=1e-6
  )
  alone = {name: value[:1] for name, value in batch.items()}
  np.testing.assert_allclose(
    learner.predict["score"](moved, alone), learner.predict["score"](moved, batch)[:1], atol=1e-6
  )


def test_loss_is_ln_2_when_the_last_layer_is_zero():
  learner, variables = random_start(SMALL)
  logit = variables["params"]["tower"]["logit"]
  variables["params"]["tower"]["logit"] = jax.tree.map(jnp.zeros_like, logit)
  variables["tables"]["item_bias"] *= 0.0
  objective = learner.loss(variables, make_batch(), jax.random.key(0))
  np.testing.assert_allclose(objective.loss / objective.weight, 0.693147, atol=1e-6)


def test_mean_pooling_explains_itself():
  learner, variables = random_start(dataclasses.replace(SMALL, pool="mean"))
  batch = make_batch()
  weights = learner.predict["explain"](variables, batch)
  np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)


COUNTS = {
  "item": np.arange(ITEMS + 1) % 4,
  "category": np.arange(CATEGORIES + 1) * 10,
}


@pytest.mark.parametrize("candidates", [None, 3])
def test_penalty_counts_each_id_of_the_batch_once(candidates):
  config = dataclasses.replace(SMALL, mba_decay=0.3)
  learner, variables = random_start(config, schema(candidates), counts=COUNTS)
  plain, _ = random_start(SMALL, schema(candidates))
  key, batch = jax.random.key(0), make_batch(rows=4, candidates=candidates)
  batch = {**batch, "weight": jnp.array([1.0, 1.0, 1.0, 0.0])}  # the last row only pads
  items = np.concatenate([np.ravel(batch[name][:3]) for name in ("hist_item", "target_item")])
  expected = 0.0
  for table, ids in (("item", items), ("category", np.asarray(category(items)))):
    for i in np.setdiff1d(ids, [0]):
      vector = np.asarray(variables["tables"][table])[i]
      expected += (vector**2).sum() / max(COUNTS[table][i], 1)
  drawn = learner.draw(variables, batch, key)
  objective = learner.loss(variables, drawn, key)
  without = plain.loss(variables, batch, key)
  difference = (objective.loss - without.loss) / objective.weight
  np.testing.assert_allclose(difference, 0.5 * 0.3 * expected, rtol=1e-4)
  for name, field in learner.schema.fields.items():
    assert drawn[name].shape[1:] == field.shape


def test_counts_reach_the_statistics():
  _, variables = start(dataclasses.replace(SMALL, mba_decay=0.3), counts=COUNTS)
  np.testing.assert_array_equal(variables["statistics"]["item_count"], COUNTS["item"])
  np.testing.assert_array_equal(variables["statistics"]["category_count"], COUNTS["category"])


def test_compact_ids_give_the_same_loss_and_row_gradients():
  config = dataclasses.replace(SMALL, mba_decay=0.3)
  learner, variables = random_start(config, counts=COUNTS)
  key = jax.random.key(0)
  batch = learner.draw(variables, make_batch(), key)
  small_batch, rows = compact(learner, batch)

  @jax.jit
  def value(tables, batch):
    return learner.loss({**variables, "tables": tables}, batch, key).loss

  tables = variables["tables"]
  small = {name: table[rows[name]] for name, table in tables.items()}
  whole, slope = jax.value_and_grad(value)(tables, batch)
  part, part_slope = jax.value_and_grad(value)(small, small_batch)
  np.testing.assert_allclose(part, whole, rtol=1e-6)
  for name in tables:
    np.testing.assert_allclose(part_slope[name], slope[name][rows[name]], atol=1e-6)


def test_data_without_categories():
  config = dataclasses.replace(SMALL, category_width=0)
  fields = {n: f for n, f in schema().fields.items() if "cat" not in n}
  spec = Schema(fields, {"item": ITEMS + 1})
  learner, variables = random_start(config, spec)
  batch = {n: v for n, v in make_batch().items() if "cat" not in n}
  assert np.isfinite(learner.loss(variables, batch, jax.random.key(0)).loss)
  with pytest.raises(ConfigError, match="Without categories set category_width=0"):
    din.build(SMALL, spec)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown pool 'max'"):
    din.build(dataclasses.replace(SMALL, pool="max"), schema())
  with pytest.raises(ConfigError, match="Unknown norm 'laier'. Did you mean 'layer'"):
    din.build(dataclasses.replace(SMALL, norm="laier"), schema())
  with pytest.raises(ConfigError, match="needs the training counts of the vocabulary 'item'"):
    start(dataclasses.replace(SMALL, mba_decay=0.1))


def test_learns_whether_the_category_was_seen():
  config = dataclasses.replace(SMALL, category_width=4, history_dense=False)
  learner, variables = start(config)
  optimizer = optax.adam(1e-2)

  def rows(key):
    hist, target, fill = jax.random.split(key, 3)
    hist = jax.random.randint(hist, (128, LENGTH), 1, ITEMS + 1)
    mask = jnp.arange(LENGTH)[None] >= jax.random.randint(fill, (128, 1), 0, LENGTH - 1)
    hist = jnp.where(mask, hist, 0)
    target = jax.random.randint(target, (128,), 1, ITEMS + 1)
    seen = jnp.any(category(hist) == category(target)[:, None], axis=1)
    batch = {"hist_item": hist, "hist_cat": category(hist), "hist_mask": mask}
    batch["weight"] = jnp.ones(128)
    return with_target(batch, target, seen.astype(jnp.float32))

  def step(carry, key):
    variables, state = carry
    trained = {name: variables[name] for name in ("params", "tables")}

    def mean(trained):
      objective = learner.loss({**variables, **trained}, rows(key), key)
      return objective.loss / objective.weight, objective.mutable

    (value, mutable), slope = jax.value_and_grad(mean, has_aux=True)(trained)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
      update, state = optimizer.update(slope, state)
    return ({**variables, **optax.apply_updates(trained, update), **mutable}, state), value

  trained = {name: variables[name] for name in ("params", "tables")}
  keys = jax.random.split(jax.random.key(1), 400)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))
  (variables, _), losses = run((variables, optimizer.init(trained)))
  assert losses[0] > 0.5 and losses[-20:].mean() < 0.15
  batch = rows(jax.random.key(9))
  right = (learner.predict["score"](variables, batch) > 0) == (batch["label"] > 0)
  assert right.mean() > 0.95
