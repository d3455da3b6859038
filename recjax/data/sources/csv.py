"""A CSV or TSV file (plain or .gz) with declared columns.

Ids may be any text; they are numbered in sorted order (numerically where all are whole numbers) and
kept as `raw`. Blank lines are skipped; row numbers in messages count the other data rows from 1.
"""

import csv
import dataclasses
import functools
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recjax.data.sources.base import (
  UNITS,
  Chunk,
  Common,
  Source,
  checked_column,
  checked_ids,
  checked_when,
  data_root,
  fingerprint,
  first_line,
)
from recjax.errors import ConfigError, DataError
from recjax.registry import unknown

BLOCK_BYTES = 8 << 20
_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for a CSV file; columns are given by name."""

  # The file, as it is or below the data root.
  path: str = ""
  # One character; "\t" for TSV.
  separator: str = ","
  # Column names of a file without a header line. Empty: the first line has them.
  header: tuple[str, ...] = ()
  user: str = "user_id"
  item: str = "item_id"
  # At most one of the two: a time, or the position in the user's history. Neither: order of rows.
  time: str = ""
  order: str = ""
  # Unit of `time` since 1970: "s", "ms", "us" or "ns"; cut to seconds.
  time_unit: str = "s"
  # Further event columns: numbers (as float64), and short text (as codes).
  columns: tuple[str, ...] = ()
  text_columns: tuple[str, ...] = ()


def open_source(config: Config) -> Source:
  """Opens the file; raises ConfigError for a bad declaration, DataError for missing columns."""
  if not config.path:
    raise ConfigError("config.data.path is empty: name the CSV file.")
  if config.time and config.order:
    raise ConfigError("config.data.time and config.data.order are both set: set only one.")
  if config.time_unit not in UNITS:
    raise ConfigError(unknown("value of config.data.time_unit", config.time_unit, UNITS))
  if len(config.separator) != 1:
    raise ConfigError(f"config.data.separator is {config.separator!r}, expected one character.")
  file = Path(config.path)
  file = file if file.exists() else data_root(config.folder) / config.path
  if not file.is_file():
    raise DataError(f"{file} does not exist.")
  wanted = {key: getattr(config, key) for key in ("user", "item", "time", "order")}
  names = [name for name in (*wanted.values(), *config.columns, *config.text_columns) if name]
  twice = next((name for name in names if names.count(name) > 1), None)
  if twice:
    raise ConfigError(f"config.data names the column {twice!r} twice.")
  with _open(file, config) as reader:
    for name in names:
      if name not in reader.schema.names:
        raise DataError(f"{file}: " + unknown("column", name, reader.schema.names))
      if reader.schema.names.count(name) > 1:
        raise DataError(f"{file} has several columns called {name!r}.")
  options = dataclasses.asdict(config)
  unrelated = (*(field.name for field in dataclasses.fields(Common)), "path")
  return Source(
    name=file.name.split(".")[0],
    fingerprint=fingerprint({k: v for k, v in options.items() if k not in unrelated}, file),
    chunks=functools.partial(_chunks, file, config),
    timing="time" if config.time else "order" if config.order else "none",
    numbered=False,
    way=f"read from {file}",
    licence="not stated",
    place=str(file),
  )


def _open(file: Path, config: Config) -> pa.csv.CSVStreamingReader:
  """A reader of blocks with all columns as text."""

  def reader(types: dict | None):
    return pa.csv.open_csv(
      pa.input_stream(str(file), compression="gzip" if file.suffix == ".gz" else None),
      pa.csv.ReadOptions(
        use_threads=False, block_size=BLOCK_BYTES, column_names=list(config.header) or None
      ),
      pa.csv.ParseOptions(delimiter=config.separator, newlines_in_values=True),
      pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )

  try:
    with reader(None) as first:
      names = first.schema.names
    return reader(dict.fromkeys(names, pa.string()))
  except UnicodeDecodeError:
    raise DataError(f"{file} is no UTF-8 text: its first line has other bytes.") from None
  except (pa.ArrowInvalid, OSError) as error:
    raise _unreadable(file, config, error, 1) from None


def _chunks(file: Path, config: Config) -> Iterator[Chunk]:
  place, row, lines = str(file), 1, False
  with _open(file, config) as reader:
    while True:
      try:
        batch = reader.read_next_batch()
      except StopIteration:
        break
      except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, config, error, row) from None
      lines = lines or any(_has_line(column) for column in batch.columns)
      when = None
      if config.time or config.order:
        column = config.time or config.order
        when = checked_when(_numbers(batch[column], place, column, row), place, column, row)
        when = when // UNITS[config.time_unit] if config.time else when
      columns = {
        name: checked_column(
          _numbers(batch[name], place, name, row).cast(pa.float64()), place, name, row
        )
        for name in config.columns
      }
      columns |= {n: checked_column(batch[n], place, n, row) for n in config.text_columns}
      yield Chunk(
        checked_ids(batch[config.user], False, place, config.user, row),
        checked_ids(batch[config.item], False, place, config.item, row),
        when,
        columns,
      )
      row += len(batch)
  if lines:
    _check_quotes(file, config)


def _has_line(text: pa.Array) -> bool:
  """Whether a value of a column goes over several lines."""
  return pc.any(pc.match_substring_regex(text, "[\r\n]")).as_py() or False


def _check_quotes(file: Path, config: Config) -> None:
  """Refuses quotes that Arrow forgives: one that is not closed hides all lines up to the next.

  Only a value with a line end can hide rows, so few files need this second look.
  """
  opened = gzip.open if file.suffix == ".gz" else open
  with opened(file, "rt", encoding="utf-8-sig", newline="") as stream:
    reader = csv.reader(stream, strict=True, delimiter=config.separator)
    line = 1
    try:
      for _ in reader:
        line = reader.line_num + 1
    except csv.Error as error:
      raise DataError(
        f"{file}: the quotes in the row that begins in line {line} do not go together: {error}."
      ) from None


def _numbers(text: pa.Array, place: str, column: str, row: int) -> pa.Array:
  """Text as int64 where all are whole numbers, else as float64."""
  text = pc.utf8_trim_whitespace(text)
  for kind in (pa.int64(), pa.float64()):
    try:
      return text.cast(kind)
    except pa.ArrowInvalid:
      continue
  for at, value in enumerate(text.to_pylist()):
    try:
      pa.scalar(value).cast(pa.float64())
    except pa.ArrowInvalid:
      raise DataError(
        f"{place}: column {column!r}, row {row + at} holds {value!r}, which is no number."
      ) from None
  raise AssertionError("a column that cannot be cast has a cell that cannot")


def _unreadable(file: Path, config: Config, error: Exception, row: int) -> DataError:
  if "Empty CSV file" in str(error):
    return DataError(f"{file} is empty.")
  if found := _WIDTH.search(str(error)):
    number, expected, actual = map(int, found.groups())
    # Arrow counts a header line as a row.
    number -= not config.header
    return DataError(f"{file}: row {number} has {actual} columns, expected {expected}.")
  return DataError(f"{file} cannot be read from row {row} on: {first_line(error)}.")
