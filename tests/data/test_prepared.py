"""Preparation against exact small cases and a plain-Python twin; interruption; damage."""

import dataclasses
import json
import multiprocessing
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.data import preparation
from recjax.data.prepared import open_log, prepare
from recjax.data.sources.base import Chunk, Source
from recjax.errors import DataError


def source_of(rows, timing="time", chunk=2, numbered=True, **more):
  """A source of (user, item, when, value) rows in chunks of the given size."""

  def chunks():
    for at in range(0, len(rows), chunk):
      user, item, when, value = zip(*rows[at : at + chunk], strict=True)
      times = None if timing == "none" else np.array(when, np.int64)
      yield Chunk(np.array(user), np.array(item), times, {"value": np.array(value, np.int16)})

  return Source("hand", f"{rows}{timing}", chunks, timing, numbered, place="hand.parquet", **more)


ROWS = [
  (3, 5, 30, 0),
  (1, 2, 20, 1),
  (3, 1, 10, 2),
  (1, 4, 10, 3),
  (3, 2, 30, 4),  # same time as the first row: stays behind it
  (1, 2, 20, 5),  # repeats row 1
  (1, 2, 21, 6),
]


def test_hand_log(tmp_path, capsys):
  log = open_log(prepare(source_of(ROWS), tmp_path, rows=3))
  assert log.indptr.tolist() == [0, 0, 3, 3, 6]
  assert log.item.tolist() == [4, 2, 2, 1, 5, 2]
  assert log.time.tolist() == [0, 10, 11, 0, 20, 20]
  assert log.columns["value"].tolist() == [3, 1, 6, 2, 0, 4]
  assert log.origin == 10 and log.ordered
  assert log.vocabularies == {"user": 4, "item": 6}
  assert log.items["raw"].tolist() == log.items["label"].tolist() == ["", "1", "2", "3", "4", "5"]
  assert log.users["raw"].tolist() == ["", "1", "2", "3"]
  assert (log.indptr.dtype, log.item.dtype, log.time.dtype) == (np.int64, np.int32, np.int32)
  assert log.columns["value"].dtype == np.int16
  assert log.facts["cleaned"] == {"repeated_events": 1}
  assert isinstance(log.item, np.memmap)
  said = capsys.readouterr().out
  assert said.count("\n") == 1 and "1 repeated events" in said and "peak memory" in said


def test_preparing_again_reads_nothing(tmp_path, capsys):
  source = source_of(ROWS)
  path = prepare(source, tmp_path)
  capsys.readouterr()

  def fail():
    raise AssertionError("read again")

  assert prepare(dataclasses.replace(source, chunks=fail), tmp_path) == path
  assert capsys.readouterr().out == ""
  assert prepare(source, tmp_path, core=1) != path
  assert prepare(source, tmp_path, duplicates="keep") != path
  assert not list(path.parent.glob("*.work"))


def test_duplicates_kept_and_refused(tmp_path):
  kept = open_log(prepare(source_of(ROWS), tmp_path, duplicates="keep"))
  assert kept.item.tolist() == [4, 2, 2, 2, 1, 5, 2]
  assert kept.columns["value"].tolist() == [3, 1, 5, 6, 2, 0, 4]
  with pytest.raises(DataError, match=r"hand.parquet: event 3 of user number 1's history repeats"):
    prepare(source_of(ROWS), tmp_path, duplicates="error")


def test_without_time_rows_stay_in_file_order(tmp_path):
  log = open_log(prepare(source_of(ROWS, timing="none"), tmp_path))
  assert log.time is None and not log.ordered and log.origin == 0
  assert log.item.tolist() == [2, 4, 5, 1, 2]
  assert log.facts["cleaned"] == {"repeated_events": 2}


def test_order_sorts_but_is_no_time(tmp_path):
  log = open_log(prepare(source_of(ROWS, timing="order"), tmp_path))
  assert log.time is None and log.ordered
  assert log.item.tolist() == [4, 2, 2, 1, 5, 2]


def test_core_renumbers(tmp_path):
  rows = [(u, i, t, 0) for t, (u, i) in enumerate([(1, 1), (2, 2), (2, 4), (4, 2), (4, 4), (4, 3)])]
  items = {"item_id": [4, 2, 1], "title": ["four", "two", "one"], "genres": ["b", "a", ""]}
  log = open_log(prepare(source_of(rows, items=lambda: pa.table(items)), tmp_path, core=2))
  assert log.users["raw"].tolist() == ["", "2", "4"]
  assert log.items["raw"].tolist() == ["", "2", "4"]
  assert log.items["label"].tolist() == ["", "two", "four"]
  assert log.items["category"].tolist() == [0, 1, 2]
  assert log.indptr.tolist() == [0, 0, 2, 4]
  assert log.item.tolist() == [1, 2, 1, 2]
  assert log.vocabularies == {"user": 3, "item": 3, "category": 3}
  assert log.facts["cleaned"] == {
    "repeated_events": 0,
    "events_outside_core": 2,
    "users_outside_core": 2,
    "items_outside_core": 2,
  }
  with pytest.raises(DataError, match=r"no user is left with 3 events"):
    prepare(source_of(rows), tmp_path, core=3)


def test_raw_ids_are_numbered_in_sorted_order(tmp_path):
  rows = [("zoe", "10", 3, 0), ("Ada", "9", 2, 1), ("zoe", "9", 1, 2)]
  items = pa.table({"item_id": ["9", "8"], "title": ["nine", "eight"]})
  log = open_log(
    prepare(source_of(rows, chunk=1, numbered=False, items=lambda: items), tmp_path)
  )
  assert log.users["raw"].tolist() == ["", "Ada", "zoe"]
  assert log.items["raw"].tolist() == ["", "8", "9", "10"]
  assert log.items["label"].tolist() == ["", "eight", "nine", "10"]
  assert log.indptr.tolist() == [0, 0, 1, 3]
  assert log.item.tolist() == [2, 2, 3]
  assert log.facts["without_row"] == {"items": 1}


def test_most_popular_items_stay_and_only_users_go(tmp_path):
  pairs = [(1, 5), (1, 6), (1, 7), (2, 5), (2, 6), (3, 5), (3, 7), (3, 8)]
  rows = [(user, item, when, 0) for when, (user, item) in enumerate(pairs)]
  path = prepare(source_of(rows), tmp_path, core=2, most_popular=2)
  log = open_log(path)  # item 5 has 3 events; of 6 and 7 with 2 each, 6 is kept
  assert log.items["raw"].tolist() == ["", "5", "6"]
  assert log.users["raw"].tolist() == ["", "1", "2"]
  assert np.asarray(log.item).tolist() == [1, 2, 1, 2]
  assert path != prepare(source_of(rows), tmp_path, core=2)


def twin(rows, timing, core, duplicates):
  """What preparation must give, in plain Python: (indptr, item, when, value, cleaned rows)."""
  when = (lambda row: 0) if timing == "none" else (lambda row: row[2])
  users, items = max(r[0] for r in rows), max(r[1] for r in rows)
  logs = {u: sorted((r for r in rows if r[0] == u), key=when) for u in range(1, users + 1)}
  for user, log in logs.items():
    if duplicates == "drop":
      first = {}
      for row in log:
        first.setdefault((row[1], when(row)), row)
      logs[user] = list(first.values())
  repeated = len(rows) - sum(map(len, logs.values()))
  item_set = set(range(1, items + 1))
  while core:
    counts = Counter(r[1] for log in logs.values() for r in log)
    keep = {i for i in item_set if counts[i] >= core}
    new = {u: [r for r in log if r[1] in keep] for u, log in logs.items()}
    new = {u: log for u, log in new.items() if len(log) >= core}
    done = (new, keep) == (logs, item_set)
    logs, item_set = new, keep
    if done:
      break
  number = {i: n for n, i in enumerate(sorted(item_set), start=1)}
  indptr = np.cumsum([0, 0, *(len(log) for log in logs.values())]).tolist()
  flat = [r for log in logs.values() for r in log]
  low = min(r[2] for r in rows)
  item, when = [number[r[1]] for r in flat], [r[2] - low for r in flat]
  return indptr, item, when, [r[3] for r in flat], repeated


@settings(max_examples=120, deadline=None)
@given(
  rows=st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(-3, 3)), min_size=1, max_size=40
  ),
  chunk=st.integers(1, 45),
  block=st.integers(1, 45),
  timing=st.sampled_from(["time", "order", "none"]),
  core=st.integers(0, 3),
  duplicates=st.sampled_from(["drop", "keep"]),
)
def test_equals_plain_python(tmp_path_factory, rows, chunk, block, timing, core, duplicates):
  rows = [(*row, at) for at, row in enumerate(rows)]
  indptr, item, when, value, repeated = twin(rows, timing, core, duplicates)
  source = source_of(rows, timing, chunk)
  cache = tmp_path_factory.mktemp("twin")
  if not item:
    with pytest.raises(DataError, match="no user is left"):
      prepare(source, cache, core, duplicates, block)
    return
  log = open_log(prepare(source, cache, core, duplicates, block))
  assert log.indptr.tolist() == indptr
  assert log.item.tolist() == item
  assert log.columns["value"].tolist() == value
  assert log.facts["cleaned"]["repeated_events"] == repeated
  if timing == "time":
    assert log.time.tolist() == when


@pytest.mark.parametrize("broken", ["place", "order", "core"])
def test_goes_on_after_the_last_finished_pass(tmp_path, monkeypatch, broken):
  reads = []
  source = source_of(ROWS)
  counted = dataclasses.replace(source, chunks=lambda: reads.append(1) or source.chunks())
  whole = getattr(preparation, broken)

  def killed(*arguments):
    if broken != "core":
      preparation.Columns(arguments[-1], {"item": "<i4"}).create(99)  # half-written file
    raise KeyboardInterrupt

  monkeypatch.setattr(preparation, broken, killed)
  with pytest.raises(KeyboardInterrupt):
    prepare(counted, tmp_path, core=1)
  assert not list((tmp_path / "prepared").glob("hand*"))
  monkeypatch.setattr(preparation, broken, whole)
  log = open_log(prepare(counted, tmp_path, core=1))
  assert len(reads) == 1
  assert log.item.tolist() == [3, 2, 2, 1, 4, 2]


def test_a_cut_stream_is_read_again(tmp_path):
  source = source_of(ROWS)

  def cut():
    yield next(source.chunks())
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    prepare(dataclasses.replace(source, chunks=cut), tmp_path)
  assert open_log(prepare(source, tmp_path)).num_events == 6


def _prepare_and_tell(cache, queue):
  queue.put(str(prepare(source_of(ROWS * 50), cache)))


def test_two_processes_prepare_one_log(tmp_path):
  context = multiprocessing.get_context("spawn")
  queue = context.Queue()
  workers = [context.Process(target=_prepare_and_tell, args=(tmp_path, queue)) for _ in range(2)]
  for worker in workers:
    worker.start()
  paths = {queue.get(timeout=60) for _ in workers}
  for worker in workers:
    worker.join(timeout=60)
    assert worker.exitcode == 0
  queue.close()
  assert len(paths) == 1
  assert open_log(tmp_path / "prepared" / paths.pop().split("/")[-1]).num_events == 6


def test_damage_is_refused(tmp_path):
  path = prepare(source_of(ROWS), tmp_path)
  with pytest.raises(DataError, match="is not a prepared log: it has no meta.json"):
    open_log(tmp_path)
  meta = json.loads((path / "meta.json").read_text())
  file = path / meta["files"]["events"]["item"]
  whole = file.read_bytes()
  file.write_bytes(whole[:-4])
  with pytest.raises(DataError, match="missing or damaged"):
    open_log(path)
  file.write_bytes(whole)
  (path / "meta.json").write_text(json.dumps({**meta, "version": 0}))
  with pytest.raises(DataError, match="has version 0, but this code reads"):
    open_log(path)
  (path / "meta.json").write_text("{")
  with pytest.raises(DataError, match="is damaged"):
    open_log(path)


def test_impossible_streams(tmp_path):
  with pytest.raises(DataError, match="hand.parquet holds no rows"):
    prepare(source_of([]), tmp_path)
  with pytest.raises(DataError, match=r"the time in row 2 is 1600000000000, .*milliseconds"):
    prepare(source_of([(1, 1, 5, 0), (1, 1, 1_600_000_000_000, 0)]), tmp_path)
  with pytest.raises(DataError, match="more than 68 years"):
    prepare(source_of([(1, 1, 0, 0), (1, 1, 2**31, 0)]), tmp_path)
  with pytest.raises(DataError, match=r"row 2 holds 2000000000, too large for users numbered"):
    prepare(source_of([(1, 1, 0, 0), (2_000_000_000, 1, 1, 0)]), tmp_path)
  with pytest.raises(DataError, match=r"row 1 holds 2000000000, too large for items numbered"):
    prepare(source_of([(1, 2_000_000_000, 0, 0)]), tmp_path)


def test_vectors_of_items_become_a_matrix(tmp_path):
  kind = pa.list_(pa.float32())
  items = pa.table({
    "item_id": [2, 5],
    "vector": pa.array([[0.5, -1.0], [2.0, 0.25]], kind),
    "ragged": pa.array([[0.5], [1.0, 2.0]], kind),
  })
  log = open_log(prepare(source_of(ROWS, items=lambda: items), tmp_path))
  vectors = np.asarray(log.items["vector"])
  assert vectors.dtype == np.float32
  np.testing.assert_array_equal(vectors[[0, 2, 5]], [[0, 0], [0.5, -1], [2, 0.25]])
  assert np.isnan(vectors[[1, 3, 4]]).all()
  assert log.facts["left_out"]["items.ragged"] == "lists of fractions differ in length"
