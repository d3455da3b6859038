"""Two runs in one workdir: the second is refused in one sentence and spoils nothing."""

import errno
import fcntl
import logging
import os
import shutil
import signal

import pytest
import running

from recjax.programs.evaluate import evaluate
from recjax.programs.lock import InUse, locked
from recjax.programs.train import train
from recjax.train import hosts
from recjax.train.writers import read_metrics

LONG = ("train.steps=30000",)


def test_the_second_process_is_refused_and_death_lets_go(tmp_path, outcome):
  first = running.start(tmp_path, *LONG)
  try:
    running.when(first, lambda: bool(read_metrics(tmp_path)), signal.SIGSTOP)
    before = running.tree(tmp_path)
    with pytest.raises(InUse, match=f"{tmp_path} is in use by process {first.pid} on .*: wait") as said:
      train(running.short_config(*LONG), tmp_path)
    assert "\n" not in str(said.value)
    assert running.tree(tmp_path) == before
  finally:
    running.kill(first)
  with locked(tmp_path):
    pass
  outcome("two processes on one workdir", 1, "the second refused in a sentence with process and host")


@pytest.mark.slow
def test_the_command_says_so(tmp_path):
  with locked(tmp_path):
    _, said = running.run(tmp_path, code=1)
  assert said.startswith(f"recjax: {tmp_path} is in use by process {os.getpid()} on ")
  assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.workers
def test_workers_that_outlive_a_killed_run_do_not_hold_the_lock(tmp_path):
  first = running.start(tmp_path, *LONG, "train.feed=streaming", "train.workers=2")
  running.when(first, lambda: bool(read_metrics(tmp_path)), signal.SIGKILL)
  first.communicate()
  with locked(tmp_path):
    assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_a_stage_that_another_run_trains_is_refused(tmp_path):
  config = running.short_config("stages={'base': 'experiments/sasrec.py:tiny'}")
  stage = tmp_path / "run" / "stages" / "base"
  with locked(stage), pytest.raises(InUse, match=f"{stage} is in use"):
    train(config, tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()


def test_a_finished_run_is_read_while_it_is_held(unbroken, tmp_path):
  run = shutil.copytree(unbroken(), tmp_path / "run")
  with locked(run):
    assert train(running.short_config(), run)["status"] == "finished"
    assert evaluate(None, run)["test"]["metrics"]


def test_the_lock_is_let_go_at_the_end_and_after_an_error(tmp_path):
  for _ in range(2):
    with pytest.raises(KeyError), locked(tmp_path):
      with pytest.raises(InUse), locked(tmp_path):
        pass
      raise KeyError
  assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
  def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", refuse)
  monkeypatch.setattr(logging.getLogger("recjax"), "propagate", True)
  with locked(tmp_path):
    pass
  warning, = caplog.messages
  assert str(tmp_path) in warning and "No locks available" in warning


def test_all_processes_of_a_run_are_refused_together(tmp_path, monkeypatch):
  """A process that takes no lock itself hears from the first that there is none."""
  monkeypatch.setattr("jax.process_index", lambda: 1)
  monkeypatch.setattr(hosts, "any_of", lambda flag: True)
  with pytest.raises(InUse, match="in use by another run"), locked(tmp_path / "run"):
    pass
  assert not (tmp_path / "run").exists()
