"""The example of docs/fairness.md runs and prints what the page says; its measures exist."""

import pathlib
import re

from recjax.evaluate.fairness import NAMES

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "fairness.md").read_text()


def test_the_example_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  code, printed = re.search(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", PAGE, re.DOTALL).groups()
  exec(compile(code, "docs/fairness.md", "exec"), {})
  assert capsys.readouterr().out == printed
  assert (tmp_path / "frontier.png").exists()


def test_every_measure_of_items_has_a_row():
  section = PAGE.split("## Items")[1].split("\n## ")[0]
  rows = [line.split("|")[2] for line in section.split("\n") if line.startswith("| ")][2:]
  named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
  stem = lambda name: name.split("_o")[0]
  assert {stem(name) for name in named} == {stem(name) for name in NAMES}
  for name in named:
    assert name in NAMES or f"{name}_our" in NAMES
