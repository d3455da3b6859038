"""Stored results, docs/results/NAME.json, and the pages made from them.

A result names its page, one of PAGES; proofs have none and stand on docs/results.md. What was measured
of performance and reliability also stands in README.md, between two marks.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from recjax.evaluate import markdown
from recjax.train.writers import plain, write_json

FOLDER = pathlib.Path("docs/results")
PAGES = {
  "results": "# Results\n\nMade from `docs/results/*.json` by the commands shown; not edited by hand. "
  "`p` is the Holm-corrected paired t-test against the reference arm, over users where "
  "the metric has a value per user, else over seeds.\n",
  "performance": "# Performance\n\nMade from `docs/results/*.json` by the commands shown; not edited "
  "by hand. Times are of one machine, named with each table: what carries over to another is the ratio "
  "of two times of one run.\n",
  "reliability": "# Reliability\n\nMade from `docs/results/*.json` by the commands shown; not edited "
  "by hand. What is injected, how often, and what came of it.\n",
}

MARKS = ("<!-- measured: made from docs/results -->", "<!-- end of what was measured -->")


def write_result(result: Mapping[str, Any]) -> None:
  """Stores a result under its name and makes the pages anew."""
  FOLDER.mkdir(parents=True, exist_ok=True)
  write_json(FOLDER / f"{result['name']}.json", plain(result))
  write_pages()


def write_pages() -> None:
  """Makes docs/PAGE.md of every page from its stored results, and README's list of claims."""
  stored = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
  for page, head in PAGES.items():
    own = [section(result) for result in stored if result.get("page", "results") == page]
    if own:
      FOLDER.with_name(f"{page}.md").write_text("\n".join([head, *own]))
  readme = FOLDER.parents[1] / "README.md"
  if readme.is_file():
    readme.write_text(with_claims(readme.read_text(), stored))


def with_claims(text: str, stored: list[Mapping[str, Any]]) -> str:
  """The text with what results say of performance and reliability between MARKS, where it has them."""
  before, begin, rest = text.partition(MARKS[0])
  _, end, after = rest.partition(MARKS[1])
  if not end:
    return text
  lines = [
    f"- {result['title']}: {'; '.join(_claim(claim) for claim in result['claims'])}."
    for page in PAGES for result in stored
    if page != "results" and result.get("page") == page and result.get("claims")
  ]
  return "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"])


def _claim(claim: Mapping[str, Any]) -> str:
  return claim["text"] if claim["passed"] else f"**not met**: {claim['text']}"


def section(result: Mapping[str, Any]) -> str:
  """A result as Markdown."""
  lines = [f"## {result['title']}", "", f"`{result['command']}`", ""]
  if result.get("note"):
    lines += [result["note"], ""]
  for table in result.get("tables", ()):
    lines += _table(table)
  for claim in result.get("claims", ()):
    lines.append(f"- {'holds' if claim['passed'] else '**fails**'}: {claim['text']}")
  if result.get("left_out"):
    lines.append(f"- not run yet: {', '.join(result['left_out'])}")
  return "\n".join(lines) + "\n"


def _table(table: Mapping[str, Any]) -> list[str]:
  if "columns" in table:
    head, rows = table["columns"], table["rows"]
  else:
    head = ["", *table["metrics"], "p", "parameters", "train s"]
    rows = [_row(row, table) for row in table["rows"]]
  caption = table.get("world") or table.get("caption", "")
  if table.get("seeds"):
    caption += f", seeds {table['seeds'][0]} to {table['seeds'][-1]}"
  lines = [f"**{caption}**", ""] if caption else []
  return lines + markdown.table(head, rows)


def _row(row: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
  cells = [row["arm"]]
  for metric in table["metrics"]:
    value = row[metric]
    if value["mean"] is None:  # not defined for this arm
      cells.append("–")
      continue
    spread = f" ± {value['std']:.4f}" if value["std"] else ""
    cells.append(f"{value['mean']:.4f}{spread}")
  test = (row.get("paired") or {}).get(table["metrics"][0])
  cells.append("reference" if row["arm"] == table["reference"] else (
    f"{_p_value(test):.2g}" if test else "–"
  ))
  return [*cells, f"{row['parameters']:,}", f"{row['train_seconds']:.0f}"]


def _p_value(test: Mapping[str, Any]) -> float:
  """Over users where there are values per user, else over seeds."""
  over_users = test.get("t_p_holm")
  return over_users if over_users is not None else test.get("over_seeds_t_p_holm") or float("nan")
