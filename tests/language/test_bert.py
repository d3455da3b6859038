"""BERT's encoder against an obvious NumPy twin that reads the published layout by itself."""

import json
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from recjax.errors import DataError
from recjax.language.bert import LEFT_OUT, Bert, Sizes, our_shapes, read_weights, sizes_of, tensors
from recjax.nn import weight_files

SIZES = Sizes(vocabulary=11, width=8, layers=2, heads=2, hidden=12, positions=6)
CONFIG = {
  "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
  "intermediate_size": 12, "max_position_embeddings": 6, "type_vocab_size": 2,
  "layer_norm_eps": 1e-12, "hidden_act": "gelu", "model_type": "bert",
}


@pytest.fixture(scope="module")
def content():
  """Random tensors of a published file, with what nobody reads."""
  draw = np.random.default_rng(0).normal
  shapes = weight_files.file_shapes(tensors(SIZES), our_shapes(SIZES))
  made = {name: draw(0.0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
  return made | {
    "embeddings.position_ids": np.arange(6)[None],
    "pooler.dense.weight": np.zeros((8, 8), np.float32),
    "pooler.dense.bias": np.zeros(8, np.float32),
  }


@pytest.fixture(scope="module")
def params(content, tmp_path_factory):
  path = tmp_path_factory.mktemp("bert") / "model.safetensors"
  save_file(content, path)
  return read_weights(path, SIZES)


def twin(content, ids):
  """States [L, 8] of one text of token ids [L], in float64."""
  weights = {name: value.astype(np.float64) for name, value in content.items()}

  def dense(x, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

  def norm(x, name):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

  x = np.stack([
    weights["embeddings.word_embeddings.weight"][token]
    + weights["embeddings.position_embeddings.weight"][place]
    + weights["embeddings.token_type_embeddings.weight"][0]
    for place, token in enumerate(ids)
  ])
  x = norm(x, "embeddings.LayerNorm")
  for layer in range(2):
    at = f"encoder.layer.{layer}"
    q, k, v = (dense(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
    mixed = np.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
      for row in range(len(ids)):
        weight = np.exp(k[:, head] @ q[row, head] / 2.0)
        mixed[row, head] = weight / weight.sum() @ v[:, head]
    x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
    y = dense(x, f"{at}.intermediate.dense")
    y = np.vectorize(lambda z: 0.5 * z * (1.0 + math.erf(z / math.sqrt(2.0))))(y)
    x = norm(x + dense(y, f"{at}.output.dense"), f"{at}.output.LayerNorm")
  return x


def test_equals_the_twin_and_does_not_see_padding(content, params):
  texts = [[1, 5, 2], [3, 3, 7, 10, 4, 9]]
  ids, mask = np.full((2, 6), 8), np.zeros((2, 6), np.bool_)
  for row, text in enumerate(texts):
    ids[row, : len(text)], mask[row, : len(text)] = text, True
  states = jax.jit(Bert(SIZES).apply)({"params": params}, ids, mask)
  for row, text in enumerate(texts):
    np.testing.assert_allclose(states[row, : len(text)], twin(content, text), atol=2e-5)


def test_every_parameter_is_in_one_tensor():
  paths = [path for tensor in tensors(SIZES) for path in tensor.paths]
  assert sorted(paths) == sorted(our_shapes(SIZES))
  assert not {tensor.name for tensor in tensors(SIZES)} & set(LEFT_OUT)


def test_published_sizes_have_the_published_number_of_parameters():
  sizes = Sizes(30522, 384, 6, 12, 1536, 512)
  count = sum(math.prod(shape) for shape in our_shapes(sizes).values())
  assert count == 22_713_216 - (384 * 384 + 384)  # all-MiniLM-L6-v2 without its pooler


def test_sizes_from_a_config():
  assert sizes_of(CONFIG, "config.json") == SIZES
  with pytest.raises(DataError, match=r"^a\.json: hidden_act is 'relu', and only 'gelu' is known\.$"):
    sizes_of(CONFIG | {"hidden_act": "relu"}, "a.json")
  with pytest.raises(DataError, match=r"^a\.json lacks hidden_size, type_vocab_size\.$"):
    sizes_of({k: v for k, v in CONFIG.items() if k not in ("hidden_size", "type_vocab_size")}, "a.json")


def test_a_file_of_another_network_is_refused(content, tmp_path):
  save_file({**content, "encoder.layer.2.output.dense.bias": np.zeros(8)}, tmp_path / "model")
  with pytest.raises(DataError, match="has an unknown 'encoder.layer.2.output.dense.bias'"):
    read_weights(tmp_path / "model", SIZES)


def test_gradients_reach_every_weight(params):
  ids, mask = np.array([[1, 5, 2]]), np.ones((1, 3), np.bool_)

  def total(params):
    return (Bert(SIZES).apply({"params": params}, ids, mask) ** 3).sum()

  flat = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(total))(params))
  # A bias of keys moves all scores of a query alike.
  dead = [jax.tree_util.keystr(path) for path, leaf in flat if not np.abs(leaf).max() > 1e-6]
  assert json.dumps(dead).count("key") == len(dead) == 2
