"""What the programs of the peers share: arguments, a clock that stops while lists are made, files.

Runs in the virtual environment of a peer, so it imports NumPy and the standard library only.
"""

import argparse
import contextlib
import json
import pathlib
import time


class Clock:
  """Seconds since the process began, less those that are spent inside `paused`."""

  def __init__(self):
    ticks = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    self._begun = time.monotonic() - (uptime - int(ticks) / 100)  # /proc counts in hundredths
    self._out = 0.0

  def seconds(self) -> float:
    """Seconds so far."""
    return time.monotonic() - self._begun - self._out

  @contextlib.contextmanager
  def paused(self):
    """A block that costs no time on this clock."""
    started = time.monotonic()
    yield
    self._out += time.monotonic() - started


def parse(**extra):
  """The arguments of every peer's program, and those that a peer adds: name -> (default, help)."""
  parser = argparse.ArgumentParser()
  for name in ("data", "out"):
    parser.add_argument(f"--{name}", required=True)
  parser.add_argument("--seconds", type=float, required=True)
  for name in ("length", "width", "layers", "heads"):
    parser.add_argument(f"--{name}", type=int, required=True)
  for name, (default, text) in extra.items():
    parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
  parser.add_argument("--list", type=int, default=11)
  parser.add_argument("--seed", type=int, default=0)
  return parser.parse_args()


def write_lists(folder, number, seconds, users, ids, scores, **facts):
  """Stores the lists [n, k] of users [n] as they are at a second of the clock."""
  import numpy as np

  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  np.savez(folder / f"lists_{number:03}.npz", user=users, ids=ids, scores=scores)
  with open(folder / "progress.jsonl", "a") as file:
    file.write(json.dumps({"number": number, "seconds": seconds, **facts}) + "\n")
  print(f"{seconds:7.1f} s  lists {number}  {facts}", flush=True)
