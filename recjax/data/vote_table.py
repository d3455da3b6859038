"""Files of votes, one battle a row: JSON lines (plain or .gz) or Parquet.

A row names two models and who won: "model_a", "model_b", "tie" or "tie (bothbad)" (Search Arena), or
"A", "B", "TIE", "BOTH_BAD" (Music Arena); null is a battle without a vote, which is counted. Counts of
style stand in the columns NAME_a and NAME_b; those of `answer_style` are taken from a battle's
messages_a, messages_b and system_a_metadata.web_search_trace, where there are no such columns. A dot
in a column's name goes into a nested record. Bad rows raise DataError with file, row and column; rows
are counted from 1, blank lines apart.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data import answer_style
from recjax.data.sources.base import first_line
from recjax.data.sources.json_lines import records
from recjax.errors import DataError
from recjax.registry import shown, unknown

LEFT, RIGHT, TIE, BOTH_BAD = range(4)
WINNERS = {
  "model_a": LEFT, "model_b": RIGHT, "tie": TIE, "tie (bothbad)": BOTH_BAD,
  "A": LEFT, "B": RIGHT, "TIE": TIE, "BOTH_BAD": BOTH_BAD,
}
BATCH = 16384  # rows of Parquet at a time
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".ndjson", ".parquet")


class Columns(NamedTuple):
  """Names of a file's columns; an empty one is not read."""

  model_a: str = "model_a"
  model_b: str = "model_b"
  winner: str = "winner"
  user: str = ""
  board: str = ""


DEFAULT = Columns()


class VoteTable(NamedTuple):
  """The votes of a file.

  Attributes:
    models: [M] names, sorted.
    a, b: [V] int, models of the sides.
    outcome: [V] int8, LEFT, RIGHT, TIE or BOTH_BAD.
    user: [V] int, numbered from 0 in order of appearance; None if not read.
    boards: [B] names, sorted, of `board` [V] int; one, "", if not read.
    counts: [V, 2, F] of both sides.
    without_vote: how many battles nobody voted on.
  """

  models: tuple[str, ...]
  a: np.ndarray
  b: np.ndarray
  outcome: np.ndarray
  user: np.ndarray | None
  boards: tuple[str, ...]
  board: np.ndarray
  counts: np.ndarray
  without_vote: int


def read(path: pathlib.Path, columns: Columns = DEFAULT, features: Sequence[str] = ()) -> VoteTable:
  """Reads the votes of a file; DataError, with file, row and column, for what cannot be one."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise DataError(f"{path} does not exist.")
  models, users, boards = _Codes(), _Codes(), _Codes()
  a, b, outcome, user, board, counts = [], [], [], [], [], []
  without_vote = 0
  for row, record in enumerate(_records(path, columns, features), start=1):
    place = f"{path}: row {row}"
    winner = _at(record, columns.winner, place)
    if winner is None:
      without_vote += 1
      continue
    if not isinstance(winner, str) or winner not in WINNERS:
      raise DataError(f"{place}, column '{columns.winner}': {unknown('winner', winner, WINNERS)}")
    left, right = (_text(record, name, place) for name in (columns.model_a, columns.model_b))
    if left == right:
      raise DataError(
        f"{place}, column '{columns.model_b}' holds {shown(left)!r}, which is the other side, too."
      )
    a.append(models.code(left))
    b.append(models.code(right))
    outcome.append(WINNERS[winner])
    if columns.user:
      user.append(users.code(_text(record, columns.user, place)))
    if columns.board:
      board.append(boards.code(_text(record, columns.board, place)))
    for side in "ab":
      counts.extend(_count(record, name, side, place) for name in features)
  if not a:
    raise DataError(f"{path} holds no votes ({without_vote} battles without one).")
  names, place = models.sorted()
  board_names, board_place = boards.sorted() if columns.board else ([""], np.zeros(1, np.int64))
  return VoteTable(
    models=tuple(names),
    a=place[np.array(a)],
    b=place[np.array(b)],
    outcome=np.array(outcome, np.int8),
    user=np.array(user) if columns.user else None,
    boards=tuple(board_names),
    board=board_place[np.array(board)] if columns.board else np.zeros(len(a), np.int64),
    counts=np.array(counts, np.float64).reshape(len(a), 2, len(features)),
    without_vote=without_vote,
  )


class _Codes:
  """Numbers of texts, in order of appearance."""

  def __init__(self):
    self._codes: dict[str, int] = {}

  def code(self, text: str) -> int:
    return self._codes.setdefault(text, len(self._codes))

  def sorted(self) -> tuple[list[str], np.ndarray]:
    """(texts in sorted order, place of each code among them)."""
    names = sorted(self._codes)
    place = np.empty(len(names), np.int64)
    place[[self._codes[name] for name in names]] = np.arange(len(names))
    return names, place


def _records(path: pathlib.Path, columns: Columns, features: Sequence[str]) -> Iterator[Mapping]:
  if not path.name.endswith(SUFFIXES):
    raise DataError(
      f"{path} is neither JSON lines nor Parquet: it ends in none of {', '.join(SUFFIXES)}."
    )
  if path.suffix == ".parquet":
    yield from _parquet_records(path, columns, features)
    return
  for _, record in records(path):
    yield record


def _parquet_records(path, columns: Columns, features: Sequence[str]) -> Iterator[Mapping]:
  try:
    with pq.ParquetFile(path) as file:
      there = file.schema_arrow.names
      wanted = {name.partition(".")[0] for name in columns if name}
      for name in features:
        own = {f"{name}_a", f"{name}_b"}
        raw = {"messages_a", "messages_b", "system_a_metadata", "system_b_metadata"}
        wanted |= own if own <= set(there) or name not in answer_style.FEATURES else raw
      for batch in file.iter_batches(BATCH, columns=[name for name in there if name in wanted]):
        yield from batch.to_pylist()
  except (pa.ArrowException, OSError) as error:
    raise DataError(f"{path} cannot be read: {first_line(error)}") from None


_MISSING = object()


def _at(record: Mapping, column: str, place: str, default: Any = _MISSING) -> Any:
  """The value of a column, or where it is missing the default, without which that is an error."""
  node: Any = record
  if column in record:
    return record[column]
  for name in column.split("."):
    if not isinstance(node, Mapping) or name not in node:
      if default is not _MISSING:
        return default
      raise DataError(f"{place} lacks the column '{column}'; it has {', '.join(map(shown, record))}.")
    node = node[name]
  return node


def _text(record: Mapping, column: str, place: str) -> str:
  value = _at(record, column, place)
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  if not isinstance(value, str) or not value:
    raise DataError(f"{place}, column '{column}' holds {shown(repr(value))}, expected text.")
  return value


def _count(record: Mapping, name: str, side: str, place: str) -> float:
  column = f"{name}_{side}"
  if name in answer_style.FEATURES and _at(record, column, place, None) is None:
    messages = None
    if name == "response_length":
      messages = _messages(record, f"messages_{side}", place)
    trace = _at(record, f"system_{side}_metadata.web_search_trace", place, None)
    return answer_style.feature(name, messages, trace)
  value = _at(record, column, place)
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not 0 <= value < float("inf"):
    raise DataError(f"{place}, column '{column}' holds {shown(repr(value))}, expected a count.")
  return float(value)


def _messages(record: Mapping, column: str, place: str) -> list[dict[str, Any]]:
  messages = _at(record, column, place)
  good = isinstance(messages, list) and all(
    isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
    for m in messages
  )
  if not good:
    raise DataError(f"{place}, column '{column}' is no list of messages with role and content.")
  return messages
