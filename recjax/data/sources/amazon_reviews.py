"""Reviews and metadata of products as Amazon's were published in 2014: an object a line.

    reviews   {"reviewerID": "A2...", "asin": "B00...", "unixReviewTime": 1400000000, ...}
    metadata  {'asin': 'B00...', 'categories': [['Electronics', 'Cables'], ...], ...}

Every review is an event; rating and text are not read. The files of reviews are JSON, those of metadata
what Python writes of a dict; both are read either way. A product has one category: the last name of its
last path (as DIN's authors take it) or of its first (as DIEN's do). Products without a review go,
because `core` is 1 here.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data.sources.base import Chunk, Common, Source, data_file, fingerprint, to_str
from recjax.data.sources.json_lines import records
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count
from recjax.registry import shown, unknown

PATHS = {"last": -1, "first": 0}
_ROWS = 1 << 17  # of a chunk


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for reviews."""

  # The reviews, .json or .json.gz, as they are or below the data root.
  path: str = ""
  # The metadata, likewise; empty: items have no category.
  metadata: str = ""
  # The category path whose last name is the product's category: "last" or "first".
  category_path: str = "last"
  core: Count = 1


def open_source(config: Config) -> Source:
  """Opens both files; raises ConfigError for bad keys and DataError for missing files."""
  if config.category_path not in PATHS:
    raise ConfigError(unknown("value of config.data.category_path", config.category_path, PATHS))
  file = data_file(config.path, config.folder, "config.data.path is empty: name the file of reviews")
  metadata = None
  if config.metadata:
    metadata = data_file(config.metadata, config.folder, "")
  parts = () if metadata is None else (config.category_path, metadata)
  return Source(
    name=file.name.split(".")[0],
    fingerprint=fingerprint("amazon_reviews", file, *parts),
    chunks=functools.partial(_chunks, file),
    timing="time",
    numbered=False,
    items=functools.cache(functools.partial(_items, metadata, PATHS[config.category_path])),
    way=f"read from {file.name}" + (f" and {metadata.name}" if metadata else ""),
    licence="not stated by the publisher; customarily for research",
    place=str(file),
  )


def _chunks(file: Path) -> Iterator[Chunk]:
  user, item, when = [], [], []

  def chunk() -> Chunk:
    made = Chunk(to_str(pa.array(user)), to_str(pa.array(item)), np.array(when, np.int64), {})
    for column in (user, item, when):
      column.clear()
    return made

  for row, record in records(file, literals=True):
    user.append(_id(record, "reviewerID", file, row))
    item.append(_id(record, "asin", file, row))
    when.append(_seconds(record, file, row))
    if len(user) == _ROWS:
      yield chunk()
  if user:
    yield chunk()


def _items(file: Path | None, path: int) -> pa.Table | None:
  """Products with their category, missing where they have no path."""
  if file is None:
    return None
  category: dict[str, str | None] = {}
  for row, record in records(file, literals=True):
    item = _id(record, "asin", file, row)
    if item in category:
      raise DataError(f"{file}: field 'asin', row {row} holds {item!r}, which an earlier row has.")
    category[item] = _category(record, path, file, row)
  if not any(category.values()):
    raise DataError(f"{file}: no row has a category in the field 'categories'.")
  return pa.table({"item_id": list(category), "category": list(category.values())})


def _id(record: dict[str, Any], field: str, file: Path, row: int) -> str:
  value = _value(record, field, file, row)
  # NumPy drops NUL at the end of text, so that two ids would become one.
  if not isinstance(value, str) or not value.strip() or "\0" in value:
    raise DataError(f"{file}: field {field!r}, row {row} holds {_short(value)}, which is no id.")
  return value


def _seconds(record: dict[str, Any], file: Path, row: int) -> int:
  value = _value(record, "unixReviewTime", file, row)
  if type(value) is not int or abs(value) >= 2**62:
    raise DataError(
      f"{file}: field 'unixReviewTime', row {row} holds {_short(value)}, which is no time in whole "
      "seconds."
    )
  return value


def _category(record: dict[str, Any], path: int, file: Path, row: int) -> str | None:
  paths = record.get("categories")
  if paths is None or paths == []:
    return None
  names = paths[path] if isinstance(paths, list) else None
  if not isinstance(names, list) or not names or not isinstance(names[-1], str):
    raise DataError(
      f"{file}: field 'categories', row {row} holds {_short(paths)}, which are no paths of names."
    )
  # An item table takes what is before a bar as the category.
  return names[-1].replace("|", "/") or None


def _value(record: dict[str, Any], field: str, file: Path, row: int) -> Any:
  if field not in record:
    raise DataError(
      f"{file}: row {row} lacks the field {field!r}; it has "
      f"{', '.join(map(shown, map(str, record))) or 'none'}."
    )
  return record[field]


def _short(value: Any) -> str:
  return shown(repr(value))
