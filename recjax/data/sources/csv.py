"""A CSV or TSV file (plain or .gz) with declared columns.

Ids may be any text; they are numbered in sorted order (numerically where all are whole numbers) and
kept as `raw`. Rows may be chosen by a column of text and by time; what is left out is counted.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.sources import text_table
from recjax.data.sources.base import (
  UNITS,
  Chunk,
  Common,
  Source,
  checked_column,
  checked_ids,
  checked_when,
  data_file,
  fingerprint,
)
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count
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
  # The category of the row's item. An item has that of its first row; rows with another are counted.
  category: str = ""
  # Only rows with this text in a column: "behaviour=view", or "behaviour=view|buy" for either.
  only: tuple[str, ...] = ()
  # Only rows from the first of these times on and before the second, Unix seconds; 0: no bound.
  time_from: Count = 0
  time_before: Count = 0


def open_source(config: Config) -> Source:
  """Opens the file; raises ConfigError for a bad declaration, DataError for missing columns."""
  file = data_file(config.path, config.folder, "config.data.path is empty: name the CSV file")
  if config.time and config.order:
    raise ConfigError("config.data.time and config.data.order are both set: set only one.")
  if config.time_unit not in UNITS:
    raise ConfigError(unknown("value of config.data.time_unit", config.time_unit, UNITS))
  if len(config.separator) != 1:
    raise ConfigError(f"config.data.separator is {config.separator!r}, expected one character.")
  if (config.time_from or config.time_before) and not config.time:
    raise ConfigError("config.data.time_from and time_before need config.data.time.")
  wanted = {key: getattr(config, key) for key in ("user", "item", "time", "order", "category")}
  names = [name for name in (*wanted.values(), *config.columns, *config.text_columns) if name]
  twice = next((name for name in names if names.count(name) > 1), None)
  if twice:
    raise ConfigError(f"config.data names the column {twice!r} twice.")
  found = text_table.columns(file, config.separator, config.header)
  for name in (*names, *_wanted_text(config)):
    if name not in found:
      raise DataError(f"{file}: " + unknown("column", name, found))
    if found.count(name) > 1:
      raise DataError(f"{file} has several columns called {name!r}.")
  options = dataclasses.asdict(config)
  unrelated = (*(field.name for field in dataclasses.fields(Common)), "path")
  categories = _Categories()
  chunks = functools.partial(_chunks, file, config, categories)
  return Source(
    name=file.name.split(".")[0],
    fingerprint=fingerprint({k: v for k, v in options.items() if k not in unrelated}, file),
    chunks=chunks,
    timing="time" if config.time else "order" if config.order else "none",
    numbered=False,
    items=functools.partial(categories.table, chunks) if config.category else lambda: None,
    way=f"read from {file.name}",
    licence="not stated",
    place=str(file),
  )


class _Categories:
  """The category of each item, from the first row that has the item."""

  def __init__(self):
    self._first: dict[str, str] | None = None

  def start(self) -> None:
    """Forgets everything: the rows come from the beginning."""
    self._first = {}

  def add(self, items: pa.Array, categories: pa.Array) -> int:
    """Takes in rows; how many of them have another category than the item's first row."""
    coded = items.dictionary_encode()
    code = coded.indices.to_numpy(zero_copy_only=False)
    _, row = np.unique(code, return_index=True)
    firsts = zip(coded.dictionary.to_pylist(), categories.take(row).to_pylist(), strict=True)
    known = pa.array([self._first.setdefault(i, c) for i, c in firsts], pa.string())
    return pc.sum(pc.not_equal(known.take(coded.indices), categories)).as_py() or 0

  def table(self, chunks: functools.partial) -> pa.Table:
    """The item table; reads the file where this process has not done so yet."""
    if self._first is None:
      for _ in chunks():
        pass
    # An item table takes what is before a bar as the category.
    names = [name.replace("|", "/") for name in self._first.values()]
    return pa.table({"item_id": list(self._first), "category": names})


def _wanted_text(config: Config) -> dict[str, list[str]]:
  """Text that rows must have, by column; raises ConfigError for what says nothing of the kind."""
  wanted = {}
  for rule in config.only:
    column, equals, values = rule.partition("=")
    if not (column and equals):
      raise ConfigError(f"config.data.only holds {rule!r}, expected 'column=text'.")
    wanted[column] = values.split("|")
  return wanted


def _chunks(file: Path, config: Config, categories: _Categories) -> Iterator[Chunk]:
  place = str(file)
  wanted = _wanted_text(config)
  categories.start()
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
    user = checked_ids(batch[config.user], False, place, config.user, row)
    item = checked_ids(batch[config.item], False, place, config.item, row)
    kept, dropped = np.ones(len(batch), np.bool_), {}
    rules = {
      f"rows_of_other_{column}": pc.is_in(batch[column], pa.array(texts)).to_numpy(False)
      for column, texts in wanted.items()
    }
    if config.time_from or config.time_before:
      inside = when >= config.time_from if config.time_from else kept
      rules["rows_outside_times"] = inside & (
        when < config.time_before if config.time_before else kept
      )
    for reason, fits in rules.items():
      dropped[reason] = int((kept & ~fits).sum())
      kept = kept & fits
    if config.category:
      own = batch.filter(pa.array(kept))
      dropped["categories_overruled"] = categories.add(own[config.item], own[config.category])
    if not kept.all():
      user, item, when = user[kept], item[kept], None if when is None else when[kept]
      columns = {name: values[kept] for name, values in columns.items()}
    yield Chunk(user, item, when, columns, dropped)
