"""What holds of every registered ranking model: padding says nothing, and no gradient is undefined."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import ITEMS, LENGTH, category, make_batch, random_variables, schema
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import registry
from recjax.data.schema import Field, Schema

SMALL = {"item_width": 4, "category_width": 4, "hidden": (5,), "stddev": 0.5}
UNIT = {"unit_hidden": (4,)}
DIFFUMIN = {
  "channels": 2, "keep_share": 0.5, "diffusion_steps": 20, "start_t": 4, "sampler_steps": 2,
  "denoiser_layers": 1, "short_layers": 1, "recent": 3,
}
# The first case of each model runs always, the others with the slow tests.
CASES = {
  "din": ({**UNIT}, {**UNIT, "normalize": "softmax", "norm": "batch"}, {"pool": "mean"}),
  "diffumin": (DIFFUMIN, {**DIFFUMIN, "generator": "vae", "routing": "soft"}),
  "dien": (
    {}, {"evolution": "augru_code", "attention": "mlp", "auxiliary_head": "mlp"},
    {"evolution": "gru"}, {"evolution": "agru"}, {"evolution": "aigru"},
  ),
  "sdim": (
    {**UNIT, "bits": 6, "recent": 3}, {"bits": 6, "unit_hidden": (), "group": 1},
    {**UNIT, "estimate": "expected"}, {"bits": 6, "reading": "count"},
  ),
  "muse": (
    {"keep": 3, "recent": 2}, {"keep": 3, "recent": 2, "similar": False, "norm": "batch"},
    {"search": "ids", "keep": 2}, {"search": "category", "keep": 2, "recent": 0},
    {"search": "recent", "keep": 2, "tiers": 0}, {"keep": 0, "recent": 3},
    {"keep": 3, "encoder_channels": (3, 2), "encoder_width": 3},
    {"item_width": 0, "category_width": 0, "keep": 3},
  ),
  "tin": (
    {"positions": 4}, {"encoding": "none", "norm": "batch"}, {"variant": "paper"},
    {"representation": False}, {**UNIT, "attention": "unit"}, {"attention": "mean", "norm": "none"},
    {"encoding": "gap"}, {"encoding": "both", "positions": 4},
  ),
  "qin": (
    {}, {"attention": "softmax", "residual": False}, {"tower": "mlp"}, {"rows": 2, "dropout": 0.2},
    {"norm": "layer"}, {"vector_width": 4},
  ),
  "history_search": tuple(
    {**UNIT, "search": search, "keep": 2, "recent": 3, "bits": 8}
    for search in ("sim_soft", "sim_hard", "eta", "twin", "all", "mean", "none")
  ),
  "feature_interactions": tuple(
    {"kind": kind} for kind in ("deepfm", "lr", "dnn", "wide_deep", "ipnn", "dcnv2")
  ),
}
ALL = [
  pytest.param(name, number, marks=[pytest.mark.slow] if number else [], id=f"{name}-{number}")
  for name, cases in CASES.items() for number in range(len(cases))
]
KEY = jax.random.key(0)
HISTORY = ("hist_item", "hist_cat", "hist_mask", "hist_time", "hist_vector")
FURTHER = {
  "hist_time": Field("time", (LENGTH,)), "target_time": Field("time"),
  "hist_vector": Field("vector", (LENGTH, 4)), "target_vector": Field("vector", (2, 4)),
}


def test_every_ranking_model_is_among_the_cases():
  ranking = {n for n, m in registry.MODULES["model"].items() if m.startswith("recjax.models.ranking.")}
  # FairRec trains on sessions and the tower of videos on impressions; their own tests hold them to it.
  assert ranking == {*CASES, "fairrec", "video_tower"}


def batch_of(seed):
  """Three histories, left-padded; item 30 is nowhere."""
  batch = make_batch(seed, candidates=2)
  for name in ("hist_item", "target_item"):
    batch[name] = jnp.minimum(batch[name], ITEMS - 1)
  batch["target_cat"], batch["hist_cat"] = category(batch["target_item"]), category(batch["hist_item"])
  rng = np.random.default_rng(seed)
  further = {"target_time": jnp.full(3, 10**6)}
  for name in ("hist_vector", "target_vector"):
    further[name] = jnp.asarray(rng.normal(size=(3, *FURTHER[name].shape)), jnp.float32)
  further["hist_time"] = jnp.asarray(rng.integers(10**6, size=(3, LENGTH)), jnp.int32)
  return {**batch, **further, "weight": jnp.ones(3)}


@functools.cache
def compiled(name, number):
  """Random variables, and (variables, batch) -> scores, loss and gradients, compiled once."""
  module = registry.resolve("model", name)
  config = module.Config(**{**SMALL, **CASES[name][number]})
  learner = module.build(config, schema(2).extend(**FURTHER))
  variables = random_variables(learner)

  @jax.jit
  def run(variables, batch):
    drawn = learner.draw(variables, batch, KEY) if learner.draw else batch
    trained = {n: v for n, v in variables.items() if n in ("params", "tables")}
    value = lambda trained: learner.loss({**variables, **trained}, drawn, KEY).loss
    features = {n: v for n, v in batch.items() if n not in ("label", "weight")}
    return learner.predict["score"](variables, features), *jax.value_and_grad(value)(trained)

  return variables, run


@pytest.mark.parametrize(("name", "number"), ALL)
@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6))
def test_padding_says_nothing(name, number, seed):
  variables, run = compiled(name, number)
  batch = batch_of(seed)
  expected, _, slopes = run(variables, batch)
  assert np.isfinite(expected).all()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))

  dirty = {**batch, "hist_item": jnp.where(batch["hist_mask"], batch["hist_item"], ITEMS)}
  dirty["hist_cat"] = jnp.where(batch["hist_mask"], batch["hist_cat"], 4)
  dirty["hist_time"] = jnp.where(batch["hist_mask"], batch["hist_time"], 7)
  dirty["hist_vector"] = jnp.where(batch["hist_mask"][:, :, None], batch["hist_vector"], 9.0)
  scores, _, slopes = run(variables, dirty)
  np.testing.assert_allclose(scores, expected, atol=1e-5)
  for table, slope in slopes["tables"].items():
    if table.startswith("item"):
      assert not np.any(slope[ITEMS]), table

  # The same histories with their padding on the right.
  shift = LENGTH - np.asarray(batch["hist_mask"]).sum(1)
  right = {n: jnp.stack([jnp.roll(batch[n][r], -shift[r], axis=0) for r in range(3)]) for n in HISTORY}
  scores, _, slopes = run(variables, {**batch, **right})
  np.testing.assert_allclose(scores, expected, atol=1e-5)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize(("name", "number"), ALL)
def test_no_gradient_is_undefined(name, number):
  """Neither for empty histories, nor for vectors of zero, nor for rows that count for nothing."""
  variables, run = compiled(name, number)
  batch = batch_of(0)
  empty = {**batch, "hist_mask": batch["hist_mask"] & False}
  zero = {**variables, "tables": jax.tree.map(jnp.zeros_like, variables["tables"])}
  still = {**zero, "params": jax.tree.map(jnp.zeros_like, variables["params"])}
  for used, given_batch in (
    (variables, empty), (zero, batch), (zero, empty), (still, batch),
    (variables, {**batch, "weight": jnp.zeros(3)}),
    (variables, {**batch, **{name: batch[name] * 0 for name in FURTHER}}),
    (variables, {**batch, "target_item": batch["target_item"] * 0}),
  ):
    scores, loss, slopes = run(used, given_batch)
    assert np.isfinite(scores).all() and np.isfinite(loss)
    for path, leaf in jax.tree.leaves_with_path(slopes):
      assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
  other = {**empty, **{name: empty[name] * 0 for name in HISTORY if name != "hist_mask"}}
  np.testing.assert_array_equal(run(variables, empty)[0], run(variables, other)[0])


@pytest.mark.parametrize("name", CASES)
def test_items_of_several_categories(name):
  several = {"hist_cat": Field("ids", (LENGTH, 3), "category"),
             "target_cat": Field("ids", (2, 3), "category")}
  fields = {**schema(2).fields, **FURTHER, **several}
  module = registry.resolve("model", name)
  learner = module.build(
    module.Config(**{**SMALL, **CASES[name][0]}), Schema(fields, schema().vocabularies)
  )
  batch = batch_of(0)
  for kind in ("hist", "target"):
    batch[f"{kind}_cat"] = jnp.stack([batch[f"{kind}_cat"]] * 3, axis=-1)
  variables = random_variables(learner)
  drawn = jax.eval_shape(learner.draw, variables, batch, KEY) if learner.draw else batch
  assert jax.eval_shape(learner.predict["score"], variables, batch).shape == (3, 2)
  assert jax.eval_shape(learner.loss, variables, drawn, KEY).loss.shape == ()
  for field, value in learner.schema.fields.items():
    if learner.draw and field in drawn and field not in fields:
      assert drawn[field].shape[1:] == value.shape


@pytest.mark.parametrize("name", CASES)
def test_without_categories(name):
  fields = {n: f for n, f in {**schema(2).fields, **FURTHER}.items() if "cat" not in n}
  spec = Schema(fields, {"item": ITEMS + 1})
  module = registry.resolve("model", name)
  learner = module.build(module.Config(**{**SMALL, **CASES[name][0], "category_width": 0}), spec)
  batch = {n: v for n, v in batch_of(0).items() if "cat" not in n}
  variables = random_variables(learner)
  drawn = jax.eval_shape(learner.draw, variables, batch, KEY) if learner.draw else batch
  assert jax.eval_shape(learner.loss, variables, drawn, KEY).loss.shape == ()
