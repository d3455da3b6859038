"""Leaderboards from files: what is written, and mistakes in one sentence."""

import json
import xml.etree.ElementTree as ElementTree

import arenas
import numpy as np
import pytest
import running

from recjax.config import read_config_file, resolve, settings
from recjax.errors import ConfigError, DataError
from recjax.evaluate import arena
from recjax.programs import runs
from recjax.programs.leaderboard import leaderboard


def config(**keys):
  return resolve(settings("leaderboard", name="test", **keys))


@pytest.fixture
def file(tmp_path):
  """Votes on two boards; the second one's models are m3 to m7."""
  rows = []
  for board in (0, 1):
    cast = arenas.random(board, count=400, covariates=1, users=50)
    for a, b, y, x, user in zip(cast.a, cast.b, cast.y, cast.x[:, 0], cast.cluster, strict=True):
      rows.append({
        "model_a": f"m{a + 3 * board}", "model_b": f"m{b + 3 * board}", "user": f"u{user}",
        "winner": {1.0: "A", 0.0: "B", 0.5: "TIE"}[y], "kind": ["one", "two/2"][board],
        "words_a": round(100 * np.exp(x)), "words_b": 100, "flat_a": 3, "flat_b": 3,
      })
  rows += [{**rows[0], "winner": "BOTH_BAD"}] * 7 + [{**rows[0], "winner": None}] * 2
  path = tmp_path / "votes.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_boards_are_written(file, tmp_path):
  result = leaderboard(
    config(
      votes=file, board="kind", user="user", covariates=("words", "flat"), intervals="cluster",
      both_bad="drop",
    ),
    tmp_path / "out",
  )
  stored = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
  assert stored["boards"].keys() == {"one", "two/2"} and stored["battles_without_vote"] == 2
  one, two = stored["boards"].values()
  assert [row["model"] for row in one["models"]] == [
    row["model"] for row in result["boards"]["one"]["models"]
  ]
  assert {row["model"] for row in two["models"]} == {f"m{i}" for i in range(3, 8)}
  assert one["facts"]["votes"] == two["facts"]["votes"] == 400
  assert one["facts"]["both_bad_dropped"] == 7 and one["facts"]["users"] == 50
  assert max(row["both_bad"] for row in one["models"]) > 0
  assert one["constant_covariates"] == ["flat"] and one["covariates"][0]["low"] > 0
  assert len(one["pairs"]) == 10
  page = (tmp_path / "out" / "leaderboard.md").read_text()
  assert "## two/2" in page and "flat" in page and "| words | +" in page
  for name in ("leaderboard_one.svg", "leaderboard_two_2.svg"):
    root = ElementTree.parse(tmp_path / "out" / name).getroot()
    assert len(root.findall("{*}circle")) == 5


def test_the_same_as_from_arrays(file, tmp_path):
  """The program adds nothing to the function."""
  report = leaderboard(config(votes=file, board="kind"), tmp_path / "out")["boards"]["two/2"]
  board = arena.leaderboard(arenas.random(1, count=400, covariates=1)._replace(
    x=np.zeros((400, 0)), covariates=()
  ))
  ours = {row["model"]: (row["rating"], row["low"], row["rank"]) for row in report["models"]}
  for i in range(5):
    assert ours[f"m{i + 3}"] == pytest.approx((board.rating[i], board.low[i], board.rank[i]))


def test_dropped_votes_change_nothing(file, tmp_path):
  keys = {
    "votes": file, "board": "kind", "intervals": "bootstrap_deviation", "rounds": 30, "ridge": 1.0,
  }
  dropped = leaderboard(config(both_bad="drop", **keys), tmp_path / "a")["boards"]["one"]["models"]
  half = leaderboard(config(**keys), tmp_path / "b")["boards"]["one"]["models"]
  assert dropped[0]["rating"] != half[0]["rating"]
  cast = arenas.random(0, count=400, covariates=1)
  board = arena.leaderboard(cast._replace(x=cast.x[:, :0], covariates=()), ridge=1.0)
  for row in dropped:
    assert row["rating"] == pytest.approx(board.rating[int(row["model"][1:])])


def test_models_and_boards_with_few_votes(file, tmp_path):
  result = leaderboard(
    config(votes=file, leave_out=("m1",), board="kind", minimum_battles=300, ridge=1.0), tmp_path / "a"
  )
  assert result["boards"].keys() == {"two/2"}
  assert "config.minimum_battles asks for 300" in result["skipped"]["one"]
  assert "No board 'one'" in (tmp_path / "a" / "leaderboard.md").read_text()
  result = leaderboard(config(votes=file, minimum_votes=200), tmp_path / "b")
  report = result["boards"][""]
  assert report["hidden"] and all(row["votes"] >= 200 for row in report["models"])
  assert "Not shown, with fewer than 200 votes" in " ".join(report["notes"])
  with pytest.raises(DataError, match="No board of .*votes.jsonl has enough votes"):
    leaderboard(config(votes=file, minimum_battles=10**6), tmp_path / "c")


def test_presets(file, tmp_path):
  for style in ("search_arena", "music_arena"):
    reference = f"{running.ROOT}/experiments/leaderboard.py:style={style}"
    made = resolve({**vars(read_config_file(reference)), "votes": file})
    rows = leaderboard(made, tmp_path / style)["boards"][""]["models"]
    assert all(row["low"] < row["rating"] < row["high"] for row in rows)
    if style == "music_arena":
      assert np.mean([row["rating"] for row in rows]) == pytest.approx(1000, abs=1e-9)
  with pytest.raises(ConfigError, match="Unknown style of a leaderboard 'chess'"):
    read_config_file(f"{running.ROOT}/experiments/leaderboard.py:style=chess")


def test_tiny_needs_no_file(tmp_path):
  made = read_config_file(f"{running.ROOT}/experiments/leaderboard.py:tiny")
  report = leaderboard(made, tmp_path)["boards"][""]
  assert report["models"][0]["model"] == "model-01"
  assert report["covariates"][0]["low"] > 0
  plain = config(votes="planted", by="cluster", intervals="bootstrap", rounds=20)
  assert leaderboard(plain, tmp_path)["boards"][""]["covariates"] == []
  with pytest.raises(ConfigError, match="Unknown covariate of planted votes 'length'"):
    leaderboard(config(votes="planted", covariates=("length",)), tmp_path)


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({}, "Say which votes"),
    ({"both_bad": "half-win"}, "Unknown value of config.both_bad 'half-win'"),
    ({"intervals": "cluster"}, "set config.user"),
    ({"by": "cluster"}, "set config.user"),
    ({"confidence": 0.0}, "config.confidence is above 0"),
    ({"confidence": 95.0}, "config.confidence is at least 0 and below 1"),
    ({"ancor": "m1"}, "Did you mean 'anchor'"),
  ],
)
def test_mistakes_in_the_config(keys, message, tmp_path):
  with pytest.raises(ConfigError, match=message):
    leaderboard(config(**keys), tmp_path)


def test_mistakes_about_the_votes(file, tmp_path):
  with pytest.raises(DataError, match="Unknown model in config.leave_out 'm9'"):
    leaderboard(config(votes=file, leave_out=("m9",)), tmp_path)
  with pytest.raises(DataError, match="Unknown anchor 'gpt'"):
    leaderboard(config(votes=file, anchor="gpt"), tmp_path)


def test_a_config_is_for_its_mode(tmp_path):
  done = running.start(tmp_path, config="", flags=("--config=experiments/leaderboard.py:tiny",))
  _, said = running.end(done, code=1)
  assert "--mode=train takes the config of experiment, and this is one of leaderboard." in said


def test_a_stage_is_an_experiment(tmp_path):
  made = running.short_config("stages={'one': 'experiments/leaderboard.py:tiny'}")
  with pytest.raises(ConfigError, match="Stage 'one': .* is a config of leaderboard, no experiment"):
    runs.run_stages(made, tmp_path, lambda *_: pytest.fail("trained"))
