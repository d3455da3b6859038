"""A folder with `interactions.parquet`, and if known `items.parquet` and `users.parquet`.

`interactions` has `user_id` and `item_id`, numbered from 1, and `timestamp` (Unix seconds) or
`order` (position in the user's history); with neither, rows count as being in order of the file and
the log is marked as not ordered. Further columns of numbers or short text become event columns.
`items` has `item_id`, `users` has `user_id`, each once a row. `histories.parquet`, if it is there and
ids are numbered, has `user_id`, too, and its columns count as columns of users: lists of the items of
earlier behaviours that `interactions` does not have.

Where the name ends in .parquet, that file has the interactions, and of `events.parquet` the others are
`events_items.parquet` and so on.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recjax.data.sources.base import (
  Chunk,
  Common,
  Source,
  checked_column,
  checked_ids,
  checked_when,
  data_file,
  data_root,
  fingerprint,
  first_line,
)
from recjax.errors import ConfigError, DataError
from recjax.registry import shown, unknown

IDS = ("numbered", "raw")
BATCH_ROWS = 1 << 18
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for a folder: `name` is one below the data root, or a path with "/".

  Or it is a Parquet file, as it is or below the data root.
  """

  # "numbered": ids are numbers from 1. "raw": any numbers or text, numbered in sorted order.
  ids: str = "numbered"


def open_source(config: Config) -> Source:
  """Opens the folder `config.name`; raises DataError when there is nothing to read."""
  if config.ids not in IDS:
    raise ConfigError(unknown("value of config.data.ids", config.ids, IDS))
  if config.name.endswith(".parquet"):
    if config.file_prefix:
      raise ConfigError(f"config.data.file_prefix is for folders; {config.name!r} is a file.")
    file = data_file(config.name, config.folder, "config.data.name is empty")
    way = f"read from the file {file.name}"
    return read_folder(
      file.parent, file.stem, f"{file.stem}_", config.ids == "numbered", way,
      f"see the notes of {file.parent.name}", events=file.name,
    )
  path = Path(config.name) if "/" in config.name else data_root(config.folder) / config.name
  name = path.name + (f"-{config.file_prefix.strip('_')}" if config.file_prefix else "")
  return read_folder(path, name, config.file_prefix, config.ids == "numbered")


def read_folder(
  path: Path,
  name: str,
  prefix: str = "",
  numbered: bool = True,
  way: str = "",
  licence: str = "",
  events: str = "",
) -> Source:
  """A source over the Parquet files of the folder `path`; `events` names another file than usual.

  Raises DataError for missing or torn files and for missing columns.
  """
  file = path / (events or f"{prefix}interactions.parquet")
  columns = open_parquet(file, ("user_id", "item_id")).schema_arrow.names
  timing = {"timestamp": "time", "order": "order"}
  when = next((column for column in timing if column in columns), None)
  sides = {kind: path / f"{prefix}{kind}.parquet" for kind in ("items", "users")}
  for kind, side in sides.items():
    if side.exists():
      open_parquet(side, (f"{kind[:-1]}_id",))
  histories = path / f"{prefix}histories.parquet"
  if numbered and histories.exists():
    open_parquet(histories, ("user_id",))
    sides["histories"] = histories
  present = [side for side in sides.values() if side.exists()]
  return Source(
    name=name,
    fingerprint=fingerprint(
      "folder", name, numbered, [side.name for side in present], file, *present
    ),
    chunks=functools.partial(_chunks, file, when, numbered),
    timing=timing.get(when, "none"),
    numbered=numbered,
    items=functools.partial(_table, sides["items"]),
    users=functools.partial(_users, sides["users"], sides.get("histories")),
    way=way or f"read from the folder {path.name}",
    licence=licence or f"see the notes of {path.name}",
    place=str(file),
  )


def open_parquet(file: Path, needed: tuple[str, ...]) -> pq.ParquetFile:
  """Opens a Parquet file; raises DataError when it is missing, damaged or lacks a column."""
  try:
    opened = pq.ParquetFile(file)
    names = opened.schema_arrow.names
  except FileNotFoundError:
    raise DataError(f"{file} does not exist.") from None
  except UNREADABLE as error:
    raise DataError(f"{file} cannot be read as Parquet: {first_line(error)}.") from None
  for column in needed:
    if column not in names:
      raise DataError(
        f"{file} has no column {column!r}; its columns are {', '.join(map(shown, names)) or 'none'}."
      )
  if twice := next((name for name in names if names.count(name) > 1), None):
    raise DataError(f"{file} has several columns called {twice!r}.")
  return opened


def _chunks(file: Path, when: str | None, numbered: bool) -> Iterator[Chunk]:
  place, row = str(file), 1
  opened = open_parquet(file, ("user_id", "item_id"))
  try:
    for batch in opened.iter_batches(BATCH_ROWS):
      used = {"user_id", "item_id", when, "order"}
      yield Chunk(
        user=checked_ids(batch["user_id"], numbered, place, "user_id", row),
        item=checked_ids(batch["item_id"], numbered, place, "item_id", row),
        when=None if when is None else checked_when(batch[when], place, when, row),
        columns={
          name: checked_column(batch[name], place, name, row)
          for name in batch.schema.names
          if name not in used
        },
      )
      row += len(batch)
  except UNREADABLE as error:
    raise DataError(f"{file} cannot be read from row {row} on: {first_line(error)}.") from None
  if row - 1 != opened.metadata.num_rows:
    raise DataError(
      f"{file} has {row - 1} rows, but says that it has {opened.metadata.num_rows}: it is damaged."
    )


def _table(file: Path) -> pa.Table | None:
  if not file.exists():
    return None
  try:
    return pq.read_table(file)
  except UNREADABLE as error:
    raise DataError(f"{file} cannot be read: {first_line(error)}.") from None


def _users(file: Path, histories: Path | None) -> pa.Table | None:
  """The user table with the columns of the histories, for the users of either."""
  users, earlier = _table(file), None if histories is None else _table(histories)
  if users is None or earlier is None:
    return users if earlier is None else earlier
  both = set(users.column_names) & set(earlier.column_names) - {"user_id"}
  if both:
    raise DataError(f"{histories} and {file.name} both have a column {min(both)!r}.")
  known, others = (
    pa.array(checked_ids(table["user_id"].combine_chunks(), True, str(place), "user_id", 1))
    for table, place in ((users, file), (earlier, histories))
  )
  if len(pc.unique(others)) < len(others):
    raise DataError(f"{histories} has a user twice.")
  ids = pa.concat_arrays([known, others.filter(pc.invert(pc.is_in(others, value_set=known)))])
  columns = {"user_id": ids}
  for table, own in ((users, known), (earlier, others)):
    row = pc.index_in(ids, value_set=own)
    columns |= {n: table[n].take(row) for n in table.column_names if n != "user_id"}
  return pa.table(columns)

