"""The tensorflow-datasets source on a stub builder, and without the extra."""

import sys
import types

import numpy as np
import pytest

from recjax.data.prepared import open_log, prepare
from recjax.data.sources import tfds
from recjax.errors import ConfigError, DataError

EXAMPLES = [
  {"user_id": b"9", "movie_id": b"b", "timestamp": np.int64(30), "user_rating": np.float32(4.0),
   "movie_title": b"Heat (1995)"},
  {"user_id": b"10", "movie_id": b"a", "timestamp": np.int64(20), "user_rating": np.float32(3.0),
   "movie_title": "Amélie (2001)".encode()},
  {"user_id": b"9", "movie_id": b"a", "timestamp": np.int64(10), "user_rating": np.float32(1.0),
   "movie_title": "Amélie (2001)".encode()},
]


def stub(examples=EXAMPLES):
  """A builder function that notes how it was called."""
  calls = []

  class Builder:
    info = types.SimpleNamespace(full_name="movielens/100k-ratings/0.1.1")

    def as_data_source(self, split):
      calls.append(split)
      return examples

  def builder(name, data_dir):
    calls.append((name, data_dir))
    return Builder()

  return builder, calls


CONFIG = tfds.Config("tfds", builder="movielens/100k-ratings", split="train[:3]")


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_exact_content(tmp_path, monkeypatch, batch):
  monkeypatch.setattr(tfds, "BATCH_ROWS", batch)
  builder, calls = stub()
  log = open_log(prepare(tfds.open_source(CONFIG, builder), tmp_path))
  assert calls == [("movielens/100k-ratings", ""), "train[:3]"]
  assert log.users["raw"].tolist() == ["", "9", "10"]
  assert log.items["label"].tolist() == ["", "Amélie (2001)", "Heat (1995)"]
  assert log.item.tolist() == [1, 2, 1]
  assert log.time.tolist() == [0, 20, 10]
  assert log.columns["user_rating"].tolist() == [1.0, 4.0, 3.0]
  assert log.facts["way"] == "tensorflow-datasets movielens/100k-ratings/0.1.1"


def test_malformed():
  builder, _ = stub([{**EXAMPLES[0], "user_rating": np.float32("nan")}])
  with pytest.raises(DataError, match=r"\(train\[:3\]\): column 'user_rating', row 1 holds nan"):
    list(tfds.open_source(CONFIG, builder).chunks())
  builder, _ = stub([{"user_id": 1, "movie_id": 2, "time": 3}])
  with pytest.raises(DataError, match="Unknown field 'timestamp'. Did you mean 'time'"):
    tfds.open_source(CONFIG, builder)
  with pytest.raises(ConfigError, match="builder is empty"):
    tfds.open_source(tfds.Config("tfds"), builder)


def test_missing_extra_names_the_command(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[tfds\]'"):
    tfds.open_source(CONFIG)
