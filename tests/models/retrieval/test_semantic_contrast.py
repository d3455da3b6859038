"""Contrastive encoders of items: the loss as loops, bank and momentum, the table that is written."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.config import read_config_file, to_json
from recjax.data.frozen import FrozenTable, open_frozen
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.retrieval import semantic_contrast as contrast
from recjax.serve.export import write_export
from recjax.serve.item_vectors import write_item_vectors

SMALL = contrast.Config(channels=(3,), width=2, bank=5, momentum=0.75)
PIXELS, KEY = 16, jax.random.key(0)


def spec(pixels=PIXELS, kind="vector_int8"):
  fields = {f"{n}_vector": Field(kind, (pixels,)) for n in ("first", "second")}
  return Schema({**fields, "pair_group": Field("id")}, {})


def pair(rows=3, seed=0):
  draw = np.random.default_rng(seed).integers(-100, 100, (2, rows, PIXELS)).astype(np.int8)
  group = jnp.arange(rows, dtype=jnp.int32) // 2  # 0, 0, 1
  return {
    "first_vector": jnp.asarray(draw[0]), "second_vector": jnp.asarray(draw[1]), "pair_group": group,
  }


@pytest.fixture(scope="module")
def made():
  learner = contrast.build(SMALL, spec())
  variables = jax.jit(learner.init)(KEY, {}, spec().example())
  return learner, variables, jax.jit(jax.value_and_grad(
    lambda params, variables, batch: (
      (found := learner.loss({**variables, "params": params}, batch, KEY)).loss, found
    ), has_aux=True,
  )), jax.jit(learner.predict["encode"])


def test_the_loss_as_loops_over_the_bank(made):
  learner, variables, run, encode = made
  other = jax.tree.map(lambda x: x + 0.3, variables["momentum"]["encoder"])
  bank = np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32)
  bank /= np.linalg.norm(bank, axis=1, keepdims=True)
  variables = {
    **variables, "momentum": {"encoder": other, "steps": jnp.ones(())},
    "bank": {"keys": jnp.asarray(bank), "group": jnp.array([1, 7, 0, 5, -1], jnp.int32)},
  }
  batch = pair()
  (total, objective), slopes = run(variables["params"], variables, batch)
  vectors = lambda params, rows: np.asarray(
    encode({"params": {"encoder": params}}, {"first_vector": rows}), np.float64
  )
  query = vectors(variables["params"]["encoder"], batch["first_vector"])
  keys = np.concatenate([vectors(other, batch["second_vector"]), bank[:4]])
  group = [0, 0, 1, 1, 7, 0, 5]
  expected = hits = 0.0
  for b in range(3):
    near = keys @ query[b]
    others = np.array([near[n] for n in range(7) if group[n] != group[b]])
    expected += np.log(np.exp(near[b] / 0.07) + np.exp(others / 0.07).sum()) - near[b] / 0.07
    expected += 0.5 * max(0.0, 0.2 - near[b] + others.max())
    hits += near[b] > others.max()
  assert float(total) == pytest.approx(expected, rel=1e-4)
  assert float(objective.metrics["hits"][0]) == hits and float(objective.weight) == 3
  assert all(np.any(leaf) for leaf in jax.tree.leaves(slopes))
  # The oldest keys leave; the momentum encoder moves by a half after two steps.
  after = objective.mutable
  np.testing.assert_allclose(after["bank"]["keys"], np.concatenate([keys[:3], bank[:2]]), atol=1e-5)
  assert after["bank"]["group"].tolist() == [0, 0, 1, 1, 7]
  for old, new, got in zip(*map(jax.tree.leaves, (
    other, variables["params"]["encoder"], after["momentum"]["encoder"]
  )), strict=True):
    np.testing.assert_allclose(got, 0.5 * old + 0.5 * new, atol=1e-6)


def test_the_momentum_encoder_starts_as_the_encoder_and_ends_at_its_rate(made):
  _, variables, run, _ = made
  objective = run(variables["params"], variables, pair())[0][1]
  jax.tree.map(
    np.testing.assert_array_equal, objective.mutable["momentum"]["encoder"],
    variables["params"]["encoder"],
  )
  late = {"encoder": jax.tree.map(jnp.zeros_like, variables["params"]["encoder"])}
  late |= {"steps": jnp.full((), 1e4)}
  objective = run(variables["params"], {**variables, "momentum": late}, pair())[0][1]
  for got, new in zip(*map(jax.tree.leaves, (
    objective.mutable["momentum"]["encoder"], variables["params"]["encoder"]
  )), strict=True):
    np.testing.assert_allclose(got, 0.25 * new, atol=1e-6)


def test_vectors_are_of_length_one(made):
  _, variables, _, encode = made
  np.testing.assert_allclose(np.linalg.norm(encode(variables, pair()), axis=1), 1, atol=1e-4)


def test_a_table_is_written_for_all_items(made, tmp_path):
  _, variables, _, encode = made
  config = to_json(read_config_file("experiments/muse.py:pretrain,tiny"))
  config["model"] |= dataclasses.asdict(SMALL)
  write_export(tmp_path / "run" / "export", variables, config, spec(), {})
  codes = np.concatenate([np.zeros((1, PIXELS), np.int8), np.asarray(pair(7)["first_vector"])])
  codes[3] = 0
  table = write_item_vectors(
    tmp_path / "run", FrozenTable(codes), tmp_path / "v.npy", "float32", batch_size=3
  )
  got = open_frozen(tmp_path / "v.npy", 8).codes
  assert table.width == 2 and not got[3].any()
  real = [1, 2, 4, 5, 6, 7]
  np.testing.assert_allclose(got[real], encode(variables, {"first_vector": codes[real]}), atol=1e-5)
  with pytest.raises(ConfigError, match="encodes rows of 16 int8, not of 16 float32"):
    write_item_vectors(tmp_path / "run", FrozenTable(np.zeros((2, 16), np.float32)), tmp_path / "w.npy")


def test_mistakes_are_named():
  build = lambda fields, **changes: contrast.build(dataclasses.replace(SMALL, **changes), fields)
  with pytest.raises(ConfigError, match="Contrast needs pairs, but the batch lacks 'first_vector'"):
    build(Schema({}, {}))
  with pytest.raises(ConfigError, match="reads square pictures, but items have 15 numbers"):
    build(spec(15))
  with pytest.raises(ConfigError, match="model.channels must not be empty"):
    build(spec(), channels=())
