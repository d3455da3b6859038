"""Tables in Markdown."""

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
  """The lines of a table, an empty one last; what would end a cell is escaped."""
  line = lambda cells: "| " + " | ".join(map(_cell, cells)) + " |"
  return [line(head), "|" + " --- |" * len(head), *map(line, rows), ""]


def _cell(value: Any) -> str:
  return str(value).replace("|", "\\|").replace("\n", " ")
