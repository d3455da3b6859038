"""Stage C: its layers and the whole against NumPy, the user branch, precision, memory, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stage_c_twin as twin
from safetensors.numpy import save_file

from recjax.diffusion.samplers import from_noise, sample
from recjax.diffusion.schedules import Cosine
from recjax.diffusion.stage_c import Config, build_stage_c, embed_time, seen_time, sites
from recjax.diffusion.stage_c_blocks import Attention, Convolution, Time
from recjax.diffusion.stage_c_weights import read_weights
from recjax.errors import ConfigError
from recjax.nn.decoupled_attention import Extra

TINY = Config(
  width=32, condition_width=24, heads=4, down=(1, 2), up=(2, 1), text_width=20, image_width=12, side=5
)
SMALL = dataclasses.replace(TINY, down=(1, 1), up=(1, 1))  # the first blocks of TINY
SHAPES = twin.shapes(32, 24, (1, 2), (2, 1), text=20, image=12)
TIMES = np.float32([0.125, 0.75])
# At these sizes compiling is all that takes time.
jit = functools.partial(jax.jit, compiler_options={
  "xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True,
})


@pytest.fixture(scope="module")
def tensors():
  """A file's content by name."""
  return twin.random_tensors(0, SHAPES)


@pytest.fixture(scope="module")
def params(tensors, tmp_path_factory):
  """The same as parameters."""
  path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
  save_file(tensors, path)
  return read_weights(path, TINY)


@pytest.fixture(scope="module")
def case():
  """Two latents with their text, and user tokens of three, of which the second user has two."""
  draw = np.random.default_rng(1)
  normal = lambda *shape: draw.standard_normal(shape, np.float32)
  text = {"text": normal(2, 7, 20), "pooled": normal(2, 20), "image": normal(2, 12)}
  key, value = normal(2, 3, 32), normal(2, 3, 32)
  mask = np.array([[True, True, True], [True, True, False]])
  branch = Extra(dict.fromkeys(sites(TINY), key), dict.fromkeys(sites(TINY), value), mask)
  return normal(2, 5, 5, 16), text, branch


def at_sites_of(config, branch):
  pick = lambda tree: {site: tree[site] for site in sites(config)}
  return branch._replace(key=pick(branch.key), value=pick(branch.value))


@pytest.fixture(scope="module")
def predict(params):
  """The tiny network: (noised, text, extra or None) -> noise."""
  run = jit(build_stage_c(TINY).predict_noise)
  return lambda noised, text, extra=None: run(params, noised, TIMES, text, extra)


def without_image(text):
  return {name: text[name] for name in ("text", "pooled")}


def zero_image(text):
  return {**text, "image": np.zeros((2, 12), np.float32)}


@pytest.mark.parametrize("at, ours, skips", [
  ("down_blocks.1.3", "down_1_1", False), ("up_blocks.1.0", "up_1_0", True),
])
def test_convolution(tensors, params, at, ours, skips):
  x, skip = np.random.default_rng(2).standard_normal((2, 2, 5, 4, 32), np.float32)
  skip = skip if skips else None
  layer = Convolution(3, jnp.float32)
  got = layer.apply({"params": params[ours]["convolution"]}, x, skip)
  np.testing.assert_allclose(got, twin.convolution(tensors, at, x, skip), atol=1e-4)


def test_time(tensors, params):
  x = np.random.default_rng(2).standard_normal((2, 5, 4, 32), np.float32)
  embeddings = [embed_time(t, 64) for t in (jnp.asarray(TIMES), jnp.zeros(2), jnp.zeros(2))]
  layer = Time(("time", "sca", "crp"), jnp.float32)
  got = layer.apply({"params": params["up_0_1"]["time"]}, x, embeddings)
  np.testing.assert_allclose(got, twin.timestep(tensors, "up_blocks.0.4", x, TIMES), atol=1e-4)


def test_attention_with_and_without_a_user(tensors, params, case):
  draw = np.random.default_rng(2)
  x, clip = (draw.standard_normal(shape, np.float32) for shape in ((2, 5, 4, 32), (2, 9, 24)))
  layer, at = Attention(4, "here", jnp.float32), "down_blocks.1.2"
  run = lambda extra: layer.apply({"params": params["down_1_0"]["attention"]}, x, clip, extra)
  np.testing.assert_allclose(run(None), twin.attention(tensors, at, x, clip, 4), atol=1e-4)
  user = (case[2].key["up_0_0"], case[2].value["up_0_0"])
  extra = Extra({"here": user[0]}, {"here": user[1]}, np.ones((2, 3), bool))
  np.testing.assert_allclose(run(extra), twin.attention(tensors, at, x, clip, 4, user), atol=1e-4)


def test_the_whole_network(tensors, predict, case):
  noised, text, branch = case
  apart = lambda text, **kwargs: twin.network(
    tensors, noised, TIMES, text["text"], text["pooled"], text["image"], 4, **kwargs
  )
  # No image is an image of zeros.
  base = apart(zero_image(text))
  assert base.std() > 0.5
  np.testing.assert_allclose(predict(noised, without_image(text)), base, atol=1e-4)
  user = (branch.key["up_0_0"], branch.value["up_0_0"])
  expected = apart(text, user=user)
  assert np.abs(expected - apart(text)).max() > 0.1 and np.abs(base - apart(text)).max() > 0.01
  everyone = branch._replace(mask=np.ones((2, 3), bool))
  np.testing.assert_allclose(predict(noised, text, everyone), expected, atol=1e-4)


def test_a_branch_of_zero_values_or_no_tokens_is_the_base_to_the_bit(predict, case):
  noised, text, branch = case
  base, text = predict(noised, without_image(text)), zero_image(text)
  silent = branch._replace(value={site: 0 * value for site, value in branch.value.items()})
  np.testing.assert_array_equal(predict(noised, text, silent), base)
  nobody = branch._replace(mask=np.zeros((2, 3), bool))
  np.testing.assert_array_equal(predict(noised, text, nobody), base)
  got = predict(noised, text, branch._replace(mask=np.array([[True] * 3, [False] * 3])))
  np.testing.assert_array_equal(got[1], base[1])
  assert np.abs(got[0] - base[0]).max() > 0.1


def test_one_site_with_two_tokens_is_all_sites_with_the_rest_silent(predict, case):
  noised, text, branch = case
  site = "up_1_0"
  one = Extra({site: branch.key[site][:, :2]}, {site: branch.value[site][:, :2]}, np.ones((2, 2), bool))
  silent = {name: value * (name == site) for name, value in branch.value.items()}
  short = branch._replace(mask=np.array([[True, True, False]] * 2))
  got = predict(noised, text, one)
  np.testing.assert_allclose(got, predict(noised, text, short._replace(value=silent)), atol=1e-5)
  assert np.abs(got - predict(noised, text, short)).max() > 0.01


def test_gradients_reach_every_site_and_rematerialising_changes_nothing(params, case):
  noised, text, branch = *case[:2], at_sites_of(SMALL, case[2])

  def gradient(remat):
    host = build_stage_c(dataclasses.replace(SMALL, remat=remat))

    def loss(value):
      extra = branch._replace(value=value)
      return jnp.mean(host.predict_noise(params, noised, TIMES, text, extra) ** 2)

    return jit(jax.value_and_grad(loss))(branch.value)

  loss, kept = gradient(False)
  again, remade = gradient(True)
  np.testing.assert_allclose(again, loss, rtol=1e-5)
  for site in sites(SMALL):
    assert np.abs(kept[site]).max() > 1e-6
    np.testing.assert_allclose(remade[site], kept[site], atol=1e-6)


def test_bfloat16_stays_near_and_returns_float32(params, case, predict):
  noised, text, branch = case
  half = build_stage_c(dataclasses.replace(TINY, dtype="bfloat16"))
  small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  got = jit(half.predict_noise)(small, noised, TIMES, text, branch)
  expected = predict(noised, text, branch)
  assert got.dtype == jnp.float32
  assert np.abs(got - expected).mean() < 0.05 * np.abs(expected).mean()


def test_initial_parameters_predict_zero_and_do_not_depend_on_remat():
  host, other = (build_stage_c(dataclasses.replace(SMALL, remat=remat)) for remat in (False, True))
  shapes = jax.eval_shape(host.init, jax.random.key(0))
  assert shapes == jax.eval_shape(other.init, jax.random.key(0))

  @jit
  def some(key):
    params = host.init(key)
    return params["noise"], params["up_1_0"]["attention"]

  noise, attention = some(jax.random.key(0))
  assert not noise["kernel"].any() and not noise["bias"].any()
  # Uniform within the bound sqrt(6 / (in + out)), with the whole query-key-value matrix for theirs.
  for name, bound in (("query", np.sqrt(6 / 128)), ("output", np.sqrt(6 / 64))):
    largest = np.abs(attention[name]["kernel"]).max()
    assert 0.95 * bound < largest <= bound


def test_time_embedding_and_the_time_that_is_seen():
  got = embed_time(jnp.array([0.0, 0.03]), 64)
  np.testing.assert_array_equal(got[0], [0.0] * 32 + [1.0] * 32)
  np.testing.assert_allclose(got[1, [0, 31]], np.sin([300.0, 0.03]), atol=1e-4)
  np.testing.assert_allclose(got[1, [32, 63]], np.cos([300.0, 0.03]), atol=1e-4)
  # The way of the authors' code: the angle whose squared cosine is the clipped signal.
  schedule, times = Cosine(), np.float32([0.0, 1e-3, 0.02, 0.25, 0.5, 0.99, 0.999, 1.0])
  signal = 1 / (1 + np.exp(-np.float64(schedule.log_snr(times))))
  angle = np.arccos(np.sqrt(signal) * np.cos(0.008 / 1.008 * np.pi / 2))
  seen = seen_time(schedule, jnp.asarray(times))
  np.testing.assert_allclose(seen, angle / (np.pi / 2) * 1.008 - 0.008, atol=2e-5)
  assert seen[-1] == seen[-2] and abs(seen[-1] - 0.993583) < 1e-5 and 0 < seen[0] < 0.003


def test_it_samples_as_a_host(params, case):
  host = build_stage_c(SMALL)
  noised, text, branch = *case[:2], at_sites_of(SMALL, case[2])
  denoise = from_noise(lambda x, t: host.predict_noise(params, x, t, text, branch), host.schedule)
  result = jit(lambda x: sample(denoise, x, host.schedule, host.schedule.path(2)))(noised)
  assert host.shape == (5, 5, 16) and result.shape == noised.shape and np.isfinite(result).all()
  assert dict(host.sites) == dict.fromkeys(sites(SMALL), 32)
  assert sites(TINY) == ["down_0_0", "down_1_0", "down_1_1", "up_0_0", "up_0_1", "up_1_0"]


def test_blank_is_the_empty_caption_without_an_image(case):
  text = case[1]
  empty = {"text": np.full((7, 20), 2.0), "pooled": np.full(20, 3.0)}
  blank = build_stage_c(TINY, empty).blank(text)
  assert {name: value.shape for name, value in blank.items()} == {n: v.shape for n, v in text.items()}
  assert (blank["text"] == 2).all() and (blank["pooled"] == 3).all() and not blank["image"].any()
  assert "image" not in build_stage_c(TINY, empty).blank(without_image(text))
  with pytest.raises(ConfigError, match="build it with the text of the empty caption"):
    build_stage_c(TINY).blank(text)


@pytest.mark.parametrize("changes, message", [
  ({"heads": 5}, "5 heads do not divide a width of 32"),
  ({"down": (0, 1)}, r"two levels with blocks, not down=\(0, 1\)"),
  ({"up": (1, 1, 1)}, r"two levels with blocks, .* up=\(1, 1, 1\)"),
  ({"time_width": 7}, "even width from 4, not 7"),
])
def test_sizes_that_cannot_work(changes, message):
  with pytest.raises(ConfigError, match=message):
    build_stage_c(dataclasses.replace(TINY, **changes))


def test_text_of_other_parts(params, case):
  noised, text, _ = case
  with pytest.raises(ConfigError, match="reads text and pooled, .* not pooled"):
    build_stage_c(TINY).predict_noise(params, noised, TIMES, {"pooled": text["pooled"]})


def test_a_branch_at_a_site_that_is_not_there(params, case):
  noised, text, branch = case
  with pytest.raises(ConfigError, match="no site 'down_1_1'; see `sites`"):
    build_stage_c(SMALL).predict_noise(
      params, noised, TIMES, text, branch._replace(value=dict.fromkeys(sites(SMALL), 0))
    )
