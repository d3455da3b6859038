"""MUSE: the search, its ablations, what vectors say and what has gradients, counts, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import LENGTH, compact, make_batch, random_variables, schema, with_target

from recjax.config import read_config_file
from recjax.data.frozen import quantize
from recjax.data.load import load
from recjax.data.schema import Field
from recjax.errors import ConfigError
from recjax.models.ranking import muse
from recjax.programs.train import train
from recjax.train.arrays import load_arrays

WIDTH = 4
SMALL = muse.Config(
  item_width=3, category_width=2, keep=3, recent=2, hidden=(5, 4), stddev=0.5
)
KEY = jax.random.key(0)


def spec(candidates=None, width=WIDTH, kind="vector"):
  wide = () if candidates is None else (candidates,)
  return schema(candidates).extend(
    hist_vector=Field(kind, (LENGTH, width)), target_vector=Field(kind, (*wide, width))
  )


def toy(rows=3, candidates=None, seed=0):
  rng, batch = np.random.default_rng(seed), make_batch(seed, rows, candidates)
  draw = lambda shape: jnp.asarray(rng.normal(size=(*shape, WIDTH)), jnp.float32)
  vectors = {f"{p}_vector": draw(batch[f"{p}_item"].shape) for p in ("hist", "target")}
  return {**batch, **vectors}


def compiled(candidates=None, kind="vector", **changes):
  learner = muse.build(dataclasses.replace(SMALL, **changes), spec(candidates, kind=kind))
  predict = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(predict=predict), random_variables(learner)


@pytest.fixture(scope="module")
def made():
  return compiled()


def found(learner, variables, batch):
  """Places of positive weight of each row, and the weights."""
  weights = np.asarray(learner.predict["explain"](variables, batch))
  return [set(np.flatnonzero(w).tolist()) for w in weights], weights


def test_the_search_finds_the_nearest_and_nothing_else(made):
  learner, variables = made
  batch = toy(rows=5)
  batch["hist_vector"] = batch["hist_vector"].at[:, 4].set(0)  # real, but without a vector
  batch["hist_mask"] = batch["hist_mask"].at[0].set(True).at[1].set(True)
  places, weights = found(learner, variables, batch)
  for r in range(5):
    real = np.flatnonzero(batch["hist_mask"][r])
    t = np.asarray(batch["target_vector"][r], np.float64)

    def near(j, r=r, t=t):
      x = np.asarray(batch["hist_vector"][r, j], np.float64)
      size = np.linalg.norm(x) * np.linalg.norm(t)
      return x @ t / size if size else -1.1

    best = sorted(real.tolist(), key=lambda j: (-near(j), -j))[:3]
    assert places[r] == set(best)
    assert weights[r].sum() == pytest.approx(1.0, abs=1e-5)
  assert 4 not in places[0] | places[1]


def test_lengths_of_vectors_and_their_codes_change_little(made):
  learner, variables = made
  batch = toy()
  scores = learner.predict["score"](variables, batch)
  scaled = {name: batch[name] * scale for name, scale in (("hist_vector", 3), ("target_vector", 0.2))}
  scaled = {**batch, **scaled}
  np.testing.assert_allclose(learner.predict["score"](variables, scaled), scores, atol=1e-4)
  units = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  codes = lambda name: jnp.asarray(quantize(units(np.asarray(batch[name]))))
  coded = {name: codes(name) for name in ("hist_vector", "target_vector")}
  other, _ = compiled(kind="vector_int8", tiers=0, similar=False, recent=0)
  plain, _ = compiled(tiers=0, similar=False, recent=0)
  some = random_variables(plain)
  np.testing.assert_allclose(
    other.predict["score"](some, {**batch, **coded}), plain.predict["score"](some, batch), atol=1e-4
  )


@pytest.mark.parametrize("kind", ["vector_int8", "vector_float16"])
def test_stored_vectors_of_padding_and_of_zero_are_harmless(kind):
  """As tests/models/ranking/test_all_ranking_models.py has it for float32."""
  learner, variables = compiled(kind=kind)
  slopes = jax.jit(jax.grad(lambda v, b: learner.loss({**variables, **v}, b, KEY).loss))
  trained = {n: variables[n] for n in ("params", "tables")}
  dtype = learner.schema.fields["hist_vector"].dtype
  batch = toy()
  batch |= {n: (40 * batch[n]).astype(dtype) for n in ("hist_vector", "target_vector")}
  none = {n: jnp.zeros_like(batch[n]) for n in ("hist_vector", "target_vector")}
  for used in (batch, {**batch, **none}, {**batch, "hist_mask": batch["hist_mask"] & False}):
    assert np.isfinite(learner.predict["score"](variables, used)).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes(trained, used)))
  dirty = jnp.where(batch["hist_mask"][:, :, None], batch["hist_vector"], dtype.type(-128))
  np.testing.assert_array_equal(
    learner.predict["score"](variables, {**batch, "hist_vector": dirty}),
    learner.predict["score"](variables, batch),
  )


def test_searches_by_hand():
  batch = make_batch(0, 1)
  items = jnp.array([[5, 10, 6, 15, 7, 20]])
  batch |= {"hist_item": items, "hist_cat": 1 + items % 5, "hist_mask": jnp.ones((1, 6), bool)}
  batch = with_target(batch, jnp.array([30]))
  batch |= {"hist_vector": jnp.ones((1, 6, WIDTH)), "target_vector": jnp.ones((1, WIDTH))}
  by = lambda **changes: found(*compiled(**changes), batch)[0][0]
  assert by(search="recent") == {3, 4, 5}
  assert by(search="category") == {1, 3, 5}  # items 10, 15 and 20 share the category of 30; so does 5
  assert by(search="category", keep=5) == {0, 1, 3, 5}  # places left over stay empty
  assert by(search="vectors") == {3, 4, 5}  # all tie: the newest
  learner, variables = compiled(search="ids")
  item, cat = variables["tables"]["item"], variables["tables"]["category"]
  vector = lambda i: np.concatenate([item[i], cat[1 + i % 5]])
  near = lambda i: vector(i) @ vector(30) / np.linalg.norm(vector(i)) / np.linalg.norm(vector(30))
  best = sorted(range(6), key=lambda j: -near(int(items[0, j])))[:3]
  assert found(learner, variables, batch)[0][0] == set(best)


def test_a_search_for_all_changes_nothing_but_order():
  batch = toy(rows=4)
  batch["hist_mask"] = batch["hist_mask"].at[0].set(True)
  scores = []
  for search in ("vectors", "recent", "ids"):
    learner, variables = compiled(search=search, keep=LENGTH + 2)
    scores.append(learner.predict["score"](variables, batch))
  np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
  np.testing.assert_allclose(scores[0], scores[2], atol=1e-5)


def test_candidates_do_not_know_of_one_another():
  batch = toy(candidates=3)
  several, variables = compiled(3)
  one = compiled()[0]
  scores, weights = (several.predict[n](variables, batch) for n in ("score", "explain"))
  for c in range(3):
    alone = {**batch, **{n: batch[n][:, c] for n in batch if n.startswith("target_") or n == "label"}}
    np.testing.assert_allclose(one.predict["score"](variables, alone), scores[:, c], atol=1e-5)
    np.testing.assert_allclose(one.predict["explain"](variables, alone), weights[:, c], atol=1e-5)


def test_vectors_matter_and_have_no_gradient(made):
  learner, variables = made
  batch = toy()
  value = lambda v: learner.loss(variables, {**batch, "hist_vector": v}, KEY).loss
  assert not np.any(jax.jit(jax.grad(value))(batch["hist_vector"]))
  changed = {**batch, "hist_vector": -batch["hist_vector"]}
  score = learner.predict["score"]
  assert np.abs(score(variables, changed) - score(variables, batch)).max() > 1e-3


def test_without_a_history_only_the_candidate_speaks(made):
  learner, variables = made
  batch = toy()
  batch["hist_mask"] = batch["hist_mask"] & False
  same = {**batch, "target_vector": -batch["target_vector"]}
  score = learner.predict["score"]
  np.testing.assert_array_equal(score(variables, batch), score(variables, same))
  assert not np.any(learner.predict["explain"](variables, batch))


def test_an_untrained_model_says_even_odds():
  learner, _ = compiled(stddev=0.001)
  sizes = learner.schema.vocabularies
  tables = {n: jnp.zeros((sizes[t.vocabulary], t.width)) for n, t in learner.tables.items()}
  variables = jax.jit(learner.init)(KEY, tables, learner.schema.example())
  batch = toy(rows=20)
  batch["hist_mask"] = batch["hist_mask"] & False
  made = jax.jit(learner.loss)({**variables, "tables": tables}, batch, KEY)
  assert float(made.loss / made.weight) == pytest.approx(np.log(2), abs=0.02)


def test_parameters_of_the_authors_widths():
  """5,284 of attention, 44 of SimTier; a tower of 308 has 120,769: the authors' with one logit."""
  config = muse.Config(keep=50, recent=50, hidden=(256, 128, 64))
  learner = muse.build(config, spec(width=128, kind="vector_int8"))
  sizes = learner.schema.vocabularies
  tables = {n: jnp.zeros((sizes[t.vocabulary], t.width)) for n, t in learner.tables.items()}
  params = jax.eval_shape(learner.init, KEY, tables, learner.schema.example())["params"]
  count = {n: sum(leaf.size for leaf in jax.tree.leaves(p)) for n, p in params.items()}
  assert count["long"] + count["short_query"] + count["short_fact"] == 5284
  assert count["long_tiers"] + count["short_tiers"] == 44
  assert params["tower"]["dense_0"]["kernel"].shape == (204, 256)
  assert count["tower"] + (308 - 204) * 256 == 120_769


def test_rows_of_tables_may_be_compact(made):
  learner, variables = made
  batch = toy()
  small, rows = compact(learner, batch)
  tables = {n: t[rows[n]] for n, t in variables["tables"].items()}
  whole = jax.jit(learner.loss)(variables, batch, KEY).loss
  part = jax.jit(learner.loss)({**variables, "tables": tables}, small, KEY).loss
  np.testing.assert_allclose(part, whole, rtol=1e-5)


def test_an_encoder_makes_vectors_and_is_not_trained():
  learner, variables = compiled(encoder_channels=(3, 2), encoder_width=3)
  batch = toy()
  assert set(variables) == {"params", "tables", "encoder"}
  value = lambda e: learner.loss({**variables, "encoder": e}, batch, KEY).loss
  assert all(not np.any(x) for x in jax.tree.leaves(jax.jit(jax.grad(value))(variables["encoder"])))
  other = {**variables, "encoder": jax.tree.map(lambda x: -x, variables["encoder"])}
  score = learner.predict["score"]
  assert np.abs(score(other, batch) - score(variables, batch)).max() > 1e-4


def test_cosines_find_more_of_the_category_than_the_newest_do():
  """In G-MM: of the behaviours in the target's category, those among 20 of 100."""
  data = load({"name": "planted", "generator": "vectors", "num_train": 1, "num_test": 500})
  part, table = data.parts["test"], data.frozen["item"]
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  history, target = unit(table.values(part["hist_item"])), unit(table.values(part["target_item"]))
  nearest = np.argsort(-np.einsum("blm,bm->bl", history, target), axis=1)[:, :20]
  same = part["hist_cat"] == part["target_cat"][:, None]
  some = same.any(1)
  recall = lambda found: (found[some].sum(1) / same[some].sum(1)).mean()
  assert recall(np.take_along_axis(same, nearest, 1)) >= 3 * recall(same[:, -20:]) > 0.5


@pytest.mark.slow
def test_an_encoder_trained_as_a_stage_is_taken_as_it_is(tmp_path):
  config = read_config_file("experiments/muse.py:glyphs,tiny")
  assert train(config, tmp_path)["status"] == "finished"
  own = load_arrays(tmp_path / "export" / "variables.safetensors")["encoder"]["params"]
  stage = tmp_path / "stages" / "encoder" / "export" / "variables.safetensors"
  jax.tree.map(np.testing.assert_array_equal, own, load_arrays(stage)["params"]["encoder"])


def test_mistakes_are_named():
  build = lambda fields=None, **changes: muse.build(
    dataclasses.replace(SMALL, **changes), fields or spec()
  )
  with pytest.raises(ConfigError, match="Unknown search 'vector'. Did you mean 'vectors'"):
    build(search="vector")
  with pytest.raises(ConfigError, match="Unknown activation 'dise'"):
    build(activation="dise")
  with pytest.raises(ConfigError, match="vectors given for items, but the batch lacks 'hist_vector'"):
    build(schema())
  fields = spec()
  plain = type(fields)({n: f for n, f in fields.fields.items() if "cat" not in n}, {"item": 31})
  with pytest.raises(ConfigError, match="search='category' looks for categories"):
    build(plain, search="category", category_width=0)
  with pytest.raises(ConfigError, match="reads square pictures, but items have 5 numbers"):
    build(spec(width=5), encoder_channels=(2,))
  for changes in ({"search": "ids"}, {"tiers": 0}, {"keep": 0, "recent": 0}):
    with pytest.raises(ConfigError, match="MUSE has histograms alone: it needs tiers above 0"):
      build(item_width=0, category_width=0, **changes)
