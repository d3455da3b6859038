"""TIN: parts that can be taken away, order, what the tower reads, parameters, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import LENGTH, make_batch, random_variables, schema

from recjax.data.schema import Field
from recjax.errors import ConfigError
from recjax.models.ranking import tin

SMALL = tin.Config(item_width=4, category_width=3, positions=4, hidden=(6, 5), stddev=0.5)
TIMES = {"hist_time": Field("time", (LENGTH,)), "target_time": Field("time")}


def compiled(**changes):
  learner = tin.build(dataclasses.replace(SMALL, **changes), schema().extend(**TIMES))
  predict = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(predict=predict), random_variables(learner)


def timed(**changes):
  batch = make_batch(**changes)
  batch["hist_time"] = jnp.asarray(
    np.sort(np.random.default_rng(0).integers(10**6, size=batch["hist_item"].shape), axis=1), jnp.int32
  )
  return {**batch, "target_time": jnp.full(len(batch["weight"]), 10**6, jnp.int32)}


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("representation", [True, False])
def test_the_logit_equals_a_loop(variant, representation):
  learner, variables = compiled(
    variant=variant, representation=representation, norm="affine", activation="relu"
  )
  batch = make_batch()
  tables, params = jax.tree.map(np.asarray, (variables["tables"], variables["params"]))
  positions = params["encoding"]["position"]
  expected = []
  for row in range(3):
    real = np.flatnonzero(batch["hist_mask"][row])
    of = lambda item, category: np.concatenate([tables["item"][item], tables["category"][category]])
    v = of(batch["target_item"][row], batch["target_cat"][row]) + positions[0]
    e = np.stack([
      of(batch["hist_item"][row, j], batch["hist_cat"][row, j])
      + positions[min(len(real) - place, 4)]
      for place, j in enumerate(real)
    ])
    scores = np.exp(e @ v / np.sqrt(7))
    s = scores @ e / scores.sum()
    if variant == "code":
      norm = params["pooled_norm"]
      s = (s * norm["scale"] + norm["shift"]) @ params["pooled"]["kernel"] + params["pooled"]["bias"]
      x = np.concatenate([s, v] + [s * v] * representation)
    else:
      x = np.concatenate([s * v if representation else s, v])
    tower = params["tower"]
    x = x * tower["norm"]["scale"] + tower["norm"]["shift"]
    for name in ("dense_0", "dense_1"):
      x = np.maximum(x @ tower[name]["kernel"] + tower[name]["bias"], 0)
    x = x @ tower["logit"]["kernel"] + tower["logit"]["bias"]
    expected.append(x[0] + tables["item_bias"][batch["target_item"][row], 0])
  got = learner.predict["score"](variables, batch)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_without_an_encoding_order_says_nothing_and_with_one_it_does():
  batch = make_batch()
  batch["hist_mask"] = jnp.ones((3, LENGTH), bool)
  batch["hist_item"] = jnp.maximum(batch["hist_item"], 1)
  swapped = {**batch}
  for name in ("hist_item", "hist_cat"):
    swapped[name] = batch[name].at[:, jnp.array([3, 5])].set(batch[name][:, jnp.array([5, 3])])
  scores = {}
  for encoding in ("none", "position"):
    learner, variables = compiled(encoding=encoding)
    one, other = (learner.predict["score"](variables, b) for b in (batch, swapped))
    scores[encoding] = np.abs(one - other).max()
  assert scores["none"] < 1e-5 < 1e-3 < scores["position"]


def test_rows_of_zeros_are_no_encoding():
  learner, variables = compiled()
  bare, _ = compiled(encoding="none")
  flat = {**variables, "params": {**variables["params"]}}
  flat["params"]["encoding"] = jax.tree.map(jnp.zeros_like, flat["params"]["encoding"])
  without = {**flat, "params": {n: v for n, v in flat["params"].items() if n != "encoding"}}
  got = learner.predict["score"](flat, make_batch())
  np.testing.assert_allclose(got, bare.predict["score"](without, make_batch()), atol=1e-6)


def test_times_matter_where_gaps_are_read_and_nowhere_else():
  batch = timed()
  later = {**batch, "target_time": batch["target_time"] + 10**7}
  for encoding in ("position", "gap", "both"):
    learner, variables = compiled(encoding=encoding)
    moved = np.abs(
      learner.predict["score"](variables, batch) - learner.predict["score"](variables, later)
    ).max()
    assert (moved > 1e-3) == (encoding != "position"), encoding
  # The moment is one of the request, whatever the number of candidates.
  learner, variables = compiled(encoding="gap")
  several = timed(candidates=3)
  got = learner.predict["score"](variables, several)
  for c in range(3):
    one = {**several, **{n: several[n][:, c] for n in ("target_item", "target_cat", "label")}}
    np.testing.assert_allclose(learner.predict["score"](variables, one), got[:, c], atol=1e-5)


def test_weights_explain():
  for attention, total in (("dot", 1.0), ("mean", 1.0), ("unit", None)):
    learner, variables = compiled(attention=attention, unit_hidden=(5,))
    batch = make_batch()
    weights = learner.predict["explain"](variables, batch)
    assert not np.any(weights[~np.asarray(batch["hist_mask"])])
    if total:
      np.testing.assert_allclose(weights.sum(1), total, rtol=1e-5)
    if attention == "mean":
      np.testing.assert_allclose(weights.max(1), 1 / batch["hist_mask"].sum(1), rtol=1e-5)


def test_parameters_of_the_authors_settings():
  """Amazon Electronics: 63,001 items and 801 categories, histories of up to 430."""
  config = tin.Config(
    item_width=64, category_width=64, positions=430, hidden=(80, 40), activation="sigmoid",
    norm="affine",
  )
  learner = tin.build(config, schema(items=63_000, categories=800))
  size = sum(learner.schema.vocabularies[t.vocabulary] * t.width for t in learner.tables.values())
  assert size == 4_032_064 + 51_264 + 63_001
  tables = {
    n: jax.ShapeDtypeStruct((learner.schema.vocabularies[t.vocabulary], t.width), jnp.float32)
    for n, t in learner.tables.items()
  }
  made = jax.eval_shape(learner.init, jax.random.key(0), tables, learner.schema.example())
  assert size + sum(leaf.size for leaf in jax.tree.leaves(made)) == 4_253_114


def test_mistakes_are_named():
  build = lambda **changes: tin.build(dataclasses.replace(SMALL, **changes), schema())
  for name, value, message in (
    ("encoding", "positions", "Unknown encoding 'positions'. Did you mean 'position'"),
    ("attention", "dots", "Unknown attention 'dots'. Did you mean 'dot'"),
    ("variant", "papers", "Unknown variant 'papers'. Did you mean 'paper'"),
    ("encoding", "gap", "encoding='gap' reads hist_time and target_time, which the batch lacks"),
  ):
    with pytest.raises(ConfigError, match=message):
      build(**{name: value})
  with pytest.raises(ConfigError, match="unit_hidden must name at least one hidden layer"):
    build(attention="unit", unit_hidden=())
