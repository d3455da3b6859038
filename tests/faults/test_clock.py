"""The wall clock jumps by hours in the middle of a run: the run does not care."""

import os
import signal
import time

import numpy as np
import pytest
import running

from recjax.train.writers import read_metrics

# Read by Python at its start: the clock of the process jumps once a file is there.
JUMP = """
import os, time
real, real_ns = time.time, time.time_ns
off = lambda: {hours} * 3600 if os.path.exists({trigger!r}) else 0
time.time = lambda: real() + off()
time.time_ns = lambda: real_ns() + off() * 10**9
"""


def jumping(folder, hours, trigger):
  """Environment of a process whose clock jumps by hours when the file `trigger` appears."""
  folder.mkdir()
  (folder / "sitecustomize.py").write_text(JUMP.format(hours=hours, trigger=str(trigger)))
  return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
  "first, second", [(-5, 5), pytest.param(5, -5, marks=pytest.mark.slow)], ids=["back", "forward"]
)
def test_jumps_within_and_between_two_halves_of_a_run(first, second, unbroken, tmp_path, outcome):
  """The first half jumps and is killed; its files then lie hours ahead; the second jumps, too."""
  workdir = tmp_path / "run"
  trigger = workdir / "metrics.jsonl"
  process = running.start(workdir, variables=jumping(tmp_path / "a", first, trigger))
  running.when(process, lambda: (workdir / "checkpoints" / "20").exists(), signal.SIGKILL)
  process.communicate()
  for path in workdir.rglob("*"):
    os.utime(path, (time.time() + 5 * 3600,) * 2)
  trigger = workdir / "best" / "30"
  out, _ = running.run(workdir, variables=jumping(tmp_path / "b", second, trigger))
  assert "Going on from step 20." in out
  running.assert_same(unbroken(), workdir)
  report = running.report(workdir)
  assert 0 < report["train_seconds"] < 600 and 0 < report["session_seconds"] < 600
  for line in read_metrics(workdir):
    if line["kind"] == "train":
      assert 0 < line["steps_per_second"] < np.inf and 0 <= line["data_wait"] <= 1
  outcome(f"clock set {first:+d} h within a run, {second:+d} h after a kill", 1, "bit-equal end")
