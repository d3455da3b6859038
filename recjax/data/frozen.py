"""Frozen tables: given vectors of items, a row each, read from a memory map and never trained.

A table is one `.npy` file [V, M] of int8, float16 or float32; row 0 is padding and zero, and a zero row
is an item without a vector. int8 code c stands for c / 127. A view holds the memory map as a column and
gathers the rows of a batch (`vector_fields`, `gather_vectors`); what is not named is not read. Tables
too large for the devices are therefore streamed, as any column is.
"""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recjax.data.schema import Field
from recjax.data.sources.base import first_line
from recjax.data.sources.folder import UNREADABLE, open_parquet
from recjax.errors import DataError, writing

KINDS = {"int8": "vector_int8", "float16": "vector_float16", "float32": "vector"}
UNITS = 127  # code of 1 in int8
_ROWS = 1 << 16


class FrozenTable(NamedTuple):
  """Vectors by id.

  Attributes:
    codes: [V, M] int8, float16 or float32, usually a memory map.
  """

  codes: np.ndarray

  @classmethod
  def of(cls, values: np.ndarray, dtype: str) -> "FrozenTable":
    """The table, in memory, of vectors [V - 1, M] of items 1, 2, ...; int8 holds their codes."""
    held = quantize(values) if dtype == "int8" else values.astype(dtype)
    return cls(np.concatenate([np.zeros((1, values.shape[1]), dtype), held]))

  @property
  def width(self) -> int:
    """M."""
    return self.codes.shape[1]

  @property
  def kind(self) -> str:
    """Kind of a batch field that holds rows as they are stored."""
    return KINDS[self.codes.dtype.name]

  def values(self, ids: np.ndarray) -> np.ndarray:
    """Vectors float32 [..., M] of ids [...]."""
    rows = np.asarray(rows_of(self.codes, ids)).astype(np.float32)
    return rows / UNITS if self.codes.dtype == np.int8 else rows


def quantize(values: np.ndarray) -> np.ndarray:
  """int8 codes of values: 127 times what is between -1 and 1, cut towards zero."""
  return np.trunc(UNITS * np.clip(values, -1.0, 1.0)).astype(np.int8)


def open_frozen(path: Path, rows: int | None = None) -> FrozenTable:
  """Memory-maps a table; `rows` is the size of the vocabulary that it must have, padding included.

  Raises:
    DataError: no such file, no whole `.npy` file, another dtype or shape, a row 0 that is not zero.
  """
  path = Path(path)
  if not path.is_file():
    raise DataError(f"There is no file {path} of item vectors.")
  try:
    codes = np.load(path, mmap_mode="r", allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise DataError(f"{path} is no whole .npy file of vectors: {first_line(error)}.") from None
  if not isinstance(codes, np.memmap) or codes.dtype.name not in KINDS:
    found = getattr(codes, "dtype", "an archive")
    raise DataError(f"{path} holds {found}, but vectors are of {', '.join(KINDS)}.")
  if codes.ndim != 2 or not codes.flags.c_contiguous:
    raise DataError(f"{path} of shape {codes.shape} does not hold a row an item, one after another.")
  if rows is not None and len(codes) != rows:
    raise DataError(
      f"{path} has {len(codes)} rows, but there are {rows} items, the padding item 0 included."
    )
  if not len(codes) or codes[0].any():
    raise DataError(f"{path}: row 0 belongs to padding and must be zero.")
  return FrozenTable(codes)


def write_frozen(
  path: Path, blocks: Iterable[np.ndarray], count: int, width: int, dtype: str = "int8"
) -> FrozenTable:
  """Writes vectors of items 1 .. count, given in order as blocks [n, width], and opens the table.

  A block is in memory at a time; the file is complete or absent. With int8 floats become codes.

  Raises:
    DataError: blocks of another width or number of rows, or values that dtype does not hold.
    StorageError: the file cannot be written.
  """
  if dtype not in KINDS:
    raise DataError(f"Frozen vectors are of {', '.join(KINDS)}, not {dtype}.")
  path = Path(path)
  draft = path.with_name(f".{path.name}.draft")
  try:
    with writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      _fill(draft, path, blocks, (count + 1, width), dtype)
      os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)
  return open_frozen(path, count + 1)


def _fill(
  draft: Path, path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, int], dtype: str
) -> None:
  """Writes a table of this shape, row 0 zero, as `draft`; messages are about `path`."""
  table = np.lib.format.open_memmap(draft, "w+", np.dtype(dtype), shape)
  row, (end, width) = 1, shape
  for block in blocks:
    codes = _stored(np.asarray(block), dtype, path, row)
    if codes.ndim != 2 or codes.shape[1] != width or row + len(codes) > end:
      raise DataError(
        f"{path}: vectors of shape {codes.shape} from item {row} on do not fit {end - 1} of {width}."
      )
    table[row : row + len(codes)] = codes
    row += len(codes)
  if row != end:
    raise DataError(f"{path}: {row - 1} vectors were given for {end - 1} items.")
  table.flush()


def _stored(block: np.ndarray, dtype: str, path: Path, row: int) -> np.ndarray:
  if block.dtype.kind in "iu" and dtype == "int8":
    if block.size and (block.min() < -128 or block.max() > 127):
      raise DataError(f"{path}: codes from item {row} on do not fit int8.")
    return block.astype(np.int8)
  with np.errstate(over="ignore", invalid="ignore"):
    stored = quantize(block) if dtype == "int8" else block.astype(dtype)
  finite = np.isfinite(block) if dtype == "int8" else np.isfinite(stored)
  if not finite.all():
    raise DataError(f"{path}: vectors from item {row} on hold numbers that {dtype} does not.")
  return stored


def pack_parquet(
  file: Path, key: str, column: str, path: Path, dtype: str = "int8"
) -> tuple[FrozenTable, np.ndarray]:
  """Writes the lists in a column of a Parquet file as a table, in order of the file.

  Returns the table and the keys int64 [rows], those of items 1, 2, ...; see `numbers`.

  Raises:
    DataError: missing file or column, lists of different lengths, keys that are missing or not unique.
  """
  opened = open_parquet(file, (key, column))
  kinds = {name: opened.schema_arrow.field(name).type for name in (key, column)}
  count, lists = opened.metadata.num_rows, pa.types.is_list(kinds[column])
  if not count or not (lists or pa.types.is_large_list(kinds[column])):
    raise DataError(
      f"{file}: column {column!r} holds {kinds[column]} in {count} rows, but no lists of numbers."
    )
  if not pa.types.is_integer(kinds[key]):
    raise DataError(f"{file}: column {key!r} holds {kinds[key]}, but keys are whole numbers.")
  try:
    keys = opened.read([key])[key]
    width = len(next(opened.iter_batches(1, columns=[column])).column(column)[0] or ())
    if keys.null_count or len(np.unique(keys.to_numpy())) != count:
      raise DataError(f"{file}: column {key!r} has missing keys, or one of them twice.")
    blocks = (
      _rows_of(batch.column(column), width, f"{file}: column {column!r}")
      for batch in opened.iter_batches(_ROWS, columns=[column])
    )
    return write_frozen(path, blocks, count, width, dtype), keys.to_numpy().astype(np.int64)
  except UNREADABLE as error:
    raise DataError(f"{file} cannot be read: {first_line(error)}.") from None


def _rows_of(lists: pa.Array, width: int, place: str) -> np.ndarray:
  """Lists of numbers as an array [n, width]."""
  lengths = np.diff(lists.offsets.to_numpy())
  if lists.null_count or not width or (lengths != width).any():
    raise DataError(f"{place} holds lists of other lengths than {width}.")
  return lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def numbers(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Item numbers int32 [...] from 1 of raw keys [...] by their place in `keys` [n]; 0 for others."""
  order = np.argsort(keys, kind="stable")
  place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
  found = order[place]
  return np.where(keys[found] == wanted, found + 1, 0).astype(np.int32)


def vector_fields(table: FrozenTable, shapes: dict[str, tuple[int, ...]]) -> dict[str, Field]:
  """Fields hist_vector and target_vector beside ids hist_item, target_item of these shapes."""
  return {
    f"{prefix}_vector": Field(table.kind, (*shape, table.width)) for prefix, shape in shapes.items()
  }


def gather_vectors(codes: Any, batch: dict[str, Any]) -> dict[str, Any]:
  """The vectors of hist_item and target_item of a batch, from the whole column [V, M]."""
  return {
    f"{prefix}_vector": rows_of(codes, batch[f"{prefix}_item"]) for prefix in ("hist", "target")
  }


def rows_of(codes: Any, ids: Any) -> Any:
  """Rows [..., M] of a column [V, M] at ids [...], as they are stored.

  A memory map is told that its rows are read here and there: otherwise every row that is not in memory
  brings what follows it in the file, up to megabytes on some systems.
  """
  if isinstance(getattr(codes, "base", None), mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
    codes.base.madvise(mmap.MADV_RANDOM)
  return codes[ids]
