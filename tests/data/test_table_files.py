"""Tables of other programs: every form gives the same arrays, mistakes are named."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.table_files import read_table
from recjax.errors import DataError

USERS, ITEMS, SCORES = ["7", "7", "bo"], ["x", "ü", "x"], [1.5, -2.0, 3.0]


def written(tmp_path, form):
  file = tmp_path / f"lists{form}"
  separator = "\t" if ".tsv" in form else ","
  rows = list(zip(USERS, ITEMS, SCORES, strict=True))
  if form == ".parquet":
    pq.write_table(pa.table({"user_id": USERS, "score": SCORES, "item_id": ITEMS}), file)
  elif form == ".run":
    file.write_text("".join(f"{u} Q0 {i} 1 {s} tag\n" for u, i, s in rows))
  else:
    lines = [["item_id", "user_id", "score"], *([i, u, str(s)] for u, i, s in rows)]
    text = "\n".join(separator.join(line) for line in lines).encode()
    file.write_bytes(gzip.compress(text) if form.endswith(".gz") else text)
  return file


@pytest.mark.parametrize("form", [".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".run"])
def test_every_form_gives_the_same(tmp_path, form):
  found = read_table(written(tmp_path, form), ("user_id", "item_id"), ("score",))
  assert {name: array.tolist() for name, array in found.items()} == {
    "user_id": USERS, "item_id": ITEMS, "score": SCORES,
  }
  assert found["score"].dtype == np.float64


@pytest.mark.parametrize("gap", [" ", "\t"])
def test_judgements_of_trec(tmp_path, gap):
  file = tmp_path / "right.qrels"
  file.write_text(gap.join(["7", "0", "x", "2"]) + "\n" + gap.join(["8", "0", "y", "0"]) + "\n")
  found = read_table(file, ("user_id", "item_id"), ("relevance",), optional=("relevance",))
  assert found["user_id"].tolist() == ["7", "8"]
  assert found["relevance"].tolist() == [2.0, 0.0]


def test_numbers_as_ids_are_text_in_every_form(tmp_path):
  pq.write_table(pa.table({"user_id": [3, 20], "item_id": pa.array([1, 2], pa.int32())}),
                 tmp_path / "a.parquet")
  (tmp_path / "a.csv").write_text("user_id,item_id\n3,1\n20,2\n")
  a, b = (read_table(tmp_path / f"a.{end}", ("user_id", "item_id")) for end in ("parquet", "csv"))
  assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}


def test_optional_numbers_and_the_rest(tmp_path):
  file = tmp_path / "users.csv"
  file.write_text("user_id,gender,age\n1,F,30\n2,,40\n")
  found = read_table(file, ("user_id",), ("weight",), optional=("weight",), rest=True)
  assert set(found) == {"user_id", "gender", "age"}
  assert found["gender"].tolist() == ["F", ""]
  assert found["age"].tolist() == ["30", "40"]


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.csv", "user_id,thing\n1,2\n", "column 'item_id'"),
    ("a.csv", "user_id,item_id,item_id,score\n1,2,3,4\n", "several columns called 'item_id'"),
    ("a.csv", "user_id,item_id,score\n1,2,high\n", "column 'score', row 1 holds 'high'"),
    ("a.csv", "user_id,item_id,score\n1,2,nan\n", "column 'score'"),
    ("a.csv", "user_id,item_id,score\n1,,3\n", "empty id"),
    ("a.csv", "user_id,item_id,score\n", "has no rows"),
    ("a.csv", "", "is empty"),
    ("a.run", "1 Q0 2 1\n", "expected 6"),
    ("a.json", "{}", "ending"),
    ("a.parquet", "none", "cannot be read as Parquet"),
  ],
)
def test_mistakes_are_named(tmp_path, name, text, message):
  file = tmp_path / name
  file.write_text(text)
  with pytest.raises(DataError, match="a\\.") as caught:
    read_table(file, ("user_id", "item_id"), ("score",))
  assert message in str(caught.value)


def test_numbers_of_parquet_must_be_numbers(tmp_path):
  pq.write_table(pa.table({"user_id": ["1"], "item_id": ["2"], "score": ["3"]}), tmp_path / "a.parquet")
  with pytest.raises(DataError, match="'score' holds string"):
    read_table(tmp_path / "a.parquet", ("user_id", "item_id"), ("score",))


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(DataError, match="does not exist"):
    read_table(tmp_path / "none.csv", ("user_id",))
