"""Claims, tables and settings of proofs, on runs made by hand."""

import dataclasses
import json

import numpy as np
import pytest
import running
from scipy import stats

from recjax.config import read_config_file
from recjax.errors import ConfigError
from recjax.programs import prove, results


def run(folder, seeds, users, values, facts=None):
  """A finished run whose metric "ndcg@10" has these values [seeds, users]."""
  values = np.asarray(values, np.float64)
  folder.mkdir()
  np.savez(folder / "cases_test.npz", **{"full_ranking/user": users, "full_ranking/ndcg@10": values})
  report = {
    "test": {
      "metrics": {"ndcg@10": {"values": values.mean(1).tolist()}, "auc": {"values": seeds}},
      "facts": {"cases": len(users)},
    },
    "data": {"bayes_auc": 0.9, **(facts or {})},
    "parameters": {"params": 7, "tables": 3},
    "train_seconds": 2.0,
  }
  return prove.Run(json.loads(json.dumps(report)), folder)


@pytest.fixture
def arms(tmp_path):
  rng = np.random.default_rng(0)
  users = np.arange(1, 41)
  low = rng.random((3, 40)) * 0.5
  offset = np.array([[-0.001], [0.0], [0.001]])
  ripple = np.where(np.arange(40) % 2, 0.01, -0.01)
  return {
    "a": run(tmp_path / "a", [0.8, 0.82, 0.84], users, low + 0.1 + ripple + offset),
    # The same users in another order: pairing goes by user, not by place.
    "b": run(tmp_path / "b", [0.7, 0.71, 0.72], users[::-1], low[:, ::-1]),
  }


@pytest.mark.parametrize(
  ("claim", "difference", "passed"),
  [
    ({"better": "a", "worse": "b", "metric": "auc", "margin": 0.1}, 0.11, True),
    ({"better": "a", "worse": "b", "metric": "auc", "margin": 0.12}, 0.11, False),
    ({"better": "b", "worse": "a", "metric": "auc"}, -0.11, False),
    ({"better": "a", "worse": "b", "metric": "auc", "relative": 0.15}, 0.11, True),  # of 0.71
    ({"better": "a", "worse": "b", "metric": "auc", "relative": 0.16}, 0.11, False),
    ({"better": "b", "worse": "a", "metric": "auc", "relative": -0.14}, -0.11, True),
    ({"better": "a", "at_most": 0.82, "metric": "auc"}, 0.0, True),
    ({"better": "a", "at_most": 0.81, "metric": "auc"}, 0.01, False),
    ({"better": "a", "at_least": 0.82, "metric": "auc"}, 0.0, True),
    ({"better": "a", "worse": "fact:bayes_auc", "metric": "auc", "margin": -0.09}, -0.08, True),
    ({"better": "b", "worse": "fact:bayes_auc", "metric": "auc", "margin": -0.09}, -0.19, False),
  ],
)
def test_claims_by_hand(arms, claim, difference, passed):
  found = prove.check({"name": "claim", "world": "w", **claim}, {"w": arms})
  assert found["difference"] == pytest.approx(difference, abs=1e-9)
  assert found["passed"] is passed


def test_claims_about_what_is_not_there_are_refused(arms):
  with pytest.raises(ConfigError, match="Unknown arm 'c'"):
    prove.check({"name": "x", "better": "c", "worse": "a", "metric": "auc"}, {"w": arms})
  with pytest.raises(ConfigError, match="Unknown metric 'aux'. Did you mean 'auc'"):
    prove.check({"name": "x", "better": "a", "worse": "b", "metric": "aux"}, {"w": arms})


def test_table_pairs_users_and_corrects(arms):
  setting = {"metrics": ("ndcg@10", "auc"), "reference": "b", "seeds": 3}
  table = prove.table("w", arms, setting)
  first, second = table["rows"]
  test = first["paired"]["ndcg@10"]
  # Users differ by 0.09 or 0.11, half of them each, whatever the order they are stored in.
  assert test["difference"] == pytest.approx(0.1)
  assert test["users"] == 40
  assert 0.095 < test["bootstrap_95"][0] < 0.1 < test["bootstrap_95"][1] < 0.105
  expected = stats.ttest_rel([0.8, 0.82, 0.84], [0.7, 0.71, 0.72]).pvalue
  assert first["paired"]["auc"]["over_seeds_t_p"] == pytest.approx(expected)
  assert "paired" not in second
  assert first["parameters"] == 10
  text = "\n".join(results._table(table))
  assert "| b | " in text and "reference" in text


def test_worlds_that_are_not_chosen_are_taken_up_where_they_are_finished(tmp_path, monkeypatch):
  monkeypatch.chdir(running.ROOT)
  config = read_config_file("experiments/mqsa_ted.py")
  config = dataclasses.replace(config, proof={**config.proof, "run": "planted"})
  written, trained = [], []
  monkeypatch.setattr(prove, "write_result", written.append)
  monkeypatch.setattr(prove, "finished", lambda _, folder: {} if "toys" in str(folder) else None)
  monkeypatch.setattr(prove, "table", lambda world, *_: world)
  monkeypatch.setattr(prove, "check", lambda claim, runs: {**claim, "passed": True, "text": ""})

  def train(own, folder, shared):
    trained.append(folder.parent.name)
    return {"status": "finished", "data": {}}

  monkeypatch.setattr(prove, "train", train)
  result = prove.prove(config, tmp_path)
  assert set(trained) == {"planted", "amazon14_toys"} == set(result["tables"])
  assert {claim["world"] for claim in result["claims"]} == {"planted", "amazon14_toys"}
  assert set(result["left_out"]) == set(config.proof["worlds"]) - {"planted", "amazon14_toys"}
  assert written == [result]
  section = results.section({**result, "tables": ()})
  assert "not run yet: " in section and "yelp_2019" in section
  unknown = dataclasses.replace(config, proof={**config.proof, "run": "plantd"})
  with pytest.raises(ConfigError, match="Unknown world 'plantd'. Did you mean 'planted'"):
    prove.prove(unknown, tmp_path)


def test_settings_reach_the_arm_and_unknown_ones_are_named():
  config = read_config_file("experiments/sasrec.py:tiny")
  own = prove.arm_config(
    config, {"seeds": 4, "set": ("view.length=7",)}, {"set": ("model.dropout=0.5",)}
  )
  assert (own.seeds, own.view.length, own.model.dropout, dict(own.proof)) == (4, 7, 0.5, {})
  arguments = {"arguments": "data=amazon14_beauty,core=3"}
  for file in ("experiments/sasrec.py", "experiments/counts.py:kind=popularity"):
    own = prove.arm_config(config, arguments, {"config": file})
    assert (own.data.name, own.data.core) == ("amazon14_beauty", 3)
  with pytest.raises(ConfigError, match="Unknown config key 'drop'"):
    prove.override(config, ("model.drop=0.5",))
  with pytest.raises(ConfigError, match="not of the form"):
    prove.override(config, ("model.dropout",))


def test_what_is_not_defined_for_an_arm_is_a_dash(tmp_path):
  users = np.arange(1, 5)
  seeds = {"a": [None, None], "b": [0.7, 0.8], "c": [0.7, 0.9]}
  values = {"a": 0.5, "b": 0.25, "c": 0.5}
  made = {n: run(tmp_path / n, seeds[n], users, np.full((2, 4), values[n])) for n in seeds}
  setting = {"metrics": ("ndcg@10", "auc"), "reference": "b", "seeds": 2}
  table = prove.table("w", made, setting)
  assert table["rows"][0]["paired"]["auc"] == {"over_seeds_t_p": None}
  assert table["rows"][0]["paired"]["ndcg@10"]["users"] == 4
  assert table["rows"][2]["paired"]["auc"]["over_seeds_t_p"] > 0
  lines = results._table(results.plain(table))
  assert next(line for line in lines if line.startswith("| a")).startswith("| a | 0.5000 | – | ")
  claim = {"name": "x", "metric": "auc", "better": "a", "worse": "b", "margin": -9.0}
  assert not prove.check({**claim, "world": "w"}, {"w": made})["passed"]


def test_every_result_stands_on_its_page(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  result = {"name": "a", "title": "Steps a second", "command": "python a.py", "page": "performance"}
  results.write_result(result)
  results.write_result({"name": "b", "title": "A proof", "command": "python b.py"})
  pages = {path.name: path.read_text() for path in (tmp_path / "docs").glob("*.md")}
  assert sorted(pages) == ["performance.md", "results.md"]
  assert "Steps a second" in pages["performance.md"] and "A proof" not in pages["performance.md"]
  assert "A proof" in pages["results.md"] and "Steps a second" not in pages["results.md"]


def test_readme_says_what_was_measured(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  begin, end = results.MARKS
  (tmp_path / "README.md").write_text(f"before\n{begin}\nold\n{end}\nafter\n")
  claims = [
    {"name": "x", "passed": True, "text": "9 times as fast"},
    {"name": "y", "passed": False, "text": "flat memory"},
  ]
  result = {"name": "a", "title": "Steps", "command": "python a.py", "page": "reliability"}
  for _ in range(2):  # the second time changes nothing
    results.write_result({**result, "claims": claims})
  line = "- Steps: 9 times as fast; **not met**: flat memory."
  assert (tmp_path / "README.md").read_text() == f"before\n{begin}\n\n{line}\n\n{end}\nafter\n"
