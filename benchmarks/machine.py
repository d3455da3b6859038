"""The machine that a benchmark ran on, in a few words."""

import os
import pathlib
import re


def machine() -> str:
  """Processor, cores that this process may use, and memory: "2 cores of AMD EPYC, 24 GiB"."""
  text = pathlib.Path("/proc/cpuinfo").read_text()
  found = re.search(r"model name\s*:\s*(.+)", text)
  name = found.group(1).strip() if found else "an unnamed processor"
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  return f"{len(os.sched_getaffinity(0))} cores of {name}, {memory:.0f} GiB"
