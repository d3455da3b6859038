"""The floors of docs/architecture.md, against the imports that the code makes."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def documented():
  """Package -> packages it may import, from the table under "Floors"."""
  page = (ROOT / "docs" / "architecture.md").read_text()
  section = page.split("## Floors")[1].split("\n## ")[0]
  rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
  return {name: set(re.findall(r"`(\w+)`", cells)) for name, cells in rows}


def measured():
  """Package -> packages it imports, anywhere in its files."""
  found = {}
  for path in (ROOT / "recjax").rglob("*.py"):
    parts = path.relative_to(ROOT / "recjax").with_suffix("").parts
    if parts == ("__init__",):
      continue
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module == "recjax":
        names += [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recjax."):
        names.append(node.module.split(".")[1])
      elif isinstance(node, ast.Import):
        names += [a.name.split(".")[1] for a in node.names if a.name.startswith("recjax.")]
    found.setdefault(parts[0], set()).update(set(names) - {parts[0]})
  return found


def test_every_package_keeps_to_its_floor():
  assert measured() == documented()


def test_floors_have_no_cycle():
  below = documented()
  while below:
    lowest = [name for name, needs in below.items() if not needs & below.keys()]
    assert lowest, f"these import one another: {sorted(below)}"
    below = {name: needs for name, needs in below.items() if name not in lowest}
