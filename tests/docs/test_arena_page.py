"""The examples of docs/arena.md run, and its file is one."""

import pathlib
import re

import numpy as np

from recjax.data import vote_table

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "arena.md").read_text()


def test_the_file_can_be_read(tmp_path):
  path = tmp_path / "votes.jsonl"
  path.write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
  table = vote_table.read(path, vote_table.Columns(user="user"), ("words",))
  assert table.models == ("east", "north", "south") and len(table.a) == 2
  assert table.without_vote == 1 and table.counts[0].tolist() == [[210], [95]]


def test_the_examples_run():
  made = {}
  for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
    exec(compile(block, "arena.md", "exec"), made)
  assert abs(made["board"].rating.mean() - 1000) < 1e-9 and np.isfinite(made["board"].low).all()
  assert made["found"]["unreadable"] == 1 and made["found"]["n"] == 4


def test_the_intervals_are_those_there_are():
  from recjax.evaluate import arena

  table = PAGE.split("`--config.intervals=`")[1].split("\n\n")[1]
  assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(arena.INTERVALS)
