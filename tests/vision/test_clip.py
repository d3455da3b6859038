"""CLIP's towers against an obvious NumPy twin that reads the published layout by itself."""

import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recjax.errors import DataError
from recjax.nn import weight_files
from recjax.vision.clip import (
  LEFT_OUT,
  VIT_B_32,
  Clip,
  Sizes,
  Stack,
  our_shapes,
  read_weights,
  sizes_of,
  tensors,
)

SIZES = Sizes(6, 3, Stack(8, 2, 2, 12), 11, 5, Stack(6, 1, 3, 10), 4)
CONFIG = {
  "projection_dim": 4,
  "vision_config": {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "image_size": 6, "patch_size": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
  },
  "text_config": {
    "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 10,
    "vocab_size": 11, "max_position_embeddings": 5,
  },
}
FOLDER = "RECJAX_CLIP"  # with config.json, model.safetensors and stored.npz


@pytest.fixture(scope="module")
def content():
  """Random tensors of a published file, with what nobody reads."""
  draw = np.random.default_rng(0).normal
  shapes = weight_files.file_shapes(tensors(SIZES), our_shapes(SIZES))
  made = {name: np.asarray(draw(0.0, 0.5, shape), np.float32) for name, shape in shapes.items()}
  return made | {name: np.arange(5)[None] for name in LEFT_OUT}


@pytest.fixture(scope="module")
def path(content, tmp_path_factory):
  path = tmp_path_factory.mktemp("clip") / "model.safetensors"
  save_file(content, path)
  return path


@pytest.fixture(scope="module")
def params(path):
  return read_weights(path, SIZES)


class Twin:
  """One picture or text in float64, from tensors by their published names."""

  def __init__(self, content):
    self.w = {name: np.float64(value) for name, value in content.items()}

  def dense(self, x, name):
    return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

  def norm(self, x, name):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

  def blocks(self, x, tower, layers, heads, causal):
    for at in (f"{tower}_model.encoder.layers.{layer}" for layer in range(layers)):
      normed = self.norm(x, f"{at}.layer_norm1")
      q, k, v = (self.dense(normed, f"{at}.self_attn.{c}_proj") for c in "qkv")
      mixed, size = np.zeros_like(x), x.shape[1] // heads
      for head in (slice(h * size, (h + 1) * size) for h in range(heads)):
        for row in range(len(x)):
          last = row + 1 if causal else len(x)
          weight = np.exp(k[:last, head] @ q[row, head] / math.sqrt(size))
          mixed[row, head] = weight / weight.sum() @ v[:last, head]
      x = x + self.dense(mixed, f"{at}.self_attn.out_proj")
      y = self.dense(self.norm(x, f"{at}.layer_norm2"), f"{at}.mlp.fc1")
      x = x + self.dense(y / (1 + np.exp(-1.702 * y)), f"{at}.mlp.fc2")
    return x

  def picture(self, pixels):
    at, kernel = "vision_model.embeddings", self.w["vision_model.embeddings.patch_embedding.weight"]
    x = [self.w[f"{at}.class_embedding"]]
    for row in (0, 3):
      for column in (0, 3):
        patch = pixels[row : row + 3, column : column + 3]
        x.append(np.einsum("dchw,hwc->d", kernel, patch))
    x = self.norm(np.stack(x) + self.w[f"{at}.position_embedding.weight"], "vision_model.pre_layrnorm")
    x = self.norm(self.blocks(x, "vision", 2, 2, False)[0], "vision_model.post_layernorm")
    return unit(self.w["visual_projection.weight"] @ x)

  def text(self, ids):
    at = "text_model.embeddings"
    x = self.w[f"{at}.token_embedding.weight"][ids]
    x = x + self.w[f"{at}.position_embedding.weight"][: len(ids)]
    x = self.norm(self.blocks(x, "text", 1, 3, True)[-1], "text_model.final_layer_norm")
    return unit(self.w["text_projection.weight"] @ x)


def unit(x):
  return x / np.linalg.norm(x)


def test_equals_the_twin_and_texts_end_where_they_end(content, params):
  pictures = np.random.default_rng(1).normal(size=(2, 6, 6, 3))
  texts = [[9, 2, 10], [9, 3, 3, 7, 10]]
  ids = np.array([[*text, *[0] * (5 - len(text))] for text in texts])
  seen, read, log_scale = jax.jit(Clip(SIZES).apply)({"params": params}, pictures, ids)
  twin = Twin(content)
  for row in range(2):
    np.testing.assert_allclose(seen[row], twin.picture(pictures[row]), atol=2e-5)
    np.testing.assert_allclose(read[row], twin.text(texts[row]), atol=2e-5)
  assert float(log_scale) == content["logit_scale"]


def test_files_are_written_as_they_were_read(content, params, tmp_path):
  weight_files.write(tmp_path / "again", params, tensors(SIZES), our_shapes(SIZES))
  again = load_file(tmp_path / "again")
  assert again.keys() == content.keys() - set(LEFT_OUT)
  for name, value in again.items():
    np.testing.assert_array_equal(value, content[name])
    assert value.shape == np.shape(content[name])


def test_every_tensor_and_every_parameter_is_used_once():
  paths = [path for tensor in tensors(SIZES) for path in tensor.paths]
  names = [tensor.name for tensor in tensors(SIZES)]
  assert sorted(paths) == sorted(our_shapes(SIZES))
  assert len(set(names)) == len(names) and not set(names) & set(LEFT_OUT)


def test_published_sizes_have_the_published_number_of_parameters():
  shapes = our_shapes(VIT_B_32)
  count = lambda *starts: sum(math.prod(s) for name, s in shapes.items() if name.startswith(starts))
  assert count("vision", "picture_projection") == 87_849_216
  assert count("text") == 63_428_096
  assert count("") == 151_277_313
  file = weight_files.file_shapes(tensors(VIT_B_32), shapes)
  assert file["vision_model.embeddings.patch_embedding.weight"] == (768, 3, 32, 32)
  assert file["text_model.embeddings.token_embedding.weight"] == (49_408, 512)
  assert file["visual_projection.weight"] == (512, 768) and file["logit_scale"] == ()


def test_sizes_from_a_config():
  assert sizes_of(CONFIG, "config.json") == SIZES
  changed = json.loads(json.dumps(CONFIG))
  changed["text_config"]["hidden_act"] = "gelu"
  with pytest.raises(DataError, match="text_config.hidden_act is 'gelu', and only 'quick_gelu' is"):
    sizes_of(changed, "a.json")
  del changed["vision_config"]["patch_size"], changed["text_config"]["vocab_size"]
  wanted = r"^a\.json lacks vision_config\.patch_size, text_config\.vocab_size\.$"
  with pytest.raises(DataError, match=wanted):
    sizes_of(changed, "a.json")
  with pytest.raises(DataError, match=r"^a\.json lacks projection_dim\.$"):
    sizes_of({key: CONFIG[key] for key in ("vision_config", "text_config")}, "a.json")


def test_a_file_of_another_network_is_refused(content, tmp_path):
  save_file({**content, "logit_bias": np.zeros(1)}, tmp_path / "model")
  with pytest.raises(DataError, match="has an unknown 'logit_bias'"):
    read_weights(tmp_path / "model", SIZES)


def test_a_bag_of_words_knows_no_order_and_no_padding():
  sizes = SIZES._replace(text=Stack(6, 0))
  pictures, ids = jnp.zeros((1, 6, 6, 3)), jnp.array([[4, 2, 0], [2, 4, 0], [0, 0, 0]])
  model = Clip(sizes)
  params = jax.jit(model.init)(jax.random.key(0), pictures, ids)["params"]
  read = model.apply({"params": params}, ids, method="encode_texts")
  np.testing.assert_allclose(read[0], read[1], atol=1e-6)
  words = np.asarray(params["text"]["word"]["embedding"])
  expected = unit((words[2] + words[4]) / 2 @ np.asarray(params["text_projection"]["kernel"]))
  np.testing.assert_allclose(read[0], expected, atol=1e-5)
  np.testing.assert_array_equal(read[2], 0)


@pytest.mark.skipif(FOLDER not in os.environ, reason=f"${FOLDER} names no folder of published weights")
def test_published_weights_give_the_stored_vectors():
  """stored.npz: pictures and ids as they enter, picture_vectors and text_vectors as they leave."""
  folder = pathlib.Path(os.environ[FOLDER])
  sizes = sizes_of(json.loads((folder / "config.json").read_text()), "config.json")
  stored = np.load(folder / "stored.npz")
  found = jax.jit(Clip(sizes).apply)(
    {"params": read_weights(folder / "model.safetensors", sizes)}, stored["pictures"], stored["ids"]
  )
  for vectors, name in zip(found, ("picture_vectors", "text_vectors"), strict=False):
    expected = stored[name] / np.linalg.norm(stored[name], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
