"""Faults injected into runs, at full size, and what came of each.

    python benchmarks/faults.py [--only kill,disks]

The faults are the tests of tests/faults, the long ones included; the default suite runs their short
versions. A test that passes says what it injected, how often and what came of it, and that is a row of
the table; a test that fails is a row, too. Parts that were not run keep what is stored of them. Writes
docs/results/faults.json and docs/reliability.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import Any

from machine import machine
from store import store

from recjax.programs.results import FOLDER

# Part -> what is claimed of it; the part is the file tests/faults/test_PART.py.
PARTS = {
  "kill": "runs that are killed or told to stop at any moment end bit-equal to one that was not",
  "disks": "full and read-only disks and quotas are said in a sentence; with room the run goes on",
  "torn": "a file that is torn or flipped is refused in a sentence or changes nothing",
  "two_runs": "a second run in a workdir is refused, and the death of the first lets go of it",
  "clock": "jumps of the clock change nothing",
  "hosts": "when one host of two dies the other ends by itself, and both go on bit-equal",
  "diverged": "a step that is not finite stops the run and spoils nothing",
  "memory": "what does not fit in memory is refused by the names of the largest arrays",
}
# Tests fix their own limits; this one is for what hangs outside of them.
HOURS = 6


def run(part: str) -> dict[str, Any]:
  """Runs the tests of a part; its rows, and how many tests passed, failed and were skipped."""
  with tempfile.TemporaryDirectory() as folder:
    found = pathlib.Path(folder) / "found.xml"
    command = [
      sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "not network",
      f"--junitxml={found}", f"tests/faults/test_{part}.py",
    ]
    subprocess.run(command, check=False, timeout=3600 * HOURS)
    if not found.is_file():
      sys.exit(f"The tests of {part} gave no result.")
    return read(ElementTree.parse(found).getroot())


def read(tree: ElementTree.Element) -> dict[str, Any]:
  """What a JUnit file says."""
  rows, counts, seconds = [], {"passed": 0, "failed": 0, "skipped": 0}, 0.0
  for case in tree.iter("testcase"):
    name, seconds = case.get("name", ""), seconds + float(case.get("time", 0))
    if case.find("failure") is not None or case.find("error") is not None:
      counts["failed"] += 1
      rows.append([name, 1, "**failed**"])
    elif (skipped := case.find("skipped")) is not None:
      counts["skipped"] += 1
      rows.append([name, 0, f"not done: {skipped.get('message', '')}"])
    else:
      counts["passed"] += 1
      rows += [
        json.loads(p.get("value", "")) for p in case.iter("property") if p.get("name") == "row"
      ]
  return {"rows": rows, **counts, "seconds": seconds}


def result(parts: dict[str, Any]) -> dict[str, Any]:
  """The stored form, from what was found in each part."""
  known = {name: parts[name] for name in PARTS if name in parts}
  claims = [
    {
      "name": name, "passed": found["failed"] == 0 and found["passed"] > 0,
      "text": f"{PARTS[name]}: {found['passed']} tests passed, {found['failed']} failed, "
      f"{found['skipped']} could not be done here",
    }
    for name, found in known.items()
  ]
  return {
    "name": "faults",
    "page": "reliability",
    "title": "Faults injected, and what came of them",
    "command": "python benchmarks/faults.py",
    "note": f"{machine()}. Bit-equal: variables, metrics, the values of every case and every logged "
    "value are those of a run that met no fault. What a run logs (`metrics.jsonl`, `tensorboard/`) is "
    "not protected against flipped bits: a line that cannot be read is left out with a warning.",
    "tables": [{
      "columns": ["part", "fault", "times", "outcome"],
      "rows": [[name, *row] for name, found in known.items() for row in found["rows"]],
    }],
    "claims": claims,
    "left_out": [name for name in PARTS if name not in parts],
    "parts": known,
  }


def main() -> None:
  """Runs the parts that are asked for and stores them beside the others."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
  chosen = parser.parse_args().only.split(",")
  for part in chosen:
    if part not in PARTS:
      sys.exit(f"What is {part!r}? Known: {', '.join(PARTS)}.")
  stored = FOLDER / "faults.json"
  for part in chosen:
    found = run(part)
    parts = json.loads(stored.read_text())["parts"] if stored.is_file() else {}
    store(result({**parts, part: found}))


if __name__ == "__main__":
  main()
