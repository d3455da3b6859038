"""The short version of benchmarks/evaluation.py, and what its claims refuse."""

import copy

import evaluation
import numpy as np
import pytest

from recjax.evaluate.fairness import NAMES


def test_items_of_a_user_differ_and_few_items_are_drawn_often():
  items = evaluation.draw(np.random.default_rng(0), 300, 400, 50)
  assert items.shape == (300, 50) and items.min() >= 1 and items.max() <= 400
  assert all(len(set(row)) == 50 for row in items.tolist())
  assert (items <= 40).mean() > 3 * (items > 360).mean()


def test_a_size_is_measured(monkeypatch):
  monkeypatch.setattr(evaluation, "K", 12)
  monkeypatch.setattr(evaluation, "HISTORY", 5)
  found = evaluation.measure(40, 60, 1)
  assert set(NAMES) - {"IFD_div_ori"} <= set(found) and min(found.values()) >= 0
  assert {"all item measures, one call", "PUF, Jaccard, all pairs", "ME, MME, PEU"} <= set(found)


def test_claims_refuse_slowness_and_differences():
  seconds = {"1 x 1": {"all item measures, one call": 99.0},
             "2 x 2": {"all item measures, one call": 12.0}}
  compared = [{"recjax": 1.0, "ranx": 1.5, "difference": {"ndcg": 1e-9}} for _ in range(2)]
  verdict = lambda s, c: [claim["passed"] for claim in evaluation.claims(list(s), s, c)]
  assert verdict(seconds, compared) == [True] * 3
  slow = copy.deepcopy(seconds)
  slow["2 x 2"]["all item measures, one call"] = 61.0
  assert verdict(slow, compared) == [False, True, True]
  for key, value, expected in (
    ("ranx", 0.9, [True, False, True]), ("difference", {"ndcg": 0.0, "map": 2e-6}, [True, True, False]),
  ):
    wrong = copy.deepcopy(compared)
    wrong[1][key] = value
    assert verdict(seconds, wrong) == expected


@pytest.mark.slow
@pytest.mark.network
def test_ranx_is_installed_and_agrees(tmp_path):
  found = evaluation.compare(200, 10_000, tmp_path, tmp_path)
  assert max(found["difference"].values()) < 1e-6 and found["ranx"] > 0
  assert found["version"] == "0.3.21" and 0.5 < found["means"]["hr"] < 1
