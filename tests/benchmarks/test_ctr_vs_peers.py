"""The short version of benchmarks/ctr_vs_peers.py, and what its claims refuse."""

import copy
import json

import ctr_vs_peers as bench
import numpy as np
import pyarrow.parquet as pq
import pytest


@pytest.fixture(autouse=True)
def small(monkeypatch):
  for name, value in {
    "STEPS": 2, "REPEATS": 1, "BATCH": 16, "LENGTH": 6, "WIDTH": 4, "CATEGORIES": 20, "USERS": 30,
    "UNIT": (8, 4), "TOWER": (8, 4),
  }.items():
    monkeypatch.setattr(bench, name, value)


def test_rows_are_what_they_say():
  made = bench.make_rows(101, 4000)
  for name in ("history", "item"):
    assert made[name].min() >= 1 and made[name].max() <= 100
  categories = bench.category_of(made["history"])
  assert max(len(set(row)) for row in categories.tolist()) <= 8
  assert bench.category_of(np.array([0, 1, 20, 21])).tolist() == [0, 1, 20, 1]
  # Whether a candidate's category was seen tells clicks; not all eight are among six behaviours.
  seen = (categories[made["user"]] == bench.category_of(made["item"])[:, None]).any(1)
  clicks = [made["label"][seen == kind].mean() for kind in (True, False)]
  assert clicks[0] > 0.75 and clicks[1] < 0.55
  assert all((bench.make_rows(101, 4000)[n] == made[n]).all() for n in made)


@pytest.mark.parametrize("model, training", [("DIN", "rows"), ("DIEN", "dense")])
def test_a_model_is_measured(model, training):
  found = bench.measure(model, 101, training)
  assert found["samples"] > 0 and abs(found["first_loss"] - np.log(2)) < 0.02


def test_files_hold_the_same_rows(tmp_path):
  bench.write_files(tmp_path, 101)
  made = bench.make_rows(101, 64)
  rows, users, items = (
    pq.read_table(tmp_path / f"{n}.parquet") for n in ("train", "user_info", "item_info")
  )
  np.testing.assert_array_equal(rows["item_index"], made["item"])
  np.testing.assert_array_equal(rows["is_click"], made["label"])
  assert set(rows["seq_len"].to_pylist()) == {bench.LENGTH}
  histories = np.array(users["full_item_seq"].to_pylist())
  np.testing.assert_array_equal(histories[rows["user_index"]], made["history"][made["user"]])
  assert items["item_index"].to_pylist() == list(range(101))
  np.testing.assert_array_equal(items["cate_id"], bench.category_of(np.arange(101)))


def test_claims_refuse_slowness_and_other_tasks():
  one = {"samples": 100.0, "first_loss": 0.69, "last_loss": 0.6}
  runs = {
    model: {
      items: {name: [{**one, "samples": 400.0 if name == bench.OURS else 100.0} for _ in range(3)]
              for name in bench.SYSTEMS}
      for items in (10_000, 1_000_000)
    } for model in bench.MODELS
  }
  verdict = lambda runs: [claim["passed"] for claim in bench.claims(runs)]
  assert verdict(runs) == [True] * 3
  for model, items, name, key, value, expected in (
    ("DIN", 1_000_000, bench.OURS, "samples", 290.0, [False, True, True]),
    ("DIEN", 1_000_000, bench.LOADED, "samples", 150.0, [True, False, True]),
    ("DIEN", 1_000_000, bench.READY, "samples", 150.0, [True] * 3),
    ("DIEN", 10_000, bench.OURS, "samples", 10.0, [True] * 3),
    ("DIN", 10_000, bench.READY, "first_loss", 0.72, [True, True, False]),
  ):
    wrong = copy.deepcopy(runs)
    for found in wrong[model][items][name][:2]:
      found[key] = value
    assert verdict(wrong) == expected


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", bench.MODELS)
def test_fuxictr_is_installed_and_measured(model, tmp_path_factory):
  home = tmp_path_factory.getbasetemp()
  for loader in (False, True):
    found = bench.measure_peer(model, 101, loader, home / "files", home)
    assert found["version"] == "2.3.10" and found["samples"] > 0
    assert abs(found["first_loss"] - np.log(2)) < 0.02
    assert json.dumps(found)
