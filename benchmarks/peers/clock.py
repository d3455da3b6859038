"""What the programs of the peers share: a clock that stops while lists are made, and their files.

Runs in the virtual environment of a peer, so it imports NumPy and the standard library only.
"""

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


def write_lists(folder, number, seconds, users, ids, scores, **facts):
  """Stores the lists [n, k] of users [n] as they are at a second of the clock."""
  import numpy as np

  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  np.savez(folder / f"lists_{number:03}.npz", user=users, ids=ids, scores=scores)
  with open(folder / "progress.jsonl", "a") as file:
    file.write(json.dumps({"number": number, "seconds": seconds, **facts}) + "\n")
  print(f"{seconds:7.1f} s  lists {number}  {facts}", flush=True)
