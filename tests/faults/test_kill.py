"""Interruptions at any moment, then the same command again: the same run, to the bit."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import running

from recjax.programs.train import Terminated, train
from recjax.train.writers import read_metrics


def interrupt_at_random(settings, unbroken, folder, kills, seed):
  """Kills the command at `kills` moments spread over its duration; it must end as if unbroken.

  Returns how many kills came before the end.
  """
  reference = unbroken(*settings)
  begun = time.monotonic()
  running.run(folder / "again", *settings)
  duration = time.monotonic() - begun  # with everything compiled before
  running.assert_same(reference, folder / "again")
  rng = np.random.default_rng(seed)
  moments = rng.permutation((np.arange(kills) + rng.random(kills)) / kills) * duration
  attempt = landed = 0
  for moment in moments:
    process = running.start(folder / str(attempt), *settings)
    try:
      process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
      running.kill(process)
      landed += 1
      continue
    # It was through before the moment came: the next one meets a fresh folder.
    running.end(process)
    running.assert_same(reference, folder / str(attempt))
    attempt += 1
  running.run(folder / str(attempt), *settings)
  running.assert_same(reference, folder / str(attempt))
  return landed


def test_kills_at_random_moments(unbroken, tmp_path):
  assert interrupt_at_random((), unbroken, tmp_path, kills=3, seed=0) > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills_at_random_moments(unbroken, tmp_path, outcome):
  landed = interrupt_at_random((), unbroken, tmp_path, kills=100, seed=1)
  assert landed >= 50
  outcome("kill -9 at a random moment", landed, "every run that was killed ended bit-equal")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
  "settings",
  [
    ("seeds=2",), running.ROWS, (*running.ROWS, "tables.dtype=bfloat16"), ("train.feed=streaming",),
    ("train.checkpoint_every=5",),
  ],
  ids=["seeds", "rows", "bfloat16", "streaming", "often"],
)
def test_kills_under_other_settings(settings, unbroken, tmp_path, outcome):
  landed = interrupt_at_random(settings, unbroken, tmp_path, kills=5, seed=2)
  assert landed > 0
  outcome(f"kill -9 with {' '.join(settings)}", landed, "ended bit-equal")


def test_kills_while_writing(unbroken, tmp_path, outcome):
  """Kills within what takes long to hit by chance: a save, a best, the export, the end."""
  reference = unbroken()
  moments = (
    lambda: any((tmp_path / "checkpoints").glob("*tmp*")),
    lambda: any((tmp_path / "best").glob("*tmp*")),
    lambda: (tmp_path / "export" / "variables.safetensors").exists(),
    lambda: any(line["kind"] == "test" for line in read_metrics(tmp_path)),
  )
  for happened in moments:
    process = running.start(tmp_path)
    running.when(process, happened, signal.SIGKILL)
    running.end(process, -signal.SIGKILL)
  assert not (tmp_path / "report.json").exists()
  running.run(tmp_path)
  running.assert_same(reference, tmp_path)
  outcome("kill -9 while a state, the best, the export, the end is written", 4, "ended bit-equal")


@pytest.mark.slow
def test_sigterm_during_a_save_and_during_the_test(unbroken, tmp_path, outcome):
  """While a state is written, and while the test part is evaluated or its figures are written."""
  process = running.start(tmp_path, "train.steps=30")
  running.when(process, lambda: any((tmp_path / "checkpoints").glob("*tmp*")), signal.SIGTERM)
  out, said = running.end(process, 143)
  assert "the same command goes on from there" in out and "Traceback" not in said
  for happened in (
    lambda: (tmp_path / "cases_validation.npz").exists(),
    lambda: (tmp_path / "export" / "config.json").exists(),
  ):
    process = running.start(tmp_path)
    running.when(process, happened, signal.SIGTERM)
    _, said = running.end(process, -signal.SIGTERM)  # all that training found is saved by then
    assert "Traceback" not in said and not (tmp_path / "report.json").exists()
    shutil.rmtree(tmp_path / "export", ignore_errors=True)
    (tmp_path / "cases_validation.npz").unlink()
  running.run(tmp_path)
  running.assert_same(unbroken(), tmp_path)
  outcome("SIGTERM during a save, the test, the export", 3, "went on to a bit-equal end")


def test_sigterm_saves_and_the_same_command_finishes_once(unbroken, tmp_path, outcome):
  reference = unbroken()
  process = running.start(tmp_path)
  running.when(process, lambda: bool(read_metrics(tmp_path)), signal.SIGTERM)
  out, _ = running.end(process, 143)
  step = read_metrics(tmp_path)[-1]["step"]
  assert f"Interrupted at step {step}; the same command goes on from there." in out
  assert (tmp_path / "checkpoints" / str(step)).is_dir()
  assert not (tmp_path / "report.json").exists()
  out, _ = running.run(tmp_path)
  assert f"Going on from step {step}." in out
  running.assert_same(reference, tmp_path)
  before = running.tree(tmp_path)
  out, _ = running.run(tmp_path)
  assert f"{tmp_path} is finished: nothing to do." in out
  assert running.tree(tmp_path) == before
  outcome("SIGTERM during training", 1, "saved, exit code 143, went on to a bit-equal end")


def test_sigterm_at_the_last_step_is_heard(tmp_path, monkeypatch):
  """Whoever started the run, a proof for one, is told to stop, too."""
  config = running.short_config("train.log_every=30", "train.evaluate_every=30")
  with monkeypatch.context() as told:
    told.setattr(Terminated, "is_set", lambda self: True)
    assert train(config, tmp_path) == {"status": "interrupted", "step": 30}
  assert not (tmp_path / "report.json").exists()
  assert train(config, tmp_path)["steps"] == 30
