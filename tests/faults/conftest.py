"""Disks of a given size, where this process may mount them."""

import json
import pathlib
import subprocess

import pytest


class Disk:
  """A disk in memory, mounted on a folder."""

  def __init__(self, folder: pathlib.Path, size: int):
    self.folder = folder
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "recjax-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
      pytest.skip(f"this process may not mount a disk of its own: {done.stderr.strip()}")

  def change(self, options: str) -> None:
    """Mounts it anew with other options: size=BYTES, ro, rw."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

  def remove(self) -> None:
    """Unmounts it, also while files are open."""
    subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def outcome(record_property):
  """(fault, how often, what came of it) -> a row of docs/reliability.md; see benchmarks/faults.py."""
  return lambda *row: record_property("row", json.dumps(row))


@pytest.fixture
def disk(tmp_path):
  """bytes -> an empty disk of that size."""
  made = []

  def make(size: int) -> Disk:
    made.append(Disk(tmp_path / f"disk{len(made)}", size))
    return made[-1]

  yield make
  for one in made:
    one.remove()
