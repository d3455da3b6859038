"""Seconds from the start of a process to its first training step and its first validation.

    python benchmarks/cold_start.py [--repeats 5]

SASRec on MovieLens 100K as its experiment has it, from the command line, watched from outside by what
it prints: with an empty cache of compiled programs and with what the run before left there, in turn.
The data set is fetched and prepared before. Writes docs/results/cold_start.json.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from machine import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT = 6.0  # seconds to the first step, with compiled programs at hand
SETTINGS = {"train.steps": 2, "train.log_every": 1, "train.evaluate_every": 1, "train.patience": 0}
# What a run prints -> what has happened by then.
MARKS = {r"step 1/": "first step", r"validation at step 1:": "first validation"}


def start(cache: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
  """Seconds until each of MARKS, of one process; it is ended after the last."""
  command = [
    sys.executable, "-m", "recjax.main", "--config=experiments/sasrec.py", f"--workdir={workdir}",
    *(f"--config.{key}={value}" for key, value in SETTINGS.items()),
  ]
  environment = {**os.environ, "RECJAX_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
  begun = time.monotonic()
  process = subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  found, printed = {}, []
  for line in process.stdout:
    now = time.monotonic() - begun
    printed.append(line)
    found |= {name: now for mark, name in MARKS.items() if re.search(mark, line)}
    if len(found) == len(MARKS):
      break
  process.kill()
  process.wait()
  process.stdout.close()
  if len(found) < len(MARKS):
    sys.exit(f"The run ended before its first validation:\n{''.join(printed[-20:])}")
  return found


def measure(repeats: int, scratch: pathlib.Path) -> dict[str, list[dict[str, float]]]:
  """Both kinds of start in turn, after one that is not counted."""
  cache = scratch / "cache"
  found = {"nothing compiled": [], "compiled before": []}
  start(cache, scratch / "run")
  for _ in range(repeats):
    for name, seconds in found.items():
      if name == "nothing compiled":
        shutil.rmtree(cache / "compiled")
      shutil.rmtree(scratch / "run")
      seconds.append(start(cache, scratch / "run"))
  return found


def main() -> None:
  """Measures, prints and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--dry", action="store_true", help="print only")
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="cold_start_") as scratch:
    found = measure(arguments.repeats, pathlib.Path(scratch))
  middle = {
    (kind, mark): float(np.median([one[mark] for one in starts]))
    for kind, starts in found.items() for mark in MARKS.values()
  }
  rows = [[kind, *(f"{middle[kind, mark]:.1f}" for mark in MARKS.values())] for kind in found]
  if arguments.dry:
    print(*rows, sep="\n")
    return
  from store import store

  again = middle["compiled before", "first step"]
  store({
    "name": "cold_start", "page": "performance",
    "title": "From the start of a process to its first step",
    "command": "python benchmarks/cold_start.py",
    "note": f"SASRec on MovieLens 100K, on {machine()}; medians of {arguments.repeats}. Imports, "
    "reading the prepared data, compilation and the step itself.",
    "tables": [{"columns": ["", *(f"{mark}, s" for mark in MARKS.values())], "rows": rows}],
    "claims": [{
      "name": "starts at once", "passed": again <= LIMIT,
      "text": f"with compiled programs at hand, the first step ends {again:.1f} s after the start of "
      f"the process, limit {LIMIT:.0f}",
    }],
    "runs": found,
  })


if __name__ == "__main__":
  main()
