"""Vectors of items from a folder of data: rows, texts, and messages."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.config import resolve
from recjax.data.frozen import FrozenTable
from recjax.errors import ConfigError
from recjax.language.sentence_encoder import SentenceEncoder
from recjax.programs import encode as program
from recjax.programs.encode import encode, texts_of


@pytest.fixture
def folder(tmp_path):
  """Items 7, 30 and 12; of 12 there is no row, of 30 no brand."""
  made = tmp_path / "shop"
  made.mkdir()
  pq.write_table(pa.table({"user_id": [1, 1, 2, 2], "item_id": [30, 7, 12, 30]}),
                 made / "interactions.parquet")
  pq.write_table(pa.table({
    "item_id": [7, 30], "title": ["red shoe", "hat\nof wool"], "brand": ["Ann", None], "price": [1, 2],
  }), made / "items.parquet")
  return made


@pytest.fixture
def letters(monkeypatch):
  """An encoder that counts letters, so that a row tells its text."""

  def embed(ids, mask):
    return np.stack([mask.sum(-1), (ids * mask).sum(-1)], -1).astype(np.float32)

  tokenize = lambda texts: [[ord(letter) for letter in text] for text in texts]
  encoder = SentenceEncoder(2, tokenize, embed, "letters")
  monkeypatch.setattr(program, "load_encoder", lambda folder: encoder)


def settings(folder: pathlib.Path, **more):
  return resolve({
    "program": "encode", "name": "vectors",
    "data": {"name": f"{folder}", "cache": f"{folder / 'cache'}", "ids": "raw"}, **more,
  })


def test_rows_follow_the_items_of_the_data(folder, letters, tmp_path):
  table = encode(settings(folder, columns=("title", "brand"), dtype="float32"), tmp_path / "made")
  ids = (tmp_path / "made" / "items.txt").read_text().split("\n")[:-1]
  assert sorted(ids) == ["12", "30", "7"] and isinstance(table, FrozenTable)
  expected = {"7": "red shoe. Ann", "30": "hat\nof wool", "12": ""}
  assert table.codes.shape == (4, 2) and not table.codes[0].any()
  for row, raw in enumerate(ids, start=1):
    text = expected[raw]
    assert table.codes[row].tolist() == [len(text), sum(map(ord, text))]


def test_texts_and_what_is_no_text():
  items = {"raw": np.array(["", "a"]), "title": np.array(["", " "]), "price": np.array([0, 3])}
  assert texts_of(items, ("title", "raw")) == ["a"]
  with pytest.raises(ConfigError, match=r"text of items in config\.columns 'price'.*title, raw"):
    texts_of(items, ("price",))


@pytest.mark.parametrize("more, message", [
  ({"dtype": "float61"}, "Did you mean 'float16'"),
  ({"columns": ()}, "config.columns names the columns of items"),
  ({"data": {"name": "planted", "generator": "vectors"}}, "'planted' is a table of examples"),
])
def test_mistakes(folder, letters, tmp_path, more, message):
  with pytest.raises(ConfigError, match=message):
    encode(settings(folder, **more), tmp_path / "made")
