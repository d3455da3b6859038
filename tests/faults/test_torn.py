"""Each file of a workdir torn or flipped in turn: the same end to the bit, or one sentence."""

import os
import shutil

import leftovers
import numpy as np
import pytest
import running

from recjax.errors import RecjaxError
from recjax.programs.train import train
from recjax.train.writers import read_metrics

pytestmark = leftovers.COLLECTED
KINDS = ("empty", "truncate", "flip")
# What a run logs is no part of its results, and is not protected against flipped bits.
LOGS = ("metrics.jsonl", "tensorboard", ".lock")


def harm(path, kind, rng):
  """Damages a file; an empty one gets a byte."""
  size = path.stat().st_size
  if kind == "empty":
    os.truncate(path, 0)
  elif kind == "truncate":
    os.truncate(path, size // 2)
  else:
    content = bytearray(path.read_bytes() or b"\0")
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def same_results(one, other, logs):
  """Equal to the bit; the log too where it was not what was damaged."""
  if logs:
    running.assert_same(one, other)
    return
  left, right = running.exported(one), running.exported(other)
  assert all((left[name] == right[name]).all() for name in left)
  for part in ("validation", "test"):
    assert running.report(one)[part] == running.report(other)[part]


def tear(finished, start, tmp_path, chosen, kinds, rng):
  """Harms each chosen file of a copy of `start` and runs the command; (refusals, ends as if whole)."""
  refused = whole = 0
  for number, (name, kind) in enumerate((n, k) for n in chosen for k in kinds):
    workdir = tmp_path / str(number) / "run"
    shutil.copytree(start, workdir)
    harm(workdir / name, kind, rng)
    try:
      train(running.short_config(), workdir)
    except RecjaxError as error:
      assert str(workdir) in str(error) and "\n" not in str(error), (name, kind, error)
      refused += 1
    else:
      same_results(finished, workdir, logs=not str(name).startswith(LOGS))
      whole += 1
    shutil.rmtree(workdir)
  return refused, whole


def files(folder):
  """Every file of a folder, as paths in it."""
  return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def largest(folder, below):
  """The largest file below a folder of a workdir, as a path in it."""
  found = [p for p in (folder / below).rglob("*") if p.is_file()]
  return max(found, key=lambda p: p.stat().st_size).relative_to(folder)


def test_torn_files_of_an_unfinished_run(finished, tmp_path):
  """Values lie in one of two files, the other is a draft of it that is never read."""
  start = running.interrupted(finished, tmp_path / "start")
  arrays = "checkpoints/20/arrays"
  chosen = [largest(start, f"{arrays}/d"), largest(start, f"{arrays}/ocdbt.process_0/d")]
  rng = np.random.default_rng(0)
  refused, whole = tear(finished, start, tmp_path, chosen, ("truncate",), rng)
  assert refused >= 1 and refused + whole == 2


def test_torn_files_of_a_finished_run(finished, tmp_path):
  chosen = [p for p in files(finished) if p.parts[0] in ("export", "report.json") or p.suffix == ".npz"]
  assert len(chosen) == 7
  refused, whole = tear(finished, finished, tmp_path, chosen, KINDS, np.random.default_rng(1))
  assert (refused, whole) == (21, 0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("state", ["unfinished", "finished"])
def test_every_file_in_turn(state, finished, tmp_path, outcome):
  start = finished if state == "finished" else running.interrupted(finished, tmp_path / "start")
  rng = np.random.default_rng(2)
  refused, whole = tear(finished, start, tmp_path, files(start), KINDS, rng)
  assert refused >= 10
  outcome(
    f"each file of a run that is {state} emptied, halved, one bit flipped", refused + whole,
    f"{refused} refused in a sentence, {whole} ended bit-equal",
  )


def test_the_cure_that_the_sentence_names_works(finished, tmp_path):
  workdir = shutil.copytree(finished, tmp_path / "run")
  harm(workdir / "export" / "variables.safetensors", "flip", np.random.default_rng(3))
  with pytest.raises(RecjaxError, match="variables.safetensors is damaged .* delete .*report.json"):
    train(running.short_config(), workdir)
  (workdir / "report.json").unlink()
  train(running.short_config(), workdir)
  running.assert_same(finished, workdir)


def test_a_damaged_line_of_the_log_is_said_and_left_out(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr("recjax.train.writers.log.propagate", True)
  good = '{"step": 1, "kind": "train"}\n'
  (tmp_path / "metrics.jsonl").write_bytes(
    good.encode() + b'{"step": 2, "k\xffnd": 1}\n' + good.encode() + b'{"step": 3, "ki'
  )
  assert [line["step"] for line in read_metrics(tmp_path)] == [1, 1]
  assert caplog.messages == [f"{tmp_path / 'metrics.jsonl'}: line 2 is damaged and left out."]
