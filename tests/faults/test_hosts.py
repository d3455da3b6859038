"""One host of two dies: the other ends by itself, says why, and the same command on both goes on."""

import signal
import time

import pytest
import running

from recjax.programs import start
from recjax.train.writers import read_metrics

# A lost process is noticed after LOST_AFTER seconds at the latest, and so is one that is waited for at
# the end; what else there is to do is done in as long again.
BOUND = 3 * start.LOST_AFTER
# Long enough that neither is through before the other has died.
LONG = ("train.steps=3000", "train.evaluate_every=100", "train.log_every=20")


def lose(workdir, victim, *settings):
  """Kills one of two processes once a state is saved; (seconds until the other ended, what it said)."""
  processes = running.start_processes(workdir, *settings)
  other = processes[1 - victim]
  try:
    saved = lambda: (workdir / "checkpoints" / "100").exists()
    running.when(processes[victim], saved, signal.SIGKILL, seconds=250)
    begun = time.monotonic()
    _, said = other.communicate(timeout=BOUND)
    assert other.returncode not in (0, None)
    return time.monotonic() - begun, said
  finally:
    for process in processes:
      running.kill(process)


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "worker"])
def test_the_other_host_ends_and_both_go_on(victim, tmp_path, outcome):
  short = ("train.steps=300", *LONG[1:])
  running.end_processes(running.start_processes(tmp_path / "whole", *short))
  folder = tmp_path / "part"
  seconds, said = lose(folder, victim, *short)
  assert "Another process of this run has ended" in said or "another task died" in said, said[-3000:]
  (out, _), _ = running.end_processes(running.start_processes(folder, *short))
  assert "Going on from step " in out
  running.assert_same(tmp_path / "whole", folder)
  outcome(
    f"kill -9 of process {victim} of two", 1,
    f"the other ended after {seconds:.0f} s (bound {BOUND} s) with the reason; both went on, bit-equal",
  )


@pytest.mark.multiprocess
def test_a_lost_host_is_said_at_once(tmp_path):
  """The second of two never comes: the first ends with a sentence instead of waiting for ever."""
  processes = running.start_processes(tmp_path, *LONG)
  try:
    running.when(processes[1], lambda: bool(read_metrics(tmp_path)), signal.SIGKILL, seconds=200)
    _, said = processes[0].communicate(timeout=BOUND)
    assert processes[0].returncode == 1
    last = said.strip().split("\n")[-1]
    assert last.startswith("recjax: Another process of this run has ended or is out of reach (")
    assert "same command on all hosts" in last and "Traceback" not in said
  finally:
    for process in processes:
      running.kill(process)
