"""The short version of benchmarks/streaming.py: its phases over a small log, and its claims."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import streaming
from memory import Peak

from recjax.programs.assemble import assemble


@pytest.fixture(scope="module")
def log(tmp_path_factory):
  folder = tmp_path_factory.mktemp("log")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(streaming, "ITEMS", 500)
    streaming.write_log(folder, 20_000, 400)
  return folder


def test_the_log_is_prepared_whole_and_mapped(log):
  found = streaming.prepare(log)
  assert 19_900 <= found["events"] <= 20_000  # a few repeat user, item and second
  assert found["disk"] >= 19_900 * 8
  parts = assemble(streaming.experiment(log, 1, 0))
  assert isinstance(parts.data.item, np.memmap)
  assert parts.data.vocabularies["user"] == 401


@pytest.mark.parametrize(
  "workers", [0, pytest.param(2, marks=[pytest.mark.slow, pytest.mark.workers])]
)
def test_both_kinds_of_steps_are_timed(log, workers, monkeypatch):
  monkeypatch.setattr(streaming, "BATCH", 8)
  for trained in (False, True):
    found = streaming.feed(log, 3, workers, trained)
    assert found["steps_per_second"] > 0 and 0 <= found["data_wait"] < 1
    assert found["rows"] >= 400


def test_claims_refuse_waiting_and_growth():
  phase = {"data_wait": 0.01, "own": 500 << 20}
  small = {"events": 1, "prepare": dict(phase), "SASRec, 1 workers": dict(phase), "write": {}}
  large = {**copy.deepcopy(small), "events": 10}
  passed = lambda: [claim["passed"] for claim in streaming.claims([small, large])]
  assert passed() == [True, True]
  large["prepare"]["own"] = 700 << 20
  assert passed() == [True, False]
  large["SASRec, 1 workers"]["data_wait"] = 0.06
  assert passed() == [False, False]


def test_memory_of_children_is_seen():
  """A process that has a child with 64 MiB of its own and 32 open files."""
  child = "import time; x = bytearray(b'1') * (64 << 20); f = [open('/dev/null') for _ in range(32)]"
  parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
  process = subprocess.Popen([sys.executable, "-c", parent, f"{child}; print(1); time.sleep(1)"])
  with Peak(process.pid, 0.05) as peak:
    process.wait()
  assert 64 << 20 <= peak.most["own"] < 200 << 20
  assert 32 <= peak.most["files"] < 100 and peak.most["threads"] >= 2
  assert peak.most["resident"] >= peak.most["own"]
