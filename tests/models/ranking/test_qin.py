"""QIN: parameters of the released runs, the logit by a loop, tags, given vectors, decay, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import LENGTH, make_batch, random_variables, schema

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.ranking import qin

SMALL = qin.Config(item_width=3, category_width=2, layers=2, rows=2, stddev=0.5)
VECTORS = {"hist_vector": Field("vector", (LENGTH, 4)), "target_vector": Field("vector", (4,))}
KEY = jax.random.key(0)


def compiled(spec=None, **changes):
  learner = qin.build(dataclasses.replace(SMALL, **changes), spec or schema().extend(**VECTORS))
  return learner._replace(predict={n: jax.jit(f) for n, f in learner.predict.items()}), (
    random_variables(learner)
  )


def with_vectors(batch, seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  rows = len(batch["weight"])
  return {**batch, "hist_vector": draw(rows, LENGTH, 4), "target_vector": draw(rows, 4)}


@pytest.mark.parametrize(("rows", "total"), [(3, 27_045_893), (4, 31_244_293)])
def test_parameters_equal_the_logs_of_the_released_runs(rows, total):
  """MicroLens-1M: 91,718 items, 11,740 tags, five to an item, and two levels of eleven values."""
  fields = {
    "hist_item": Field("ids", (64,), "item"), "hist_cat": Field("ids", (64, 5), "tag"),
    "hist_mask": Field("mask", (64,)), "hist_vector": Field("vector", (64, 128)),
    "target_item": Field("id", (), "item"), "target_cat": Field("ids", (5,), "tag"),
    "target_vector": Field("vector", (128,)), "target_likes_level": Field("id", (), "likes_level"),
    "target_views_level": Field("id", (), "views_level"), "label": Field("label"),
    "weight": Field("float"),
  }
  sizes = {"item": 91_718, "tag": 11_740, "likes_level": 11, "views_level": 11}
  config = qin.Config(
    item_width=128, category_width=128, vector_width=128, features=("likes_level", "views_level"),
    feature_width=128, layers=4, rows=rows, dropout=0.1, decay=2e-4, stddev=1e-4,
  )
  learner = qin.build(config, Schema(fields, sizes))
  tables = {
    n: jax.ShapeDtypeStruct((sizes[t.vocabulary], t.width), jnp.float32)
    for n, t in learner.tables.items()
  }
  made = jax.eval_shape(learner.init, KEY, tables, learner.schema.example())
  leaves = [*jax.tree.leaves(made["params"]), *tables.values()]
  assert sum(leaf.size for leaf in leaves) == total
  attention = made["params"]["attention"]
  assert sum(leaf.size for leaf in jax.tree.leaves(attention)) == 4 * 384 * 768


def test_the_logit_equals_a_loop():
  learner, variables = compiled(vector_width=3, norm="affine")
  batch = with_vectors(make_batch())
  tables, params = jax.tree.map(np.asarray, (variables["tables"], variables["params"]))

  def vector(item, category, given):
    return np.concatenate(
      [tables["item"][item], tables["category"][category], given @ params["project"]["kernel"]]
    )

  expected = []
  for row in range(3):
    v = vector(*(np.asarray(batch[f"target_{n}"][row]) for n in ("item", "cat", "vector")))
    attention, found = params["attention"], np.zeros(16)
    for j in np.flatnonzero(batch["hist_mask"][row]):
      x = vector(*(np.asarray(batch[f"hist_{n}"][row, j]) for n in ("item", "cat", "vector")))
      score = (v @ attention["query"]["kernel"]) @ (x @ attention["key"]) / np.sqrt(16)
      found += max(score, 0) * (x @ attention["value"]["kernel"])
    z = np.concatenate([v, found @ attention["output"]["kernel"] + v])
    for index in range(2):
      layer = params["tower"][f"layer_{index}"]
      q = z * (z @ layer["kernel"] + layer["bias"]).reshape(2, -1).sum(0)
      q = q * layer["norm"]["scale"] + layer["norm"]["shift"]
      z = z + np.where(q > 0, q, layer["slope"] * q)
    expected.append((z @ params["tower"]["logit"]["kernel"] + params["tower"]["logit"]["bias"])[0])
  got = learner.predict["score"](variables, batch)
  np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


def test_the_order_of_a_history_says_nothing():
  learner, variables = compiled()
  batch = make_batch()
  turned = {**batch, **{n: batch[n][:, ::-1] for n in ("hist_item", "hist_cat", "hist_mask")}}
  one, other = (learner.predict["score"](variables, b) for b in (batch, turned))
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_tags_are_averaged_without_padding():
  """(a, b, 0) and (b, a, 0) are (a, b); (a, 0, 0) is a; (a, a, b) is not (a, b)."""
  learner, variables = compiled()
  batch = make_batch()
  pair = jnp.stack([batch["target_cat"], 1 + batch["target_cat"] % 5], axis=-1)

  def scores(target):
    width = target.shape[-1]
    spec = schema().extend(
      hist_cat=Field("ids", (LENGTH, width), "category"),
      target_cat=Field("ids", (width,), "category"),
    )
    history = jnp.stack([batch["hist_cat"]] + [batch["hist_cat"] * 0] * (width - 1), axis=-1)
    several = qin.build(SMALL, spec)
    return several.predict["score"](variables, {**batch, "target_cat": target, "hist_cat": history})

  padded = jnp.pad(pair, ((0, 0), (0, 1)))
  np.testing.assert_allclose(scores(pair), scores(padded), atol=1e-4)
  np.testing.assert_allclose(scores(pair), scores(padded[:, ::-1]), atol=1e-4)
  plain = learner.predict["score"](variables, batch)
  np.testing.assert_allclose(scores(padded.at[:, 1].set(0)), plain, rtol=1e-4, atol=1e-4)
  assert np.abs(scores(padded.at[:, 2].set(pair[:, 0])) - scores(pair)).max() > 1e-3
  assert np.isfinite(scores(padded * 0)).all()


def test_features_of_the_candidate():
  spec = schema().extend(target_level=Field("id", (), "category"))
  learner, variables = compiled(spec, features=("level",), feature_width=2)
  assert learner.tables["target_level"].vocabulary == "category"
  low, high = ({**make_batch(), "target_level": jnp.full(3, level)} for level in (1, 2))
  score = learner.predict["score"]
  assert np.abs(score(variables, low) - score(variables, high)).min() > 1e-4


def test_given_vectors_are_read_and_may_be_all_there_is():
  learner, variables = compiled(item_width=0, category_width=0, vector_width=3)
  assert not learner.tables
  batch = with_vectors(make_batch())
  one = learner.predict["score"](variables, batch)
  other = learner.predict["score"](variables, with_vectors(make_batch(), 1))
  assert np.abs(one - other).min() > 1e-4
  slope = jax.grad(
    lambda b: learner.loss(variables, {**batch, **b}, KEY).loss
  )({n: batch[n] for n in ("hist_vector", "target_vector")})
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))
  # int8 codes stand for c / 127, and whatever is stored is read.
  codes = {n: np.trunc(20 * batch[n]).astype(np.int8) for n in VECTORS}
  read = {n: jnp.asarray(c / 127, jnp.float32) for n, c in codes.items()}
  for stored in (codes, {n: x.astype(np.float16) for n, x in read.items()}):
    np.testing.assert_allclose(
      learner.predict["score"](variables, {**batch, **stored}),
      learner.predict["score"](variables, {**batch, **read}), atol=2e-3,
    )


def test_decay_is_of_all_tables_and_the_projection():
  batch, decay = with_vectors(make_batch()), 0.02
  plain, variables = compiled(vector_width=3, norm="none")
  decayed, _ = compiled(vector_width=3, norm="none", decay=decay)
  assert plain.whole_tables == () and set(decayed.whole_tables) == {"item", "category"}
  slopes = [jax.grad(lambda v, le=le: le.loss(v, batch, KEY).loss)(variables)
            for le in (plain, decayed)]
  both = zip(*(jax.tree.leaves_with_path(slope) for slope in slopes), strict=True)
  for ((path, one), (_, other)), value in zip(both, jax.tree.leaves(variables), strict=True):
    name = jax.tree_util.keystr(path)
    # The loss is a sum over three rows.
    expected = 3 * decay * value if "tables" in name or "project" in name else 0 * value
    np.testing.assert_allclose(other - one, expected, rtol=1e-2, atol=2e-3, err_msg=name)
  whole = decayed.loss(variables, batch, KEY)
  parts = [decayed.loss(variables, {n: x[part] for n, x in batch.items()}, KEY)
           for part in (slice(0, 1), slice(1, 3))]
  np.testing.assert_allclose(sum(p.loss for p in parts), whole.loss, rtol=1e-4)


def test_share_of_behaviours_that_weigh():
  learner, variables = compiled()
  batch = make_batch()
  used, real = learner.loss(variables, batch, KEY).metrics["behaviours_used"]
  weights = np.asarray(learner.predict["explain"](variables, batch))
  assert float(real) == batch["hist_mask"].sum() and float(used) == (weights > 0).sum() < real


def test_mistakes_are_named():
  build = lambda **changes: qin.build(dataclasses.replace(SMALL, **changes), schema())
  for changes, message in (
    ({"attention": "relus"}, "Unknown attention 'relus'. Did you mean 'relu'"),
    ({"tower": "qnn"}, "Unknown tower 'qnn'"),
    ({"vector_width": 8}, "vector_width=8 reads 'hist_vector', which the batch lacks"),
    ({"features": ("age",)}, "features reads ids 'target_age', which the batch lacks"),
    ({"item_width": 0, "category_width": 0}, "An item needs a vector"),
  ):
    with pytest.raises(ConfigError, match=message):
      build(**changes)
