"""What processes hold: memory, open files and threads, from Linux's /proc."""

import os
import pathlib
import threading
from collections.abc import Iterator

_FIELDS = {"Pss": "resident", "Pss_Anon": "own", "Pss_File": "mapped"}


def holdings(pid: int) -> dict[str, int]:
  """Of a process and all that descend from it: bytes, open files, threads.

  `resident` is all of the memory, a page that several processes share counted once; `own` what no file
  backs; `mapped` pages of files, which the system takes back when it needs them.
  """
  found = dict.fromkeys((*_FIELDS.values(), "files", "threads"), 0)
  for process in family(pid):
    folder = pathlib.Path("/proc") / str(process)
    try:
      text = (folder / "smaps_rollup").read_text()
      found["files"] += len(os.listdir(folder / "fd"))
      found["threads"] += len(os.listdir(folder / "task"))
    except OSError:  # it ended meanwhile
      continue
    for line in text.split("\n"):
      name, _, value = line.partition(":")
      if name in _FIELDS:
        found[_FIELDS[name]] += int(value.split()[0]) * 1024
  return found


def family(pid: int) -> Iterator[int]:
  """The process and its descendants."""
  yield pid
  try:
    for task in os.listdir(f"/proc/{pid}/task"):
      for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split():
        yield from family(int(child))
  except OSError:
    return


class Peak(threading.Thread):
  """The most that a process and its descendants hold while the context is open."""

  def __init__(self, pid: int, every: float = 0.2):
    super().__init__(daemon=True)
    self._pid, self._every, self._end = pid, every, threading.Event()
    self.most: dict[str, int] = {}

  def run(self) -> None:
    """Looks again and again."""
    while True:
      for name, value in holdings(self._pid).items():
        self.most[name] = max(value, self.most.get(name, 0))
      if self._end.wait(self._every):
        return

  def __enter__(self) -> "Peak":
    self.start()
    return self

  def __exit__(self, *_) -> None:
    self._end.set()
    self.join()
