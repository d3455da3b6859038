"""Disks that are full, over a quota or read-only: one sentence, then the same command goes on."""

import resource
import shutil
import signal

import leftovers
import numpy as np
import pytest
import running

from recjax.data.load import load
from recjax.errors import StorageError, writing
from recjax.programs.evaluate import evaluate
from recjax.programs.train import train

pytestmark = leftovers.COLLECTED


def bytes_of(folder):
  """What a folder takes on a disk of pages."""
  return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*"))


def grow(disk, finished, shares):
  """Runs on a disk that grows to each share of what a run takes, then to plenty.

  Every refusal is one sentence that names what is in the workdir. Returns the refusals.
  """
  size, small = bytes_of(finished), disk(4096)
  workdir, refusals = small.folder / "run", []
  for share in shares:
    small.change(f"size={int(share * size) + 4096}")
    try:
      train(running.short_config(), workdir)
    except StorageError as error:
      refusals.append(str(error))
      assert str(workdir) in str(error) and "\n" not in str(error)
      assert "cannot be written (No space left on device" in str(error)
      assert "the same command goes on" in str(error)
      assert not (workdir / "report.json").exists()
  small.change(f"size={20 * size}")
  train(running.short_config(), workdir)
  running.assert_same(finished, workdir)
  return refusals


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(disk, finished):
  refusals = grow(disk, finished, (0.0, 0.5))
  assert len(set(refusals)) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_disks_of_many_sizes(disk, finished, outcome):
  refusals = grow(disk, finished, np.linspace(0, 1, 25))
  assert len(set(refusals)) >= 4, refusals
  outcome("full disk", len(refusals), "refused in a sentence; with room, went on to a bit-equal end")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quota_is_a_sentence_of_the_command(unbroken, tmp_path, outcome):
  """No file may grow beyond 20 KiB, as under some quotas; the command is then run without."""
  process = running.start(tmp_path)
  running.when(process, lambda: (tmp_path / "config.json").exists(), signal.SIGCONT)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20 << 10, resource.RLIM_INFINITY))
  _, said = running.end(process, 1)
  assert "Traceback" not in said
  last = said.strip().split("\n")[-1]
  assert last.startswith(f"recjax: {tmp_path}/") and "cannot be written (File too large)" in last
  running.run(tmp_path)
  running.assert_same(unbroken(), tmp_path)
  outcome("quota on the size of files", 1, "refused in a sentence; without, went on to a bit-equal end")


def test_a_full_cache_stops_the_preparation_and_room_lets_it_go_on(disk, tmp_path, outcome):
  data = {"name": "planted", "num_users": 3000, "seed": 1}
  expected = load({**data, "cache": str(tmp_path / "plenty")})
  small = disk(4096)
  refusals = []
  for size in range(0, 1 << 20, 64 << 10):
    small.change(f"size={size + 8192}")
    try:
      load({**data, "cache": str(small.folder)})
    except StorageError as error:
      refusals.append(str(error))
      assert str(small.folder / "prepared") in str(error) and "\n" not in str(error)
  small.change("size=16m")
  found = load({**data, "cache": str(small.folder)})
  assert len(refusals) >= 3
  for field in ("indptr", "item", "time"):
    np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
  outcome("full disk under the cache", len(refusals), "refused in a sentence; with room, went on")


def test_a_read_only_disk_is_named(disk, finished, outcome):
  frozen = disk(20 * bytes_of(finished))
  begun, done = frozen.folder / "begun", frozen.folder / "done"
  shutil.copytree(finished, begun)
  (begun / "report.json").unlink()
  shutil.copytree(finished, done)
  frozen.change("ro")
  for workdir in (begun, frozen.folder / "new"):
    with pytest.raises(StorageError, match=rf"{workdir} cannot be written \(Read-only") as said:
      train(running.short_config(), workdir)
    assert "\n" not in str(said.value)
  # What only reads works.
  assert train(running.short_config(), done)["status"] == "finished"
  with pytest.raises(StorageError, match="done/evaluation.json cannot be written"):
    evaluate(None, done)
  frozen.change("rw")
  train(running.short_config(), begun)
  running.assert_same(finished, begun)
  outcome("read-only workdir: begun, new", 2, "refused in a sentence; finished runs are still read")


def test_a_workdir_that_cannot_be_is_named(tmp_path):
  """Below a plain file there is no folder, for root neither."""
  (tmp_path / "file").write_text("")
  workdir = tmp_path / "file" / "run"
  with pytest.raises(StorageError, match=f"{workdir} cannot be written .Not a directory"):
    train(running.short_config(), workdir)


def test_only_what_is_written_is_blamed(tmp_path):
  with pytest.raises(FileNotFoundError), writing(tmp_path / "report.json"):
    open("/nowhere/source.parquet", "rb")
  with pytest.raises(KeyError), writing(tmp_path):
    raise KeyError("no words of the system")
