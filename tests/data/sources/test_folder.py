"""Folders of Parquet files: exact content, and a sentence for everything that is wrong."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.load import folders_below, load
from recjax.data.sources import folder
from recjax.errors import ConfigError, DataError

EVENTS = {
  "user_id": [2, 1, 2],
  "item_id": [3, 1, 1],
  "timestamp": [1_000, 3_000, 500],
  "rating": [4.5, 3.0, 1.0],
  "is_click": [True, False, True],
  "split": ["test", "train", None],
}
ITEMS = {
  "item_id": [1, 2, 3, 5],
  "title": ["Heat", "Alien (1979)", None, "Up"],
  "year": pa.array([1995, 1979, 2000, None], pa.int32()),
  "genres": ["Crime|Drama", "Horror", "", "Animation"],
  "item_raw": ["h", "a", "n", "u"],
  "semantic_id": [[0, 1], [2, 3], [4, 5], [6, 7]],
  "attributes": [[4], [2, 1], [], None],
  "mixed": [[0], [2, 1], [], [1]],
  "price": [1.0, None, 2.0, 3.0],
}
USERS = {"user_id": [2], "gender": ["F"], "age": [30]}


def write(path, events=EVENTS, items=None, users=None, prefix=""):
  path.mkdir(parents=True, exist_ok=True)
  for name, table in (("interactions", events), ("items", items), ("users", users)):
    if table is not None:
      pq.write_table(pa.table(table), path / f"{prefix}{name}.parquet")
  return path


def read(path, **options):
  return load({"name": str(path), "cache": str(path.parent / "cache"), **options})


def test_a_file_is_read_like_a_folder(tmp_path):
  folder = read(write(tmp_path / "set", EVENTS, ITEMS))
  pq.write_table(pa.table(EVENTS), tmp_path / "taken.parquet")
  pq.write_table(pa.table(ITEMS), tmp_path / "taken_items.parquet")
  file = read(tmp_path / "taken.parquet")
  assert file.name == "taken"
  np.testing.assert_array_equal(file.item, folder.item)
  np.testing.assert_array_equal(file.items["label"], folder.items["label"])
  with pytest.raises(ConfigError, match="file_prefix is for folders; .*taken.parquet' is a file"):
    read(tmp_path / "taken.parquet", file_prefix="x_")
  with pytest.raises(DataError, match="gone.parquet does not exist"):
    load({"name": "gone.parquet", "folder": str(tmp_path), "cache": str(tmp_path)})


def test_exact_content(tmp_path):
  log = read(write(tmp_path / "set", EVENTS, ITEMS, USERS))
  assert log.name == "set"
  assert log.indptr.tolist() == [0, 0, 1, 3]
  assert log.item.tolist() == [1, 1, 3]
  assert log.time.tolist() == [2500, 0, 500]
  assert log.columns["rating"].tolist() == [3.0, 1.0, 4.5]
  assert log.columns["is_click"].tolist() == [False, True, True]
  assert log.columns["is_click"].dtype == np.bool_
  assert log.columns["split"].tolist() == [2, 0, 1]
  assert log.facts["names"]["events.split"] == ["", "test", "train"]
  items = log.items
  assert items["raw"].tolist() == ["", "h", "a", "n", "4", "u"]
  assert items["label"].tolist() == ["", "Heat (1995)", "Alien (1979)", "n", "4", "Up"]
  assert items["category"].tolist() == [0, 2, 3, 0, 0, 1]
  assert log.facts["names"]["items.category"] == ["", "Animation", "Crime", "Horror"]
  assert log.vocabularies == {"user": 3, "item": 6, "category": 4, "gender": 2}
  assert items["semantic_id"].tolist() == [[0, 0], [0, 1], [2, 3], [4, 5], [0, 0], [6, 7]]
  assert items["attributes"].tolist() == [[0, 0], [4, 0], [2, 1], [0, 0], [0, 0], [0, 0]]
  assert np.isnan(items["price"]).tolist() == [False, False, True, False, True, False]
  assert log.users["gender"].tolist() == [0, 0, 1]
  assert log.users["age"].tolist() == [0, 0, 30]
  assert log.facts["without_row"] == {"users": 1, "items": 1}
  assert log.facts["missing"] == {
    "items.title": 1, "items.year": 1, "items.attributes": 1, "items.price": 1,
  }
  assert list(log.facts["left_out"]) == ["items.mixed"]
  for column in (*items.values(), *log.users.values()):
    assert column.dtype.kind != "O"


def test_a_name_of_both_tables_is_not_coded(tmp_path):
  log = read(write(tmp_path / "set", EVENTS, {**ITEMS, "gender": [1, 2, 3, 4]}, USERS))
  assert "gender" not in log.vocabularies
  assert log.users["gender"].tolist() == ["", "", "F"]


def test_items_beyond_the_table_are_counted(tmp_path):
  events = {"user_id": [1, 1], "item_id": [7, 1], "order": [1, 0]}
  log = read(write(tmp_path / "set", events, {"item_id": [1, 2], "category_id": [9, 0]}))
  assert log.vocabularies == {"user": 2, "item": 8, "category": 3}
  assert log.items["category"].tolist() == [0, 2, 1, 0, 0, 0, 0, 0]
  assert log.item.tolist() == [1, 7] and log.time is None and log.ordered
  assert log.facts["without_row"] == {"items": 5}


def test_prefix_and_new_content(tmp_path):
  path = write(tmp_path / "set", prefix="core5_")
  with pytest.raises(DataError, match=r"set/interactions.parquet does not exist"):
    read(path)
  assert read(path, file_prefix="core5_").name == "set-core5"
  write(path, {"user_id": [1], "item_id": [1]}, prefix="core5_")
  log = read(path, file_prefix="core5_")
  assert log.num_events == 1 and not log.ordered


def test_raw_ids(tmp_path):
  events = {"user_id": ["b", "a", "b"], "item_id": [10**12, 7, 7], "timestamp": [3, 2, 1]}
  path = write(tmp_path / "set", events, {"item_id": [7], "title": ["seven"]})
  log = read(path, ids="raw")
  assert log.users["raw"].tolist() == ["", "a", "b"]
  assert log.items["label"].tolist() == ["", "seven", "1000000000000"]
  assert log.item.tolist() == [1, 1, 2]
  with pytest.raises(DataError, match=r"column 'user_id' from row 1 on holds string, but ids are"):
    read(path)
  with pytest.raises(ConfigError, match="Did you mean 'raw'"):
    read(path, ids="row")


def test_long_text_stays_compact(tmp_path, monkeypatch):
  monkeypatch.setattr(folder, "BATCH_ROWS", 2)
  text = ["x" * 3_000_000, "", None]
  events = {**EVENTS, "review": text, "code": ["b", "a", "b"]}
  log = read(write(tmp_path / "set", events, {"item_id": [1, 2, 3], "title": text}))
  assert log.items["label"].tolist() == ["", text[0], "2", "3"]
  assert sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*.*")) < 20e6
  assert log.columns["code"].tolist() == [1, 2, 2]


def test_text_of_many_values_is_left_out(tmp_path):
  count = 1100
  events = {
    "user_id": np.ones(count, np.int32),
    "item_id": np.arange(1, count + 1),
    "order": np.arange(count),
    "review": [f"review {number}" for number in range(count)],
    "few": ["yes", "no"] * (count // 2),
  }
  log = read(write(tmp_path / "set", events))
  assert list(log.columns) == ["few"]
  assert log.facts["left_out"] == {"events.review": "text with more than 1024 different values"}


BAD = [
  ({"item_id": None}, r"interactions.parquet has no column 'item_id'; its columns are user_id"),
  ({"user_id": ["a", "b", "c"]}, r"column 'user_id' from row 1 on holds string, but ids"),
  ({"user_id": [1, 0, 1]}, r"column 'user_id', row 2 holds 0, but ids start at 1"),
  ({"item_id": [1, 2, -4]}, r"column 'item_id', row 3 holds -4, but ids start at 1"),
  ({"item_id": [1, None, 3]}, r"column 'item_id', row 2 holds no value where an id is needed"),
  ({"item_id": [1.0, 2.5, 3.0]}, r"column 'item_id', row 2 holds 2.5, but an id must be a whole"),
  ({"item_id": [1, 2, 2**40]}, r"column 'item_id', row 3 holds 1099511627776, but ids end at"),
  ({"timestamp": [1.0, float("nan"), 2.0]}, r"column 'timestamp', row 2 holds nan, but a time"),
  ({"timestamp": [1, None, 2]}, r"column 'timestamp', row 2 holds no value where a time is"),
  ({"timestamp": [1.0, 1.5, 2.0]}, r"column 'timestamp', row 2 holds 1.5, but a time must be a w"),
  ({"timestamp": ["a", "b", "c"]}, r"column 'timestamp' from row 1 on holds string, but times"),
  ({"rating": [1.0, 2.0, float("inf")]}, r"column 'rating', row 3 holds inf, but numbers must be"),
  ({"rating": [1.0, None, 2.0]}, r"column 'rating', row 2 holds no value where a value is needed"),
  ({"rating": [[1], [2], [3]]}, r"column 'rating' from row 1 on holds list"),
  (dict.fromkeys(EVENTS, pa.array([], pa.int64())), r"interactions.parquet holds no rows"),
]


@pytest.mark.parametrize("change, message", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("batch", [1, 100])
def test_malformed_events(tmp_path, monkeypatch, change, message, batch):
  monkeypatch.setattr(folder, "BATCH_ROWS", batch)
  events = {name: column for name, column in {**EVENTS, **change}.items() if column is not None}
  with pytest.raises(DataError, match=message) as caught:
    read(write(tmp_path / "set", events))
  assert str(tmp_path / "set") in str(caught.value)
  assert "\n" not in str(caught.value)


def test_malformed_tables(tmp_path):
  bad_items = {
    "has no column 'item_id'": {"id": [1]},
    r"column 'item_id', row 3 holds 1, which an earlier row has": {"item_id": [1, 2, 1]},
    r"\(item table\): column 'item_id', row 1 holds 0, but ids start": {"item_id": [0, 2, 1]},
    r"row 2 holds 2000000000, too large for items": {"item_id": [1, 2_000_000_000]},
  }
  for number, (message, items) in enumerate(bad_items.items()):
    with pytest.raises(DataError, match=message):
      read(write(tmp_path / str(number), EVENTS, items))


def test_broken_files(tmp_path):
  path = write(tmp_path / "set")
  file = path / "interactions.parquet"
  whole = file.read_bytes()
  for content in (whole[: len(whole) // 2], b"", b"user_id,item_id\n1,2\n"):
    file.write_bytes(content)
    with pytest.raises(DataError, match="interactions.parquet cannot be read as Parquet"):
      read(path)
  file.write_bytes(whole[:4] + bytes(200) + whole[204:])
  with pytest.raises(DataError, match="interactions.parquet cannot be read from row 1 on"):
    read(path)
  file.unlink()
  with pytest.raises(DataError, match="interactions.parquet does not exist"):
    read(path)


def test_unknown_name_lists_folders(tmp_path):
  write(tmp_path / "beauty")
  (tmp_path / "other").mkdir()
  assert folders_below(tmp_path) == ["beauty"]
  with pytest.raises(ConfigError, match=r"Did you mean 'beauty'\? Known: beauty, .*movielens_100k"):
    load({"name": "beautty", "folder": str(tmp_path)})
  with pytest.raises(ConfigError, match=r"Did you mean 'movielens_100k'"):
    load({"name": "movielens100k", "folder": str(tmp_path)})
  log = load({"name": "beauty", "folder": str(tmp_path), "cache": str(tmp_path / "cache")})
  assert log.num_events == 3


QUICK = ("ml_100k", "kuairand_pure_part", "amazon18_office", "crs_lastfm", "amazon23_user_reviews")


def check_real(data_dir: pathlib.Path, name: str, cache: pathlib.Path):
  """Counts and order of a real set against its file, read whole."""
  log = load({"name": name, "folder": str(data_dir), "cache": str(cache), "duplicates": "keep"})
  table = pq.read_table(data_dir / name / "interactions.parquet")
  user, item = (table[key].to_numpy().astype(np.int64) for key in ("user_id", "item_id"))
  timing = [key for key in ("timestamp", "order") if key in table.column_names]
  when = table[timing[0]].to_numpy() if timing else None
  order = np.argsort(user, kind="stable") if when is None else np.lexsort((when, user))
  assert log.item.tolist() == item[order].tolist()
  assert np.diff(log.indptr).tolist() == np.bincount(user, minlength=log.num_users + 1).tolist()
  assert log.ordered == (when is not None)
  if "timestamp" in table.column_names:
    assert (log.time.astype(np.int64) + log.origin).tolist() == when[order].tolist()
  assert len(log.items["label"]) == log.num_items + 1
  for kind, size in log.vocabularies.items():
    for columns in (log.items, log.users):
      if kind in columns and columns[kind].dtype.kind == "i":
        assert 0 <= columns[kind].min() and columns[kind].max() < size


@pytest.mark.parametrize("name", QUICK)
def test_real_sets(data_dir, tmp_path, name):
  if not (data_dir / name / "interactions.parquet").exists():
    pytest.skip(f"{name} is not in the data folder")
  check_real(data_dir, name, tmp_path)


@pytest.mark.slow
def test_all_real_sets(data_dir, tmp_path):
  for name in folders_below(data_dir):
    check_real(data_dir, name, tmp_path)


def test_histories_are_columns_of_users(tmp_path):
  path = write(tmp_path / "set", EVENTS, None, USERS)
  earlier = {"user_id": [4, 2], "watched": [[3, 1], [2]], "until": [7, 8]}
  pq.write_table(pa.table(earlier), path / "histories.parquet")
  users = read(path).users
  np.testing.assert_array_equal(users["watched"], [[0, 0], [0, 0], [2, 0], [0, 0], [3, 1]])
  assert users["until"].tolist() == [0, 0, 8, 0, 7]
  assert users["age"].tolist() == [0, 0, 30, 0, 0]
  assert "watched" not in read(path, ids="raw").users
  (path / "users.parquet").unlink()
  assert read(path).users["until"].tolist() == [0, 0, 8, 0, 7]


@pytest.mark.parametrize(
  "earlier, message",
  [
    ({"user_id": [2, 2], "watched": [[1], [3]]}, "histories.parquet has a user twice"),
    ({"user_id": [2], "age": [3]}, "both have a column 'age'"),
    ({"watched": [[1]]}, "no column 'user_id'"),
  ],
)
def test_histories_that_cannot_be_read(tmp_path, earlier, message):
  path = write(tmp_path / "set", EVENTS, None, USERS)
  pq.write_table(pa.table(earlier), path / "histories.parquet")
  with pytest.raises(DataError, match=message):
    read(path)
