"""Studies: claims and tables of trials made by hand, and the arena's own in small."""

import json
import sys
import types

import numpy as np
import pytest
import running

from recjax import registry
from recjax.config import Config, read_config_file, resolve, settings
from recjax.errors import ConfigError
from recjax.evaluate.trials import arena, music_arena
from recjax.programs import results
from recjax.programs.study import study


@pytest.fixture
def trial(monkeypatch):
  """A trial whose one metric is the seed times a setting; `there` says whether its data are."""
  import dataclasses

  @dataclasses.dataclass(frozen=True)
  class Own:
    times: float = 1.0

  module = types.ModuleType("trial_by_hand")
  module.Config = Own
  module.simulate = lambda config, seed: {"value": seed * config.times, "seed": float(seed)}
  module.there = True
  module.available = lambda: module.there
  monkeypatch.setitem(sys.modules, "trial_by_hand", module)
  monkeypatch.setitem(registry.MODULES["trial"], "by_hand", "trial_by_hand")
  return module


def config(**changes):
  world = {"trial": "by_hand", "seeds": 3, "first_seed": 5, "arms": {"one": {}, "two": {"times": 2.0}}}
  claims = (
    {
      "world": "w", "name": "twice", "metric": "value", "better": "two", "worse": "one",
      "relative": 1.0,
    },
    {"world": "w", "name": "too much", "metric": "value", "better": "two", "at_least": 12.1},
  )
  return resolve(settings(
    "study", **{"name": "hand", "title": "By hand", "worlds": {"w": world}, "claims": claims, **changes}
  ))


def test_claims_and_tables(trial, monkeypatch, tmp_path):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  result = study(config())
  assert [claim["passed"] for claim in result["claims"]] == [True, False] and not result["passed"]
  assert result["claims"][0]["left"] == 12.0 and result["claims"][0]["right"] == 6.0
  stored = json.loads((tmp_path / "docs/results/hand.json").read_text())
  assert stored["tables"][0]["means"]["two"] == {"value": 12.0, "seed": 6.0}
  assert stored["tables"][0]["seeds"] == [5, 6, 7]
  page = (tmp_path / "docs" / "results.md").read_text()
  assert "seeds 5 to 7" in page and "12.0000 ± 2.000" in page and "**fails**: too much" in page


def test_worlds_without_data_are_left_out(trial, monkeypatch, tmp_path):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  trial.there = False
  result = study(config())
  assert result["left_out"] == ["w"] and result["claims"] == [] and result["tables"] == []


def test_a_part_of_the_worlds_is_not_stored(trial, monkeypatch, tmp_path):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  worlds = {name: {"trial": "by_hand", "arms": {"one": {}, "two": {}}} for name in ("w", "v")}
  assert len(study(config(worlds=worlds, run="v"))["tables"]) == 1
  assert not (tmp_path / "docs").exists()
  with pytest.raises(ConfigError, match="Unknown world 'x'"):
    study(config(worlds=worlds, run="x"))


def test_mistakes(trial):
  with pytest.raises(ConfigError, match="Unknown trial 'by_hans'. Did you mean 'by_hand'"):
    study(config(worlds={"w": {"trial": "by_hans", "arms": {"one": {}}}}))
  with pytest.raises(ConfigError, match=r"Unknown key of config.worlds.w.arms.one 'time'"):
    study(config(worlds={"w": {"trial": "by_hand", "arms": {"one": {"time": 1}}}}))
  with pytest.raises(ConfigError, match="Unknown metric 'valu'"):
    claim = {"world": "w", "name": "", "metric": "valu", "better": "one", "at_least": 0}
    study(config(claims=(claim,)))
  with pytest.raises(ConfigError, match="Unknown program 'studdy'"):
    resolve({"program": "studdy"})
  with pytest.raises(ConfigError, match="runs experiments"):
    resolve({"program": "train"})


def test_every_claim_of_the_arena_has_its_metric():
  made = read_config_file(f"{running.ROOT}/experiments/arena.py")
  assert not isinstance(made, Config)
  small = {"arena": {"votes": 400, "rounds": 20}, "music_arena": {"battles": 150, "ridge": 1.0}}
  found = {}
  for name, world in made.worlds.items():
    module = registry.resolve("trial", world.trial)
    if hasattr(module, "available") and not module.available():
      continue
    for arm, keys in world.arms.items():
      own = module.Config(**{**keys, **small.get(world.trial, {})})
      found[name, arm] = module.simulate(own, 1)
  for claim in made.claims:
    if (claim["world"], claim["better"]) in found:
      assert claim["metric"] in found[claim["world"], claim["better"]]
      assert claim.get("worse", claim["better"]) in made.worlds[claim["world"]].arms


def test_planted_votes_keep_their_truth():
  """Ties and repeated votes leave the mean gain of a vote as it is."""
  for keys in ({"ties": 0.6}, {"votes_per_user": 5, "repeats": 0.6}):
    strength, cast = arena.planted(arena.Config(votes=60_000, size=3, **keys), 0)
    for a in range(3):
      for b in set(range(3)) - {a}:
        met = (cast.a == a) & (cast.b == b)
        assert cast.y[met].mean() == pytest.approx(
          1 / (1 + np.exp(strength[b] - strength[a])), abs=0.025
        )
  assert arena.planted(arena.Config(ties=0.6), 1)[1].y.tolist().count(0.5) > 300
  with pytest.raises(ConfigError, match="has 1 coefficients, not 0"):
    arena.Config(style="answers")
  with pytest.raises(ConfigError, match="Unknown style of planted votes"):
    arena.Config(style="loud")
  with pytest.raises(ConfigError, match="from -1 to 1"):
    arena.Config(correlation=2.0)


def test_noise_is_heard():
  rng = np.random.default_rng(0)
  for noise in (0.1, 0.4):
    sound = music_arena.play(rng, music_arena.PITCHES[3], noise)
    assert music_arena.heard_noise(sound, music_arena.PITCHES[3]) == pytest.approx(noise, rel=0.05)


def test_tiny_is_short(monkeypatch, tmp_path):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  result = study(read_config_file(f"{running.ROOT}/experiments/arena.py:tiny"))
  assert len(result["tables"]) == 3 and not (tmp_path / "docs").exists()
  rows = {row[0]: row for row in result["tables"][1]["rows"]}
  assert rows["without"][2] == "–"  # no coefficient without control
