"""What a data source gives: a fingerprint, a licence note and a stream of checked chunks.

A source module has a frozen dataclass `Config` (the keys of `config.data`) and
`open_source(config) -> Source`. Opening is cheap; rows are read when `chunks()` is iterated.
Row numbers in messages count data rows from 1: a header line is not a row.
"""

import dataclasses
import hashlib
import json
import os
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.errors import ConfigError, DataError
from recjax.ranges import Count
from recjax.registry import shown, unknown

LARGEST_ID = 2**31 - 2
# A fixed-width str array takes 4 bytes for every character of its longest value, in every row.
LARGEST_TEXT = 16 << 20
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DUPLICATES = ("drop", "keep", "error")


@dataclasses.dataclass(frozen=True)
class Common:
  """Keys that every source understands."""

  # A registered source, or a folder with interactions.parquet below the data root, or its path.
  name: str
  # Data root. Empty: $RECJAX_DATA_DIR, else `data`, else `../shared/data`, whichever exists first.
  folder: str = ""
  # Where prepared logs go. Empty: $RECJAX_CACHE_DIR, else $XDG_CACHE_HOME/recjax, else
  # ~/.cache/recjax.
  cache: str = ""
  # Of a folder, read <file_prefix>interactions.parquet and so on, for example "core5_".
  file_prefix: str = ""
  # Drop users and items with fewer events until none is left, then renumber. 0: keep all ids.
  core: Count = 0
  # Keep just this many items, those with the most events (of equal ones the lower id); `core` then
  # drops users alone. 0: all that `core` leaves.
  most_popular: Count = 0
  # Rows that repeat user, item and time (or order; user and item where the source has neither):
  # "drop" keeps the first and counts the rest, "keep" keeps all, "error" stops.
  duplicates: str = "drop"

  def __post_init__(self):
    if self.duplicates not in DUPLICATES:
      raise ConfigError(unknown("value of config.data.duplicates", self.duplicates, DUPLICATES))


class Chunk(NamedTuple):
  """Some consecutive rows of a source.

  Attributes:
    user: [n] int64 numbers from 1, or str raw ids.
    item: [n] like `user`.
    when: [n] int64 Unix seconds or position in the user's history; None where there is neither.
    columns: further event columns, each [n]; str columns become codes during preparation.
    dropped: rows that the source left out since the chunk before, by reason.
  """

  user: np.ndarray
  item: np.ndarray
  when: np.ndarray | None
  columns: Mapping[str, np.ndarray]
  dropped: Mapping[str, int] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Source:
  """An opened data source.

  Attributes:
    name: name of the data set.
    fingerprint: hex digest that changes with the content and with every reading option.
    chunks: () -> iterator of `Chunk`; may be called again after an interruption.
    timing: what `Chunk.when` holds: "time", "order" or "none".
    numbered: True where ids already are numbers from 1; False where they are raw and preparation
      numbers them in sorted order.
    items: () -> item table with a column `item_id` (in the numbering of the chunks), or None.
    users: () -> user table with a column `user_id`, or None.
    way: how the data were obtained, for reports: names, no paths.
    licence: licence note, for reports.
    place: what to call the source in error messages, usually a file.
    facts: anything else worth keeping with the log; plain JSON values.
  """

  name: str
  fingerprint: str
  chunks: Callable[[], Iterator[Chunk]]
  timing: str
  numbered: bool = True
  items: Callable[[], pa.Table | None] = lambda: None
  users: Callable[[], pa.Table | None] = lambda: None
  way: str = ""
  licence: str = ""
  place: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def data_root(folder: str = "") -> Path:
  """The folder that holds data sets: `folder`, $RECJAX_DATA_DIR, `data`, `../shared/data`."""
  if folder:
    return Path(folder).expanduser()
  if os.environ.get("RECJAX_DATA_DIR"):
    return Path(os.environ["RECJAX_DATA_DIR"]).expanduser()
  places = (Path("data"), Path("../shared/data"))
  return next((place for place in places if place.is_dir()), places[0])


def data_file(path: str, folder: str, what: str) -> Path:
  """The file `path`, as it is or below the data root; `what` says how to name one.

  Raises ConfigError where none is named, DataError where there is none.
  """
  if not path:
    raise ConfigError(f"{what}.")
  file = Path(path).expanduser()
  file = file if file.exists() else data_root(folder) / path
  if not file.is_file():
    raise DataError(f"{file} does not exist.")
  return file


def cache_root(cache: str = "") -> Path:
  """The folder for everything that can be made again; see `Common.cache`."""
  if cache:
    return Path(cache).expanduser()
  if os.environ.get("RECJAX_CACHE_DIR"):
    return Path(os.environ["RECJAX_CACHE_DIR"]).expanduser()
  if os.environ.get("XDG_CACHE_HOME"):
    return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "recjax"
  return Path("~/.cache/recjax").expanduser()


def fingerprint(*parts: Any) -> str:
  """Hex SHA-256 over files (`Path`: their content) and JSON-ready options, in the given order."""
  digest = hashlib.sha256()
  for part in parts:
    if isinstance(part, Path):
      with part.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    else:
      digest.update(json.dumps(part, sort_keys=True).encode())
    digest.update(b"\0")
  return digest.hexdigest()


def checked_ids(values: pa.Array, numbered: bool, place: str, column: str, row: int) -> np.ndarray:
  """Ids of a column as int64 numbers from 1 (`numbered`) or as a str array.

  `row` is the number of the first value, for messages. Raises DataError for null, empty, zero,
  negative and non-integer ids.
  """
  if pa.types.is_dictionary(values.type):
    values = values.dictionary_decode()
  _refuse_nulls(values, "an id", place, column, row)
  if not numbered:
    if pa.types.is_floating(values.type):
      values = _whole(values, "an id", place, column, row)
    try:
      values = values.cast(pa.string())
    except pa.ArrowException:
      raise DataError(
        f"{place}: column {column!r} from row {row} on holds {values.type}, but ids are text or "
        "whole numbers."
      ) from None
    _refuse(pc.equal(pc.utf8_trim_whitespace(values), ""), "an empty id", place, column, row)
    # NumPy drops these at the end of text, so that two ids would become one.
    _refuse(pc.match_substring(values, "\0"), "an id with a NUL character", place, column, row)
    return to_str(values)
  if pa.types.is_floating(values.type):
    values = _whole(values, "an id", place, column, row)
  if not pa.types.is_integer(values.type):
    raise DataError(
      f"{place}: column {column!r} from row {row} on holds {values.type}, but ids are whole "
      "numbers from 1."
    )
  _refuse_values(values, pc.less(values, 1), "ids start at 1", place, column, row)
  _refuse_values(
    values, pc.greater(values, LARGEST_ID), "ids end at 2**31 - 2", place, column, row
  )
  return values.cast(pa.int64()).to_numpy(zero_copy_only=False)


def checked_when(values: pa.Array, place: str, column: str, row: int) -> np.ndarray:
  """Times (Unix seconds) or positions of a column as int64; Arrow timestamps become seconds.

  Raises DataError for nulls, NaN, fractions and anything that is not a number.
  """
  if pa.types.is_dictionary(values.type):
    values = values.dictionary_decode()
  _refuse_nulls(values, "a time", place, column, row)
  if pa.types.is_timestamp(values.type):
    whole = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return whole // UNITS[values.type.unit]
  if pa.types.is_floating(values.type):
    values = _whole(values, "a time", place, column, row)
  if not pa.types.is_integer(values.type):
    raise DataError(
      f"{place}: column {column!r} from row {row} on holds {values.type}, but times are whole "
      "numbers."
    )
  return values.cast(pa.int64()).to_numpy(zero_copy_only=False)


def checked_column(values: pa.Array, place: str, column: str, row: int) -> np.ndarray:
  """An event column as numbers, bool or str; a null string becomes "" (code 0 later).

  Raises DataError for null, NaN and infinite numbers and for types that are none of these.
  """
  if pa.types.is_dictionary(values.type):
    values = values.dictionary_decode()
  if is_text(values.type):
    return to_str(pc.fill_null(values, ""))
  _refuse_nulls(values, "a value", place, column, row)
  if pa.types.is_floating(values.type):
    bad = pc.invert(pc.is_finite(values))
    _refuse_values(values, bad, "numbers must be finite", place, column, row)
  elif not (pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
    raise DataError(
      f"{place}: column {column!r} from row {row} on holds {values.type}, which is neither a "
      "number nor text."
    )
  return values.to_numpy(zero_copy_only=False)


def first_line(error: Exception) -> str:
  """What an error says, as a part of a sentence."""
  return shown((str(error).splitlines() or [type(error).__name__])[0].rstrip("."))


def is_text(kind: pa.DataType) -> bool:
  """True for the Arrow string types."""
  return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_str(values: np.ndarray) -> bool:
  """True for both forms of str arrays: fixed-width and `StringDType`."""
  return values.dtype.kind in "UT"


def to_str(values: pa.Array, largest: int = LARGEST_TEXT) -> np.ndarray:
  """Arrow strings without nulls as a NumPy str array [n].

  The array is fixed-width, or a `StringDType` one where that would take more than `largest` bytes.
  """
  width = max(pc.max(pc.utf8_length(values)).as_py() or 0, 1) if len(values) else 1
  wide = 4 * width * len(values) > largest
  return np.array(values.to_pylist(), np.dtypes.StringDType() if wide else f"U{width}")


def _whole(values: pa.Array, what: str, place: str, column: str, row: int) -> pa.Array:
  values = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
  bad = pc.invert(pc.is_finite(values))
  _refuse_values(values, bad, f"{what} must be a finite number", place, column, row)
  bad = pc.or_(
    pc.not_equal(pc.floor(values), values), pc.greater(pc.abs(values.cast(pa.float64())), 2.0**53)
  )
  _refuse_values(values, bad, f"{what} must be a whole number", place, column, row)
  return values.cast(pa.int64())


def _refuse_nulls(values: pa.Array, what: str, place: str, column: str, row: int) -> None:
  if values.null_count:
    _refuse(pc.is_null(values), f"no value where {what} is needed", place, column, row)


def _refuse_values(values, bad: pa.Array, rule: str, place: str, column: str, row: int) -> None:
  at = int(pc.index(bad, True).as_py())
  if at >= 0:
    raise DataError(
      f"{place}: column {column!r}, row {row + at} holds {values[at].as_py()}, but {rule}."
    )


def _refuse(bad: pa.Array, what: str, place: str, column: str, row: int) -> None:
  at = int(pc.index(bad, True).as_py())
  if at >= 0:
    raise DataError(f"{place}: column {column!r}, row {row + at} holds {what}.")
