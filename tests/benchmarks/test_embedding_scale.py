"""The short version of benchmarks/embedding_scale.py, and what its claims refuse."""

import copy

import embedding_scale
import pytest


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setattr(embedding_scale, "STEPS", 2)
  monkeypatch.setattr(embedding_scale, "REPEATS", 2)
  monkeypatch.setattr(embedding_scale, "BATCH", 16)


@pytest.mark.parametrize("optimizer, floats", [("adagrad", 33), ("lazy_adam", 96)])
def test_a_size_is_measured(optimizer, floats):
  found = embedding_scale.measure(1000, optimizer)
  assert found["bytes"] == 4 * 1000 * floats
  assert found["milliseconds"] > 0 and found["peak_bytes"] > found["bytes"]


def test_claims_refuse_growth_copies_and_slowness():
  one = {"milliseconds": 10.0, "memory_ratio": 1.1}
  names = (*embedding_scale.OPTIMIZERS, embedding_scale.PEER)
  runs = {n: {r: [dict(one) for _ in range(3)] for r in (10**5, 10**7)} for n in names}
  verdict = lambda runs: [claim["passed"] for claim in embedding_scale.claims(runs)]
  assert verdict(runs) == [True] * 3
  for name, key, value, expected in (
    ("recjax, Adagrad", "milliseconds", 13.0, [False, True, True]),
    ("recjax, Adagrad", "memory_ratio", 1.4, [True, False, True]),
    ("recjax, lazy Adam", "milliseconds", 10.5, [True, True, False]),
  ):
    wrong = copy.deepcopy(runs)
    for found in wrong[name][10**7][:2]:
      found[key] = value
    assert verdict(wrong) == expected


@pytest.mark.slow
@pytest.mark.network
def test_torch_is_installed_and_measured(tmp_path):
  found = embedding_scale.measure_torch(1000, tmp_path)
  assert found["version"].startswith("2.13.0") and found["bytes"] == 4 * 1000 * 96
  assert found["milliseconds"] > 0
