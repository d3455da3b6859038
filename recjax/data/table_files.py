"""Tables of ids, numbers and text from files that other programs write.

    .parquet            typed columns
    .csv .tsv           with a header line, also .gz
    .run                TREC run: user Q0 item rank score tag, no header
    .qrels              TREC judgements: user 0 item relevance, no header

Ids may be numbers or text and become text. Columns that nobody asks for are left unread.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data.sources import text_table
from recjax.data.sources.base import checked_column, checked_ids, first_line
from recjax.data.sources.folder import BATCH_ROWS, UNREADABLE, open_parquet
from recjax.errors import DataError
from recjax.registry import unknown

TREC = {
  ".run": ("user_id", "q0", "item_id", "rank", "score", "tag"),
  ".qrels": ("user_id", "iteration", "item_id", "relevance"),
}
FORMS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", *TREC)


def read_table(
  path: str | Path,
  ids: Sequence[str],
  numbers: Sequence[str] = (),
  optional: Collection[str] = (),
  rest: bool = False,
) -> dict[str, np.ndarray]:
  """The columns of a file by name, all [n].

  Args:
    path: the file; its ending says what it is.
    ids: columns of ids; they become str arrays.
    numbers: columns of numbers; they become float64.
    optional: those of `numbers` that may be missing.
    rest: whether all other columns are read, too, as text.

  Raises:
    DataError: no such file, an unknown ending, a column that is missing or there twice, an id or a
      number that is none; with file, column and row.
  """
  file = Path(path)
  if not file.is_file():
    raise DataError(f"{file} does not exist.")
  form = next((end for end in FORMS if file.name.endswith(end)), None)
  if form is None:
    raise DataError(f"{file}: " + unknown("ending", file.suffix, FORMS))
  names, blocks = _parquet(file) if form == ".parquet" else _text(file, form)
  wanted = [*ids, *(n for n in numbers if n in names or n not in optional)]
  for name in wanted:
    if name not in names:
      raise DataError(f"{file}: " + unknown("column", name, names))
  others = [n for n in names if n not in wanted] if rest else []
  for name in (*wanted, *others):
    if names.count(name) > 1:
      raise DataError(f"{file} has several columns called {name!r}.")
  parts: dict[str, list[np.ndarray]] = {name: [] for name in (*wanted, *others)}
  place = str(file)
  for row, batch in blocks([*wanted, *others]):
    for name in ids:
      parts[name].append(checked_ids(batch[name], False, place, name, row))
    for name in wanted[len(ids):]:
      values = batch[name]
      if form != ".parquet":
        values = text_table.numbers(values, place, name, row)
      elif not pa.types.is_integer(values.type) and not pa.types.is_floating(values.type):
        raise DataError(f"{file}: column {name!r} holds {values.type}, but numbers are needed.")
      values = values.cast(pa.float64())
      parts[name].append(checked_column(values, place, name, row))
    for name in others:
      parts[name].append(checked_column(_as_text(batch[name]), place, name, row))
  if not parts[wanted[0]]:
    raise DataError(f"{file} has no rows.")
  return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _text(file: Path, form: str):
  """(column names, names -> blocks) of a text file."""
  header = TREC.get(form, ())
  separator = "\t" if form.startswith(".tsv") else ","
  if header:
    try:
      with file.open(encoding="utf-8") as stream:
        separator = "\t" if "\t" in stream.readline() else " "
    except UnicodeDecodeError:
      raise DataError(f"{file} is no UTF-8 text: its first line has other bytes.") from None
  names = text_table.columns(file, separator, header)
  return names, lambda _: text_table.blocks(file, separator, header)


def _parquet(file: Path):
  """(column names, names -> blocks) of a Parquet file."""
  opened = open_parquet(file, ())

  def blocks(columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    row = 1
    try:
      for batch in opened.iter_batches(BATCH_ROWS, columns=columns):
        yield row, batch
        row += len(batch)
    except UNREADABLE as error:
      raise DataError(f"{file} cannot be read from row {row} on: {first_line(error)}.") from None

  return opened.schema_arrow.names, blocks


def _as_text(values: pa.Array) -> pa.Array:
  """Values as text; a missing one stays missing."""
  if pa.types.is_dictionary(values.type):
    values = values.dictionary_decode()
  return values.cast(pa.string())
