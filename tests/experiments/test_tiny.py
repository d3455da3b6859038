"""Every experiment's `:tiny` end to end: it finishes, reports whom it counted, and has learnt."""

import pathlib

import numpy as np
import pytest
import running

from recjax.config import Config, read_config_file
from recjax.programs.train import train

EXPERIMENTS = [
  path for path in sorted((running.ROOT / "experiments").glob("*.py"))
  if isinstance(read_config_file(str(path)), Config)
]
KEYS = {
  "status", "name", "validation", "test", "seeds", "steps", "best_step", "train_seconds",
  "session_seconds", "peak_memory_bytes", "parameters", "data", "view", "config_fingerprint",
  "devices", "versions",
}
# Test metric -> (what blind guessing gives, what the run must reach).
LEARNT = {
  "ndcg@10": (0.05, 0.3),  # 120 items; the planted chain tells the next one four times out of five
  "ndcg@10 new": (0.62, 0.8),  # of 30 videos; any ten are liked six tenths as much as the best
  "session_auc": (0.5, 0.55),  # of over a thousand sessions, of the half of clicks that may be told
  "auc": (0.5, 0.58),  # of a thousand rows, so that guessing stays within 0.04
  "explained": (0.0, 0.6),  # of the noise
  "win": (0.5, 0.58),  # of 256 samples against those of the base
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.timeout(180)
def test_tiny(path: pathlib.Path, tmp_path):
  config = read_config_file(f"{path}:tiny")
  report = train(config, tmp_path)
  assert report.keys() >= KEYS
  assert report["status"] == "finished" and report["seeds"] == [0]
  assert report == running.report(tmp_path)
  metric = next(name for name in LEARNT if name in report["test"]["metrics"])
  blind, learnt = LEARNT[metric]
  value = report["test"]["metrics"][metric]["mean"]
  assert blind < learnt <= value <= 1.0
  assert sum(report["parameters"].values()) > 0
  assert {"jax", "flax", "recjax"} <= report["versions"].keys()
  # Everyone who was held out counts once, and is in the cases by number.
  facts = report["test"]["facts"]
  with np.load(tmp_path / "cases_test.npz") as cases:
    first = next(iter(config.evaluate))
    evaluator = next((name for name in config.evaluate if f"{name}/{metric}" in cases), first)
    users = cases[f"{evaluator}/user"]
    if metric in ("win", "explained"):
      assert len(users) == facts["cases" if metric == "win" else "samples"]
      assert np.isclose(cases[f"{evaluator}/{metric}"].mean(), value)
    elif metric == "ndcg@10":
      assert len(np.unique(users)) == len(users) == facts["cases"] == config.data.num_users
      assert facts["cases_without_targets"] == 0
      assert np.isclose(cases[f"{evaluator}/{metric}"].mean(), value)
    elif metric == "ndcg@10 new":
      share = 1 - config.view.validation_users
      assert len(np.unique(users)) == len(users) == facts["cases"]
      assert facts["cases"] == round(config.data.num_users * share)
      assert np.isclose(cases[f"{evaluator}/{metric}"].mean(), value)
    elif metric == "session_auc":
      assert len(users) == facts["sessions"] and len(np.unique(users)) == facts["cases"]
      assert facts["cases"] == round(config.data.num_users * config.split.test_users)
      assert np.isclose(cases[f"{evaluator}/{metric}"].mean(), value)
    else:
      assert facts["rows"] == config.data.num_test
      assert len(np.unique(users)) == len(users) == facts["groups"]
  for name in ("config.json", "export/variables.safetensors", "export/items.json"):
    assert (tmp_path / name).is_file()
