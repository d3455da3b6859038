"""The short version of benchmarks/embedding_scale.py, and what its claims refuse."""

import copy

import embedding_scale
import pytest


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setattr(embedding_scale, "STEPS", 2)
  monkeypatch.setattr(embedding_scale, "REPEATS", 2)
  monkeypatch.setattr(embedding_scale, "BATCH", 16)


@pytest.mark.parametrize(
  "system, row_bytes",
  [("recjax, Adagrad", 132), ("recjax, Adagrad, bfloat16", 68), ("recjax, lazy Adam", 384)],
)
def test_a_size_is_measured(system, row_bytes):
  found = embedding_scale.measure(1000, system)
  assert found["bytes"] == 1000 * row_bytes
  assert found["milliseconds"] > 0 and found["peak_bytes"] > found["bytes"]


def test_claims_refuse_growth_copies_and_slowness():
  one = lambda rows, row_bytes: {
    "milliseconds": 10.0, "memory_ratio": 1.1 if rows > 10**5 else 9.0, "bytes": rows * row_bytes
  }
  runs = {
    name: {rows: [one(rows, row_bytes) for _ in range(3)] for rows in (10**5, 10**7)}
    for name, (_, _, row_bytes) in embedding_scale.SYSTEMS.items()
  }
  # Nobody but Adagrad in bfloat16 has room for the largest.
  halves = "recjax, Adagrad, bfloat16"
  runs[halves][10**8] = [one(10**8, 68) for _ in range(3)]
  verdict = lambda runs: [claim["passed"] for claim in embedding_scale.claims(runs)]
  assert verdict(runs) == [True] * 3
  for name, key, value, expected in (
    ("recjax, Adagrad", "milliseconds", 13.0, [False, True, True]),
    ("recjax, Adagrad", "memory_ratio", 1.4, [True, False, True]),
    (halves, "memory_ratio", 1.4, [True, True, True]),  # less than 1 GB at 10 M rows
    ("recjax, lazy Adam", "milliseconds", 10.5, [True, True, False]),
  ):
    wrong = copy.deepcopy(runs)
    for found in wrong[name][10**7][:2]:
      found[key] = value
    assert verdict(wrong) == expected
  for found in runs[halves][10**8]:
    found["milliseconds"] = 13.0
  assert verdict(runs) == [False, True, True]


@pytest.mark.slow
@pytest.mark.network
def test_torch_is_installed_and_measured(tmp_path):
  found = embedding_scale.measure_torch(1000, tmp_path)
  assert found["version"].startswith("2.13.0") and found["bytes"] == 4 * 1000 * 96
  assert found["milliseconds"] > 0
