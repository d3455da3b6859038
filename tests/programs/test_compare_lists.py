"""A comparison from files and from a run: same figures as the run's own, pages, refusals."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import running

from recjax.config import resolve, settings
from recjax.errors import ConfigError
from recjax.programs import list_files
from recjax.programs.comparison import compare
from recjax.programs.evaluate import evaluate


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
  """A run of its own with lists, and lists of chance in a file."""
  folder = tmp_path_factory.mktemp("evaluated")
  run = folder / "run"
  shutil.copytree(finished, run)
  found = evaluate(None, run)
  items = pq.read_table(run / "lists" / list_files.ITEMS)["item_id"].to_pylist()
  users = pq.read_table(run / "lists" / list_files.RELEVANCE)["user_id"].to_pylist()
  rng = np.random.default_rng(0)
  lines = ["user_id,item_id,score"]
  for user in users:
    for item in rng.choice(items, 30, replace=False):
      lines.append(f"{user},{item},{rng.random():.6f}")
  (folder / "chance.csv").write_text("\n".join(lines) + "\n")
  (folder / "users.csv").write_text(
    "user_id,half\n" + "".join(f"{u},{'early' if i % 2 else 'late'}\n" for i, u in enumerate(users))
  )
  return folder, found


def config(folder, **own):
  given = {
    "lists": (f"run={folder}/run", f"chance={folder}/chance.csv"), "users": str(folder / "users.csv"),
  }
  return resolve(settings("comparison", name="test", **{**given, **own}))


def test_a_run_is_worth_what_its_own_evaluation_says(evaluated, tmp_path):
  folder, found = evaluated
  result = compare(config(folder), tmp_path)
  assert result["task"]["users"] == found["test"]["facts"]["cases"]
  assert result["task"]["items"] == found["test"]["facts"]["candidates"]
  shared = found["test"]["metrics"].keys() & result["systems"]["run"]["values"].keys()
  assert {"ndcg@10", "hr@20", "mrr@5", "coverage@20", "gini@20", "novelty@20"} <= shared
  for name in shared:
    own = result["systems"]["run"]["values"][name]
    assert own == pytest.approx(found["test"]["metrics"][name]["mean"], abs=1e-12), name
  assert result["systems"]["run"]["facts"]["recommended although seen in training"] == 0
  (test, *_) = result["pairs"]
  assert (test["system"], test["other"], test["metric"]) == ("run", "chance", "ndcg@10")
  assert test["difference"] > 0.08 and test["t_p_holm"] < 1e-3  # the run is short, but has learnt


def test_files_that_are_written(evaluated, tmp_path):
  folder, _ = evaluated
  result = compare(config(folder), tmp_path)
  stored = json.loads((tmp_path / "comparison.json").read_text())
  own = [read["systems"]["chance"]["values"]["hr@10"] for read in (stored, result)]
  assert own[0] == own[1] > 0
  page = (tmp_path / "comparison.md").read_text()
  assert "| ndcg@10 | run | chance | +" in page
  assert "## By half" in page and "| early |" in page
  assert "IFD_div_ori" in page.split("What qualifies")[1]
  for name in ("metrics", "exposure"):
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_lists_of_a_run_are_those_of_the_source(evaluated):
  folder, _ = evaluated
  lists = pq.read_table(folder / "run" / "lists" / list_files.LISTS).to_pydict()
  ranks = {user: [] for user in lists["user_id"]}
  for user, rank in zip(lists["user_id"], lists["rank"], strict=True):
    ranks[user].append(rank)
  assert all(own == list(range(1, 21)) for own in ranks.values())
  trained = pq.read_table(folder / "run" / "lists" / list_files.TRAINING)
  report = running.report(folder / "run")
  assert len(trained) == report["data"]["split"]["train_events"]


@pytest.mark.parametrize(
  ("own", "message"),
  [
    ({"lists": ()}, "which lists"),
    ({"lists": ("a.csv",)}, "given as NAME=FILE"),
    ({"lists": ("a=1.csv", "a=2.csv")}, "'a' twice"),
    ({"lists": ("a=1.csv",)}, "right answers are"),
    ({"metrics": ("ndgc@10",)}, "ndcg@10"),
    ({"cutoffs": ()}, "at least one"),
  ],
)
def test_what_is_refused(evaluated, tmp_path, own, message):
  with pytest.raises(ConfigError, match=message):
    compare(config(evaluated[0], **own), tmp_path)


def test_a_run_without_lists_says_how_to_get_them(evaluated, tmp_path):
  (tmp_path / "bare").mkdir()
  with pytest.raises(ConfigError, match="--mode=evaluate --workdir="):
    compare(config(evaluated[0], lists=(f"bare={tmp_path}/bare",)), tmp_path)


def test_runs_of_different_tests_are_no_comparison(evaluated, tmp_path):
  folder, _ = evaluated
  other = tmp_path / "other"
  shutil.copytree(folder / "run" / "lists", other / "lists")
  rows = pq.read_table(other / "lists" / list_files.RELEVANCE)
  pq.write_table(rows.slice(1), other / "lists" / list_files.RELEVANCE)
  with pytest.raises(ConfigError, match="different right answers"):
    compare(config(folder, lists=(f"run={folder}/run", f"other={other}")), tmp_path)


def test_one_system_alone_has_figures_and_no_tests(evaluated, tmp_path):
  folder, _ = evaluated
  assert compare(config(folder, lists=(f"run={folder}/run",)), tmp_path)["pairs"] == []
