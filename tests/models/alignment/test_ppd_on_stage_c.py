"""PPD on Stable Cascade's network, by name: weights from a file, its text and sites, blank captions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stage_c_twin as twin
from safetensors.numpy import save_file

from recjax.config import experiment, resolve
from recjax.data.schema import Field, Schema
from recjax.diffusion import stage_c_host
from recjax.diffusion.stage_c import build_stage_c
from recjax.diffusion.stage_c_weights import read_weights
from recjax.errors import ConfigError, DataError
from recjax.models.alignment import ppd

ROWS, TEXT = 4, 20
HOST = stage_c_host.Config(
  width=64, condition_width=32, heads=4, down=(1, 1), up=(1, 1), text_width=TEXT, image_width=12, side=4
)
PLAIN = ppd.Config(strength=32.0, token_dropout=0.0, user_dropout=0.0, blank_prompt=0.0, null="zero")


def schema(**changes):
  latent = Field("vector", (4, 4, 16))
  fields = {
    "winner": latent, "loser": latent, "user_id": Field("id", (), "user"),
    "text_text": Field("vector", (3, TEXT)), "text_pooled": Field("vector", (TEXT,)),
    "user_token": Field("vector", (5, 7)), "user_mask": Field("mask", (5,)), **changes,
  }
  return Schema(fields, {"user": 3})


def a_batch():
  rng = np.random.default_rng(0)
  make = lambda field: rng.standard_normal((ROWS, *field.shape)).astype(np.float32)
  batch = {name: make(field) for name, field in schema().fields.items()}
  batch |= {"user_id": np.ones(ROWS, np.int32), "user_mask": np.ones((ROWS, 5), bool)}
  return {name: jnp.asarray(x) for name, x in batch.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Weights and the empty caption."""
  folder = tmp_path_factory.mktemp("stage_c")
  shapes = twin.shapes(64, 32, (1, 1), (1, 1), text=TEXT, image=12)
  save_file(twin.random_tensors(0, shapes), folder / "weights.safetensors")
  rng = np.random.default_rng(1)
  np.savez(folder / "empty.npz", text=rng.standard_normal((3, TEXT)), pooled=np.ones(TEXT))
  return {"weights": str(folder / "weights.safetensors"), "empty": str(folder / "empty.npz")}


def test_a_config_names_it():
  config = resolve(experiment(
    "x", data={"name": "tastes"}, view={"name": "sample_pairs"}, evaluate={"personal_samples": {}},
    model={"name": "ppd", "host": {"name": "stage_c", "width": 64, "dtype": "bfloat16"}},
  ))
  assert config.model.host == stage_c_host.Config(width=64, dtype="bfloat16")


def test_branch_and_loss_on_weights_of_a_file(files):
  host = dataclasses.replace(HOST, **files)
  learner = ppd.build(dataclasses.replace(PLAIN, host=host), schema())
  batch = a_batch()
  variables = jax.device_get(jax.jit(lambda key: learner.init(key, {}, batch))(jax.random.key(0)))
  stored = read_weights(files["weights"], HOST)
  jax.tree.map(np.testing.assert_array_equal, variables["host"], stored)
  assert {name.rsplit("_", 1)[0] for name in variables["params"]["branch"]} == set(
    build_stage_c(HOST).sites
  )

  @jax.jit
  def run(variables):
    value = lambda params: learner.loss({**variables, "params": params}, batch, jax.random.key(0)).loss
    extra = learner.predict["encode_user"](variables, batch)
    halves = (extra._replace(scale=0.5), extra._replace(scale=0.5))
    noise = jax.random.normal(jax.random.key(1), batch["winner"].shape)
    how = {"steps": 2, "text_scale": 2.0, "user_scale": 4.0}
    make = learner.predict["generate"]
    made = [make(variables, batch, noise, added, **how) for added in (extra, halves)]
    return *jax.value_and_grad(value)(variables["params"]), made

  loss, slope, _ = run(variables)
  assert float(loss) == pytest.approx(ROWS * np.log(2), abs=1e-5)
  moved = {n.rsplit("_", 1)[1] for n, x in slope["branch"].items() if np.abs(x["kernel"]).max() > 0}
  assert moved == {"value"}  # keys have no effect while values are zero
  stirred = jax.tree.map(lambda x: x + 0.1, variables["params"])
  loss, slope, (whole, halves) = run({**variables, "params": stirred})
  assert abs(float(loss) - ROWS * np.log(2)) > 1e-3
  assert all(np.abs(x["kernel"]).max() > 0 for x in slope["branch"].values())
  np.testing.assert_allclose(whole, halves, rtol=1e-3, atol=1e-3)  # two halves of a user are the user


def test_random_weights_of_a_type():
  host = stage_c_host.build(dataclasses.replace(HOST, param_dtype="bfloat16"), (4, 4, 16), {})
  shapes = jax.eval_shape(host.init, jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}


def test_without_the_empty_caption_prompts_cannot_be_blank(files):
  host = dataclasses.replace(HOST, weights=files["weights"])
  learner = ppd.build(dataclasses.replace(PLAIN, host=host, blank_prompt=0.1), schema())
  with pytest.raises(ConfigError, match="no blank text"):
    shapes = jax.eval_shape(lambda key: learner.init(key, {}, a_batch()), jax.random.key(0))
    jax.eval_shape(learner.loss, shapes, a_batch(), jax.random.key(0))


def test_sizes_and_files_that_do_not_fit(files, tmp_path):
  build = lambda host, **changes: ppd.build(dataclasses.replace(PLAIN, host=host), schema(**changes))
  wide = Field("vector", (4, 4, 3))
  with pytest.raises(ConfigError, match=r"denoises \(4, 4, 16\), not samples of \(4, 4, 3\)"):
    build(HOST, winner=wide, loser=wide)
  with pytest.raises(ConfigError, match=r"reads pooled of width 20, not \(7,\)"):
    build(HOST, text_pooled=Field("vector", (7,)))
  np.savez(tmp_path / "empty.npz", text=np.ones((3, TEXT)))
  with pytest.raises(DataError, match=r"empty.npz does not give text and pooled"):
    build(dataclasses.replace(HOST, empty=str(tmp_path / "empty.npz")))
  (tmp_path / "torn.npz").write_bytes((tmp_path / "empty.npz").read_bytes()[:100])
  with pytest.raises(DataError, match=r"torn.npz does not give text and pooled"):
    build(dataclasses.replace(HOST, empty=str(tmp_path / "torn.npz")))
  np.savez(tmp_path / "flat.npz", text=np.ones(TEXT), pooled=np.ones(TEXT))
  with pytest.raises(DataError, match=r"text has shape \(20,\), not 2 axes"):
    build(dataclasses.replace(HOST, empty=str(tmp_path / "flat.npz")))
  absent = build(dataclasses.replace(HOST, weights=str(tmp_path / "absent.safetensors")))
  with pytest.raises(DataError, match="absent.safetensors cannot be read"):
    absent.init(jax.random.key(0), {}, a_batch())
  other = build(dataclasses.replace(HOST, weights=files["weights"], down=(1, 2)))
  with pytest.raises(DataError, match="weights.safetensors lacks"):
    other.init(jax.random.key(0), {}, a_batch())
