"""Frozen tables: what is written is read, row by row, whatever the size; broken files are named."""

import dataclasses
import pathlib

import jax.numpy as jnp
import logs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import gathered

from recjax.config import Split
from recjax.data.frozen import (
  FrozenTable,
  gather_vectors,
  numbers,
  open_frozen,
  pack_parquet,
  quantize,
  vector_fields,
  write_frozen,
)
from recjax.data.load import load
from recjax.data.splits import make_split
from recjax.data.views import ctr
from recjax.data.views import table as table_view
from recjax.errors import ConfigError, DataError
from recjax.train.feeds import BatchSource, _reference
from recjax.train.mesh import bytes_of


def test_codes_by_hand():
  codes = quantize(np.array([0.999, -0.5, 0.0079, -0.0079, 1.2]))
  assert codes.dtype == np.int8 and codes.tolist() == [126, -63, 1, -1, 127]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_codes_change_cosines_little(seed):
  """Of random pairs; one in fifty changes by more than .01, none of 100,000 by more than .021."""
  x = np.random.default_rng(seed).normal(size=(2, 128))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  y = quantize(x).astype(np.float64)
  assert abs(x[0] @ x[1] - y[0] @ y[1] / np.linalg.norm(y[0]) / np.linalg.norm(y[1])) < 0.025


@pytest.mark.parametrize("dtype, error", [("int8", 1 / 127), ("float16", 1e-3), ("float32", 1e-7)])
def test_what_is_written_is_read(tmp_path, dtype, error):
  rng = np.random.default_rng(0)
  vectors = rng.uniform(-1, 1, (25, 6))
  blocks = (vectors[start : start + 10] for start in range(0, 25, 10))
  table = write_frozen(tmp_path / "deep" / "v.npy", blocks, 25, 6, dtype)
  assert isinstance(table.codes, np.memmap) and table.codes.dtype == dtype and table.width == 6
  np.testing.assert_allclose(table.values(np.arange(1, 26)), vectors, atol=error)
  again = open_frozen(tmp_path / "deep" / "v.npy", rows=26)
  ids = np.array([[3, 0], [25, 3]])
  np.testing.assert_array_equal(again.values(ids)[0, 1], 0)
  np.testing.assert_array_equal(again.codes[ids], table.codes[ids])
  assert [p.name for p in (tmp_path / "deep").iterdir()] == ["v.npy"]


def test_thirty_five_million_rows_cost_what_is_read(tmp_path):
  """A file of 4.5 GB (with holes, so that it takes no disk) is not brought into memory.

  Neither by ids, nor by the batches that a view and the streaming feed make of histories.
  """
  path, rows = tmp_path / "large.npy", 35_464_000
  header = {"descr": "|i1", "fortran_order": False, "shape": (rows, 128)}
  with path.open("wb") as file:
    np.lib.format.write_array_header_1_0(file, header)
    start = file.tell()
    for row in (1, 17_000_000, rows - 1):
      file.seek(start + row * 128)
      file.write(np.full(128, 1 + row % 100, np.int8).tobytes())
  resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
  before = resident()
  table = open_frozen(path, rows)
  ids = np.random.default_rng(0).integers(1, rows, (16, 50))
  ids[0, :3] = 1, 17_000_000, rows - 1
  got = table.values(ids)
  assert got.shape == (16, 50, 128)
  np.testing.assert_allclose(got[0, :3, 0] * 127, [2, 1, 1 + (rows - 1) % 100], rtol=1e-6)
  assert not got[1].any()

  log = dataclasses.replace(logs.log([[1, 2, 1, 2, 1]]), vocabularies={"user": 2, "item": rows})
  columns = {"user": np.ones(8), "begin": np.zeros(8), "end": np.arange(8) % 4}
  columns |= {"candidate": np.full(8, 17_000_000), "label": np.ones(8, np.float32)}
  view = ctr.click_rows(log, np.array([1, 5, rows - 1, 9], np.int32), 3, columns, (), table)
  assert bytes_of(view.columns) > 4 << 30  # too much for train.feed=auto to put on a device
  batch = BatchSource(view, range(1), 8, (0, 8), 2)[1]
  assert batch["hist_vector"].shape == (8, 3, 128) and batch["hist_vector"].dtype == np.int8
  of = {0: 0, 1: 2, 5: 0, rows - 1: 1 + (rows - 1) % 100}
  np.testing.assert_array_equal(
    batch["hist_vector"][:, :, 7], np.vectorize(of.get)(batch["hist_item"])
  )
  assert (batch["target_vector"] == 1).all() and batch["hist_vector"].any()
  assert resident() - before < 32 << 20  # reading ahead would make it 54 and more


def test_views_gather_rows_with_numpy_and_jax_alike_and_workers_open_the_file(tmp_path):
  sizes = {"num_train": 40, "num_validation": 10, "num_test": 10, "num_items": 128, "length": 7}
  data = load({"name": "planted", "generator": "vectors", "stored": "int8", **sizes})
  codes = data.frozen["item"].codes
  stored = write_frozen(tmp_path / "v.npy", [codes[1:]], 128, codes.shape[1])
  np.testing.assert_array_equal(stored.codes, codes)
  view = table_view.build(table_view.Config(), data._replace(frozen={"item": stored}), None)
  rows = view.train
  index = np.array([3, 1, 20], np.int32)
  host = rows.gather(np, rows.columns, index)
  device = rows.gather(jnp, {n: jnp.asarray(c) for n, c in rows.columns.items()}, index)
  for name, field in rows.schema.fields.items():
    np.testing.assert_array_equal(host[name], device[name])
    assert host[name].shape == (3, *field.shape) and host[name].dtype == field.dtype, name
  np.testing.assert_array_equal(host["hist_vector"], codes[host["hist_item"]])
  np.testing.assert_array_equal(host["target_vector"], codes[host["target_item"]])
  opened = _reference(rows.columns["item_vectors"])()
  assert isinstance(opened, np.memmap) and (opened == codes).all()
  bare = table_view.build(table_view.Config(), data._replace(frozen={}), None)
  assert "hist_vector" not in gathered(bare.train)


def test_views_of_logs_take_vectors_from_a_file(tmp_path):
  log = logs.log([[1, 2, 3, 4, 2], [3, 1, 5, 2]], num_items=8)
  values = np.random.default_rng(0).normal(size=(8, 3))
  path = tmp_path / "v.npy"
  stored = write_frozen(path, [values], 8, 3, "float16")
  config = ctr.Config(length=3, negatives=2, candidates=3, vectors=str(path))
  view = ctr.build(config, log, make_split(log, Split()))
  for rows in (view.train, view.test.rows):
    batch = gathered(rows)
    for prefix in ("hist", "target"):
      vectors = batch[f"{prefix}_vector"]
      assert vectors.dtype == np.float16
      assert vectors.shape[1:] == rows.schema.fields[f"{prefix}_vector"].shape
      np.testing.assert_array_equal(vectors, stored.codes[batch[f"{prefix}_item"]])
  write_frozen(path, [values[:7]], 7, 3)
  with pytest.raises(DataError, match="has 8 rows, but there are 9 items"):
    ctr.build(config, log, make_split(log, Split()))
  small = dataclasses.replace(log, facts={"cleaned": {"items_outside_core": 3}})
  with pytest.raises(ConfigError, match="items by their first numbers: with it set data.core=0"):
    ctr.build(config, small, make_split(log, Split()))


def test_fields_have_the_dtype_of_the_table():
  for dtype in (np.int8, np.float16, np.float32):
    table = FrozenTable(np.zeros((4, 3), dtype))
    fields = vector_fields(table, {"hist": (5,), "target": ()})
    assert fields["hist_vector"].shape == (5, 3) and fields["target_vector"].dtype == dtype
  batch = {"hist_item": np.array([[0, 2]]), "target_item": np.array([3])}
  assert gather_vectors(table.codes, batch)["hist_vector"].shape == (1, 2, 3)


def test_broken_files_are_named(tmp_path):
  path = tmp_path / "v.npy"
  with pytest.raises(DataError, match="There is no file .*v.npy of item vectors"):
    open_frozen(path)
  path.write_bytes(b"nothing of this kind")
  with pytest.raises(DataError, match="v.npy is no whole .npy file of vectors"):
    open_frozen(path)
  good = np.zeros((5, 3), np.int8)
  np.save(path, good)
  whole = path.read_bytes()
  path.write_bytes(whole[:-4])
  with pytest.raises(DataError, match="v.npy is no whole .npy file of vectors"):
    open_frozen(path)
  path.write_bytes(whole)
  with pytest.raises(DataError, match="has 5 rows, but there are 7 items, the padding item 0 included"):
    open_frozen(path, rows=7)
  for wrong, message in (
    (good.astype(np.int64), "holds int64, but vectors are of int8, float16, float32"),
    (good[0], r"of shape \(3,\) does not hold a row an item"),
    (np.asfortranarray(np.zeros((5, 3), np.int8)), "does not hold a row an item, one after another"),
    (good + 1, "row 0 belongs to padding and must be zero"),
    (np.array([{}], object), "is no whole .npy file"),
  ):
    np.save(path, wrong, allow_pickle=True)
    with pytest.raises(DataError, match=message):
      open_frozen(path)
  np.savez(tmp_path / "many.npz", good)
  with pytest.raises(DataError, match="many.npz holds an archive, but vectors"):
    open_frozen(tmp_path / "many.npz")


def test_wrong_blocks_are_named_and_leave_no_table(tmp_path):
  path = tmp_path / "v.npy"
  for blocks, count, dtype, message in (
    ([np.ones((2, 3))], 3, "int8", "2 vectors were given for 3 items"),
    ([np.ones((2, 4))], 2, "int8", r"vectors of shape \(2, 4\) from item 1 on do not fit 2 of 3"),
    ([np.ones((2, 3))] * 2, 3, "int8", r"from item 3 on do not fit 3 of 3"),
    ([np.full((2, 3), np.nan)], 2, "int8", "from item 1 on hold numbers that int8 does not"),
    ([np.full((2, 3), 1e9)], 2, "float16", "hold numbers that float16 does not"),
    ([np.full((2, 3), 300)], 2, "int8", "codes from item 1 on do not fit int8"),
    ([], 0, "int64", "Frozen vectors are of int8, float16, float32, not int64"),
  ):
    with pytest.raises(DataError, match=message):
      write_frozen(path, blocks, count, 3, dtype)
    assert not list(tmp_path.iterdir())


def test_raw_keys_become_numbers(tmp_path):
  keys = np.array([70, -5, 2**60, 3])
  np.testing.assert_array_equal(numbers(keys, np.array([[3, 8], [2**60, -5]])), [[4, 0], [3, 2]])
  file = tmp_path / "v.parquet"
  lists = [[1, 2], [3, -4], [5, 6], [7, 8]]
  write = lambda keys, lists: pq.write_table(
    pa.table({"id": keys, "v": pa.array(lists, pa.list_(pa.int8()))}), file
  )
  write(keys, lists)
  table, found = pack_parquet(file, "id", "v", tmp_path / "v.npy")
  assert found.tolist() == keys.tolist() and table.codes[1:].tolist() == lists
  write([1, 2, 2, 3], lists)
  with pytest.raises(DataError, match="column 'id' has missing keys, or one of them twice"):
    pack_parquet(file, "id", "v", tmp_path / "v.npy")
  write(keys, [[1, 2], [3], [5, 6], [7, 8]])
  with pytest.raises(DataError, match="column 'v' holds lists of other lengths than 2"):
    pack_parquet(file, "id", "v", tmp_path / "v.npy")
  with pytest.raises(DataError, match="column 'id' holds int64 in 4 rows, but no lists of numbers"):
    pack_parquet(file, "id", "id", tmp_path / "v.npy")
  with pytest.raises(DataError, match="has no column 'w'"):
    pack_parquet(file, "id", "w", tmp_path / "v.npy")


def test_vectors_of_taobao_mm(tmp_path, data_dir):
  """The published int8 vectors, by the raw ids of items."""
  demo = data_dir / "taobao_mm_demo"
  if not demo.is_dir():
    pytest.skip("the rows of Taobao-MM are not here")
  file = demo / "scl_embedding_int8_p90.parquet"
  table, keys = pack_parquet(file, "205", "205_c", tmp_path / "scl.npy")
  assert table.codes.shape == (11, 128) and table.codes.dtype == np.int8
  stored = pq.read_table(file).to_pydict()
  ids = numbers(keys, np.array(stored["205"]))
  np.testing.assert_array_equal(ids, np.arange(1, 11))
  np.testing.assert_array_equal(table.codes[ids], stored["205_c"])
  # They were of length one before they were coded.
  lengths = np.linalg.norm(table.values(ids), axis=1)
  assert (np.abs(lengths - 1) < 0.1).all()
  history = pq.read_table(demo / "test_user_features.parquet")["150_2_180"].to_pylist()
  found = numbers(keys, np.concatenate([np.array(h, np.int64) for h in history]))
  assert found.min() >= 0 and found.max() <= 10
