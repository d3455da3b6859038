"""Item and user tables: from Arrow columns of the source to arrays indexed by id.

Row 0 is padding. Where a table has no row or no value for an id, integers are 0, floats NaN and
strings empty; both cases are counted. Text is a fixed-width str array, or a NumPy
`StringDType` one where long values would make that large. Lists of whole numbers become a matrix:
as they are when all are of one length (semantic ids), else padded with 0 where no value is below
1. Lists of other numbers, all of one length (content vectors), become one of float32, NaN where an id
has no row. Columns that would be too large or fit none of this are left out, and the reason is
reported.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.sources.base import is_str, is_text, to_str
from recjax.errors import DataError

# A matrix made from lists may take this many bytes.
LARGEST_MATRIX = 256 << 20
# Text columns of users with at most this many values, none longer than this, become codes.
MOST_CODES = 100
LONGEST_NAME = 64
CATEGORY_COLUMNS = ("category_id", "genres", "categories", "category")


class SideTable(NamedTuple):
  """Columns of items or users.

  Attributes:
    columns: arrays [size, ...] by name; always `raw`, for items also `label`.
    vocabularies: size, padding included, of every column that can be embedded.
    names: what the codes of such a column stand for, from code 0 (none) on.
    left_out: reason by column that is not kept.
    missing: number of empty values by column, where there are any.
    without_row: ids that the table does not have (all of them when there is no table).
  """

  columns: dict[str, np.ndarray]
  vocabularies: dict[str, int]
  names: dict[str, list[str]]
  left_out: dict[str, str]
  missing: dict[str, int]
  without_row: int


def item_table(table: pa.Table | None, ids: np.ndarray, raw: np.ndarray, place: str) -> SideTable:
  """Arrays for items; see `_side_table`. Adds `label` and, from a genre, `category`.

  `label` is the title, with the year behind it where the title does not have it yet; without a
  title it is the raw id. `category` is coded from the first of `category_id`, `genres`,
  `categories` and `category` that the table has; of a text like "Action|Drama" the first part.
  """
  made = _side_table(table, ids, raw, "item", place)
  columns = made.columns
  columns["label"] = _labels(columns)
  source = next((name for name in CATEGORY_COLUMNS if name in columns), None)
  if source is None or columns[source].ndim != 1:
    return made
  values = columns[source]
  if is_str(values):
    values = np.array([value.partition("|")[0] for value in values.tolist()], np.str_)
    present = values != ""
  elif values.dtype.kind in "iu":
    present = np.zeros(len(values), np.bool_)
    present[ids] = True
  else:
    return made
  columns["category"], names = codes(values, present)
  made.vocabularies["category"] = len(names)
  made.names["category"] = names
  return made


def user_table(
  table: pa.Table | None, ids: np.ndarray, raw: np.ndarray, place: str, taken: Collection[str] = ()
) -> SideTable:
  """Arrays for users; see `_side_table`. Text with few values is coded under its own name.

  Names in `taken` stay text: a vocabulary of that name could be mistaken for one of items.
  """
  made = _side_table(table, ids, raw, "user", place)
  for name, values in list(made.columns.items()):
    if not is_str(values) or name in ("raw", "item", "user", "category", *taken):
      continue
    coded, names = codes(values, values != "")
    if 1 < len(names) <= MOST_CODES + 1 and max(map(len, names)) <= LONGEST_NAME:
      made.columns[name] = coded
      made.vocabularies[name] = len(names)
      made.names[name] = names
  return made


def codes(values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Codes int32 [n] from 1 in sorted order of `values`, 0 where not `present`; names from 0 on."""
  names, inverse = np.unique(values[present], return_inverse=True)
  coded = np.zeros(len(values), np.int32)
  coded[present] = inverse + 1
  return coded, ["", *(str(name) for name in names)]


def keep_rows(made: SideTable, rows: np.ndarray) -> SideTable:
  """The same table with only `rows` (row 0 first), for logs that were renumbered."""
  return made._replace(columns={name: column[rows] for name, column in made.columns.items()})


def _side_table(
  table: pa.Table | None, ids: np.ndarray, raw: np.ndarray, kind: str, place: str
) -> SideTable:
  """Places the rows of `table` at `ids` [rows]; `raw` [size] are the raw ids, "" for padding.

  A column `<kind>_raw` of the table replaces `raw`. Raises DataError when an id occurs twice.
  """
  made = SideTable({}, {}, {}, {}, {}, 0)
  size = len(raw)
  has_row = np.zeros(size, np.bool_)
  has_row[ids] = True
  if len(ids) != has_row.sum():
    unique, first = np.unique(ids, return_index=True)
    row = int(np.setdiff1d(np.arange(len(ids)), first)[0])
    raise DataError(
      f"{place}: column '{kind}_id', row {row + 1} holds {raw[ids[row]]}, which an earlier row "
      "has already."
    )
  for name in table.column_names if table is not None else ():
    if name == f"{kind}_id":
      continue
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
      column = column.dictionary_decode()
    if column.null_count:
      made.missing[name] = column.null_count
    placed = _place(column, ids, has_row)
    if isinstance(placed, str):
      made.left_out[name] = placed
    else:
      made.columns[name] = placed
  own = made.columns.pop(f"{kind}_raw", None)
  if own is not None:
    own = own if is_str(own) else own.astype(np.str_)
    raw = np.where((own == "") | ~has_row, raw, own)
  made.columns["raw"] = raw
  return made._replace(without_row=int(size - 1 - has_row.sum()))


def _place(column: pa.Array, ids: np.ndarray, has_row: np.ndarray) -> np.ndarray | str:
  """The column as an array [size, ...], or the reason why it cannot be one."""
  kind, size = column.type, len(has_row)
  if is_text(kind):
    column = pc.fill_null(column, "")
    values = to_str(column)
    placed = np.zeros(size, values.dtype)
    placed[ids] = values
    return placed
  if pa.types.is_boolean(kind):
    placed = np.zeros(size, np.bool_)
    placed[ids] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return placed
  if pa.types.is_integer(kind):
    placed = np.zeros(size, kind.to_pandas_dtype())
    placed[ids] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return placed
  if pa.types.is_floating(kind):
    placed = np.full(size, np.nan, kind.to_pandas_dtype())
    placed[0] = 0
    placed[ids] = column.to_numpy(zero_copy_only=False)
    return placed
  if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
    return _place_lists(column, ids, size)
  return f"{kind} is neither number, text nor list"


def _place_lists(column: pa.Array, ids: np.ndarray, size: int) -> np.ndarray | str:
  values = column.flatten()
  vectors = pa.types.is_floating(values.type)
  if not (vectors or pa.types.is_integer(values.type)) or values.null_count:
    return f"{column.type} is not a list of numbers"
  lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
  values = values.to_numpy(zero_copy_only=False)
  width = int(lengths.max(initial=0))
  if width == 0:
    return "all lists are empty"
  if vectors and lengths.min() != width:
    return "lists of fractions differ in length"
  values = values.astype(np.float32) if vectors else values
  if lengths.min() != width and values.min() < 1:
    return "lists differ in length and hold values below 1, so 0 cannot pad them"
  if values.itemsize * width * size > LARGEST_MATRIX:
    return f"lists of up to {width} numbers are too long for a matrix"
  placed = np.zeros((size, width), values.dtype)
  if vectors:
    placed[1:] = np.nan
  row = np.repeat(np.arange(len(lengths)), lengths)
  offset = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
  placed[ids[row], offset] = values
  return placed


def _labels(columns: Mapping[str, np.ndarray]) -> np.ndarray:
  raw, title = columns["raw"], columns.get("title")
  if title is None or not is_str(title):
    return raw.copy()
  label = np.where(title == "", raw, title)
  year = columns.get("year")
  if year is not None and year.dtype.kind in "iu":
    suffix = np.strings.add(np.strings.add(" (", year.astype(np.str_)), ")")
    has_it = np.strings.find(title, np.strings.add("(", year.astype(np.str_))) >= 0
    label = np.where((year > 0) & (title != "") & ~has_it, np.strings.add(label, suffix), label)
  label[0] = ""
  return label
