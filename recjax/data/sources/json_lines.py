"""Lines of text (plain or .gz), each an object: JSON, or what Python writes of a dict.

Blank lines are skipped; row numbers count the other lines from 1. Nothing is ever evaluated.
"""

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recjax.data.sources.base import first_line
from recjax.errors import DataError


def records(file: Path, literals: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
  """(number of the row, the object in it) of every row, one at a time.

  Args:
    file: the file.
    literals: whether a row that is no JSON may be a Python literal: text in single quotes, None.

  Raises:
    DataError: from the first step on, naming the row, for what cannot be read.
  """
  opened = gzip.open if file.suffix == ".gz" else open
  row = 0
  try:
    with opened(file, "rt", encoding="utf-8-sig") as stream:
      for line in stream:
        if line.isspace():
          continue
        row += 1
        record = _parsed(line, literals, f"{file}: row {row}")
        if not isinstance(record, dict):
          raise DataError(f"{file}: row {row} is no JSON object.")
        yield row, record
  except DataError:
    raise
  except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
    raise DataError(f"{file} cannot be read after row {row}: {first_line(error)}.") from None


def _parsed(line: str, literals: bool, place: str) -> Any:
  try:
    return json.loads(line)
  except json.JSONDecodeError as error:
    if not literals:
      raise DataError(f"{place} is no JSON: {error.msg}.") from None
  except RecursionError:
    raise DataError(f"{place} is nested too deeply.") from None
  try:
    return ast.literal_eval(line.strip())
  except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
    raise DataError(
      f"{place} is neither JSON nor a Python literal: {first_line(error)}."
    ) from None
