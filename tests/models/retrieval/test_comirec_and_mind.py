"""ComiRec and MIND: padding, read-out, losses, the answers of several vectors, mistakes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.config import read_config_file, to_json
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.evaluate.topk import top_items
from recjax.models.retrieval import comirec, mind
from recjax.nn.tables import init_rows
from recjax.serve.export import write_export
from recjax.serve.recommender import Recommender

ITEMS, LENGTH = 12, 5
SCHEMA = Schema(
  {
    "user_id": Field("id", (), "user"),
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("id", (), "item"),
  },
  {"item": ITEMS + 1, "user": 4},
)
ROWS = [[0, 0, 3, 7, 1], [2, 4, 6, 8, 10], [0, 0, 0, 0, 0]]
SMALL = {"width": 8, "interests": 3, "stddev": 0.5, "negatives": 6}
CONFIGS = {
  "sa": comirec.Config(**SMALL),
  "dr": comirec.Config(extractor="dr", **SMALL),
  "mind": mind.Config(**SMALL),
}


def batch(rows=ROWS):
  hist = jnp.asarray(rows, jnp.int32)
  return {
    "user_id": jnp.arange(1, len(rows) + 1), "hist_item": hist, "hist_mask": hist != 0,
    "target_item": jnp.arange(5, 5 + len(rows), dtype=jnp.int32),
  }


def start(config, schema=SCHEMA, counts=None):
  module = mind if isinstance(config, mind.Config) else comirec
  learner = module.build(config, schema, counts)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  return learner, {**jax.jit(learner.init)(key, tables, learner.schema.example()), "tables": tables}


@pytest.fixture(scope="module", params=CONFIGS)
def system(request):
  config = CONFIGS[request.param]
  learner, variables = start(config)
  return learner, variables, jax.jit(learner.predict["encode_user"]), config


def test_padding_is_irrelevant_and_empty_histories_have_no_interests(system):
  _, variables, encode, _ = system
  clean = batch()
  dirty = {**clean, "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 5)}
  state = encode(variables, clean)
  assert state.shape == (3, 3, 8)
  np.testing.assert_array_equal(state, encode(variables, dirty))
  np.testing.assert_array_equal(state[2], 0)
  assert np.abs(state[:2]).max(axis=-1).min() > 0
  # An answer depends on the history alone: not on who else is asked about, nor on the array.
  np.testing.assert_allclose(encode(variables, batch(ROWS[:2][::-1])), state[:2][::-1], atol=1e-6)
  shorter = {**clean, "hist_item": clean["hist_item"][:1, 2:], "hist_mask": clean["hist_mask"][:1, 2:]}
  np.testing.assert_allclose(encode(variables, shorter), state[:1], atol=1e-6)


def test_a_sampled_softmax_of_the_nearest_interest_by_hand(system):
  learner, variables, _, config = system
  table = np.asarray(variables["tables"]["item"], np.float64)
  drawn = learner.draw(variables, batch(), jax.random.key(1))
  negatives = np.asarray(drawn["negative_item"])
  assert negatives.shape == (1, 6) and negatives.min() >= 1
  key = jax.random.key(2)
  interests = np.asarray(in_training(config, variables, drawn, key), np.float64)
  expected = 0.0
  for row, target in ((0, 5), (1, 6)):  # the third has no history
    nearest = interests[row][np.argmax(interests[row] @ table[target])]
    own = math.exp(nearest @ table[target]) / (1 - math.exp(-6 / ITEMS))
    others = [math.exp(nearest @ table[n]) * ITEMS / 6 for n in negatives[0] if n != target]
    expected += math.log(own + sum(others)) - math.log(own)
  objective = learner.loss(variables, drawn, key)
  assert objective.weight == 2
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-4)


def in_training(config, variables, rows, key):
  module = mind.MIND(config) if isinstance(config, mind.Config) else comirec.ComiRec(config, LENGTH)
  params = {"params": variables["params"]}
  return module.apply(params, variables["tables"], rows, train=True, rngs={"routing": key})


def test_logits_of_mind_are_drawn_anew_in_training_only():
  learner, variables = start(CONFIGS["mind"])
  first, second = (
    in_training(CONFIGS["mind"], variables, batch(), jax.random.key(seed)) for seed in (0, 1)
  )
  assert np.abs(first - second)[:2].max() > 1e-3
  encode = learner.predict["encode_user"]
  np.testing.assert_array_equal(encode(variables, batch()), encode(variables, batch()))


def test_gradients_are_finite_and_reach_everything(system):
  learner, variables, *_ = system
  rows = learner.draw(variables, batch(), jax.random.key(3))
  slope = jax.jit(jax.grad(lambda v: learner.loss(v, rows, jax.random.key(0)).loss, allow_int=True))(
    variables
  )
  for leaf in jax.tree.leaves(slope["params"]):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
  np.testing.assert_array_equal(slope["tables"]["item"][0], 0)
  named = {*np.ravel(rows["hist_item"]), *np.ravel(rows["negative_item"]), 5, 6, 0}
  rest = np.setdiff1d(np.arange(ITEMS + 1), list(named))
  assert not np.asarray(slope["tables"]["item"])[rest].any()


def test_compact_ids_give_the_same_loss_and_row_gradients(system):
  learner, variables, *_ = system
  drawn = learner.draw(variables, batch(), jax.random.key(4))
  fields = learner.schema.indexing("item")
  rows = np.unique(np.concatenate([[0], *[np.ravel(drawn[f]) for f in fields]]))
  compact = {**drawn, **{f: jnp.asarray(np.searchsorted(rows, drawn[f]), jnp.int32) for f in fields}}

  @jax.jit
  def value(table, batch):
    own = {**variables, "tables": {"item": table}}
    return jax.value_and_grad(
      lambda v: learner.loss(v, batch, jax.random.key(0)).loss, allow_int=True
    )(own)

  table = variables["tables"]["item"]
  whole, slope = value(table, drawn)
  part, part_slope = value(table[rows], compact)
  np.testing.assert_allclose(part, whole, rtol=1e-6)
  np.testing.assert_allclose(
    part_slope["tables"]["item"], slope["tables"]["item"][rows], atol=1e-5
  )


def test_every_item_of_a_softmax_at_zero_is_equally_likely():
  learner, variables = start(comirec.Config(loss="full_softmax", **SMALL))
  assert learner.whole_tables == ("item",) and learner.draw is None
  zero = jax.tree.map(jnp.zeros_like, variables)
  objective = learner.loss(zero, batch(), jax.random.key(0))
  np.testing.assert_allclose(objective.loss / objective.weight, math.log(ITEMS), rtol=1e-6)


def test_the_best_of_a_catalogue_by_blocks_is_that_of_all_scores(system):
  learner, variables, encode, _ = system
  state, table = np.asarray(encode(variables, batch())), np.asarray(variables["tables"]["item"])
  scores = np.einsum("bkd,nd->bkn", state, table).max(axis=1)
  scored = learner.predict["score_items"](variables, state, jnp.arange(ITEMS + 1))
  np.testing.assert_allclose(scored, scores, atol=1e-5)
  given = {**batch(), "target_item": jnp.array([[1, 9], [4, 3], [2, 0]])}
  np.testing.assert_allclose(
    learner.predict["score"](variables, given),
    np.take_along_axis(scores, np.asarray(given["target_item"]), 1), atol=1e-5,
  )
  scores[:, 0] = -np.inf
  seen = np.asarray(ROWS)
  np.put_along_axis(scores, seen, -np.inf, axis=1)
  for block in (3, 100):
    ids, _ = top_items(
      learner.predict, variables, batch(), jnp.asarray(seen), num_items=ITEMS, block=block, k=4
    )
    np.testing.assert_array_equal(ids[:2], np.argsort(-scores[:2], axis=1)[:, :4])


@pytest.mark.parametrize("name", ["comirec", "mind"])
def test_the_recommender_merges_interests(name, tmp_path):
  small = {"width": 8, "interests": 3}
  config = to_json(read_config_file(f"experiments/{name}.py:tiny"))
  config["model"] |= small
  module = {"comirec": comirec, "mind": mind}[name]
  _, variables = start(module.Config(**small, stddev=0.5))
  write_export(tmp_path / "export", variables, config, SCHEMA, {})
  recommender = Recommender.load(tmp_path)
  learner = module.build(module.Config(**small), SCHEMA)
  state = learner.predict["encode_user"](variables, batch([[0, 0, 3, 7, 1]]))
  scores = np.asarray(learner.predict["score_items"](variables, state, jnp.arange(ITEMS + 1)))[0]
  scores = np.where(np.isin(np.arange(ITEMS + 1), [0, 3, 7, 1]), -np.inf, scores)
  answers = recommender.recommend([[3, 7, 1], []], k=4)
  assert [a.item for a in answers[0]] == np.argsort(-scores)[:4].tolist()
  np.testing.assert_allclose([a.score for a in answers[0]], np.sort(scores)[::-1][:4], rtol=1e-4)
  assert [(a.item, a.score) for a in answers[1]] == [(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0)]


def test_popularity_draws_need_counts():
  config = comirec.Config(sampling="popularity", **SMALL)
  with pytest.raises(ConfigError, match="needs the training counts of the items"):
    start(config)
  learner, variables = start(config, counts={"item": np.arange(ITEMS + 1)})
  assert "cumulative_count" in variables["statistics"]
  drawn = learner.draw(variables, batch(), jax.random.key(0))
  assert np.isfinite(learner.loss(variables, drawn, jax.random.key(0)).loss)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown extractor 'ds'. Known: sa, dr."):
    comirec.build(comirec.Config(extractor="ds"), SCHEMA)
  with pytest.raises(ConfigError, match="Unknown loss 'bce'"):
    mind.build(mind.Config(loss="bce"), SCHEMA)
  with pytest.raises(ConfigError, match="Unknown sampling"):
    mind.build(mind.Config(sampling="log_uniform"), SCHEMA)
  windows = SCHEMA.extend(target_item=Field("ids", (LENGTH,), "item"))
  labelled = SCHEMA.extend(label=Field("label"))
  for module in (comirec, mind):
    with pytest.raises(ConfigError, match="several targets a row: take the view 'prefixes'"):
      module.build(module.Config(), windows)
    with pytest.raises(ConfigError, match="candidates with labels: take the view 'prefixes'"):
      module.build(module.Config(), labelled)
    with pytest.raises(ConfigError, match="The batch lacks 'target_item'"):
      fields = {n: f for n, f in SCHEMA.fields.items() if n != "target_item"}
      module.build(module.Config(), Schema(fields, SCHEMA.vocabularies))
