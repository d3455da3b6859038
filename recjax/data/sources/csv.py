"""A CSV or TSV file (plain or .gz) with declared columns.

Ids may be any text; they are numbered in sorted order (numerically where all are whole numbers) and
kept as `raw`.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from recjax.data.sources import text_table
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
)
from recjax.errors import ConfigError, DataError
from recjax.registry import unknown


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
  found = text_table.columns(file, config.separator, config.header)
  for name in names:
    if name not in found:
      raise DataError(f"{file}: " + unknown("column", name, found))
    if found.count(name) > 1:
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


def _chunks(file: Path, config: Config) -> Iterator[Chunk]:
  place = str(file)
  for row, batch in text_table.blocks(file, config.separator, config.header):
    numbers = lambda name, row=row, batch=batch: text_table.numbers(batch[name], place, name, row)
    when = None
    if config.time or config.order:
      column = config.time or config.order
      when = checked_when(numbers(column), place, column, row)
      when = when // UNITS[config.time_unit] if config.time else when
    columns = {
      name: checked_column(numbers(name).cast(pa.float64()), place, name, row)
      for name in config.columns
    }
    columns |= {n: checked_column(batch[n], place, n, row) for n in config.text_columns}
    yield Chunk(
      checked_ids(batch[config.user], False, place, config.user, row),
      checked_ids(batch[config.item], False, place, config.item, row),
      when,
      columns,
    )
