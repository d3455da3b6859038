"""Delimited text (plain or .gz) as blocks of text columns, and numbers out of them.

Blank lines are skipped; row numbers in messages count the other data rows from 1.
"""

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recjax.data.sources.base import first_line
from recjax.errors import DataError

BLOCK_BYTES = 8 << 20
_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


def columns(file: Path, separator: str, header: Sequence[str] = ()) -> list[str]:
  """Names of the columns: `header`, or what the first line has; raises DataError as `blocks`."""
  with _open(file, separator, header) as reader:
    return reader.schema.names


def blocks(
  file: Path, separator: str, header: Sequence[str] = ()
) -> Iterator[tuple[int, pa.RecordBatch]]:
  """(number of its first row, block with all columns as text) of everything in the file.

  Args:
    file: the file.
    separator: one character.
    header: names of the columns where the first line does not have them.

  Raises:
    DataError: from the first step on, naming the row, for what cannot be read; from the last, for
      quotes that do not go together.
  """
  row, lines = 1, False
  with _open(file, separator, header) as reader:
    while True:
      try:
        batch = reader.read_next_batch()
      except StopIteration:
        break
      except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, header, error, row) from None
      lines = lines or any(_has_line(column) for column in batch.columns)
      yield row, batch
      row += len(batch)
  if lines:
    _check_quotes(file, separator)


def numbers(text: pa.Array, place: str, column: str, row: int) -> pa.Array:
  """Text as int64 where all are whole numbers, else as float64; raises DataError, naming the row."""
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


def _open(file: Path, separator: str, header: Sequence[str]) -> pa.csv.CSVStreamingReader:
  """A reader of blocks with all columns as text."""

  def reader(types: dict | None):
    return pa.csv.open_csv(
      pa.input_stream(str(file), compression="gzip" if file.suffix == ".gz" else None),
      pa.csv.ReadOptions(
        use_threads=False, block_size=BLOCK_BYTES, column_names=list(header) or None
      ),
      pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
      pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )

  try:
    with reader(None) as first:
      names = first.schema.names
    return reader(dict.fromkeys(names, pa.string()))
  except UnicodeDecodeError:
    raise DataError(f"{file} is no UTF-8 text: its first line has other bytes.") from None
  except (pa.ArrowInvalid, OSError) as error:
    raise _unreadable(file, header, error, 1) from None


def _has_line(text: pa.Array) -> bool:
  """Whether a value of a column goes over several lines."""
  return pc.any(pc.match_substring_regex(text, "[\r\n]")).as_py() or False


def _check_quotes(file: Path, separator: str) -> None:
  """Refuses quotes that Arrow forgives: one that is not closed hides all lines up to the next.

  Only a value with a line end can hide rows, so few files need this second look.
  """
  opened = gzip.open if file.suffix == ".gz" else open
  with opened(file, "rt", encoding="utf-8-sig", newline="") as stream:
    reader = csv.reader(stream, strict=True, delimiter=separator)
    line = 1
    try:
      for _ in reader:
        line = reader.line_num + 1
    except csv.Error as error:
      raise DataError(
        f"{file}: the quotes in the row that begins in line {line} do not go together: {error}."
      ) from None


def _unreadable(file: Path, header: Sequence[str], error: Exception, row: int) -> DataError:
  if "Empty CSV file" in str(error):
    return DataError(f"{file} is empty.")
  if found := _WIDTH.search(str(error)):
    number, expected, actual = map(int, found.groups())
    # Arrow counts a header line as a row.
    number -= not header
    return DataError(f"{file}: row {number} has {actual} columns, expected {expected}.")
  return DataError(f"{file} cannot be read from row {row} on: {first_line(error)}.")
