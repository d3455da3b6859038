"""Planted vectors: worlds are as they say, and smoothing pays where neighbours know more."""

import numpy as np
import pytest
import running

from recjax.config import read_config_file
from recjax.errors import ConfigError
from recjax.evaluate.trials import knn_embed
from recjax.programs import results
from recjax.programs.study import study

SMALL = {
  "num_users": 120, "num_items": 320, "clusters": 20, "communities": 6, "answers": 12, "length": 40,
  "queries": 6, "iterations": 5,
}


@pytest.mark.parametrize("users", knn_embed.USERS)
def test_worlds_are_as_they_say(users):
  config = knn_embed.Config(**{**SMALL, "users": users})
  made = knn_embed.planted(config, 5)
  assert not made["item"][0].any() and not made["user"][0].any()
  by_user = made["engaged"].toarray()
  for user, (seen, answers) in enumerate(zip(made["seen"], made["answers"], strict=True), start=1):
    assert len(set(seen)) == 10 and set(np.flatnonzero(by_user[user])) == set(seen)
    assert not set(seen) & set(answers)
    assert len({(i - 1) % 20 for i in seen}) <= 3  # of the clusters shown
    assert len({(i - 1) % 20 for i in (*seen, *answers[answers > 0])}) <= 6  # of those liked
  if users == "items":
    np.testing.assert_allclose(made["user"][7], made["item"][made["seen"][6]].mean(0), atol=1e-6)
  again = knn_embed.planted(config, 5)
  np.testing.assert_array_equal(made["seen"], again["seen"])
  assert (knn_embed.planted(config, 6)["seen"] != made["seen"]).any()


def test_smoothing_finds_what_the_user_has_not_shown():
  found = {
    name: knn_embed.simulate(knn_embed.Config(**{**SMALL, **arm}), 100)
    for name, arm in {"single": {"queries": 0}, "smoothed": {"own": 0.3}}.items()
  }
  assert found["smoothed"]["same_community"] > 0.9
  assert found["smoothed"]["recall"] > 1.05 * found["single"]["recall"] > 0.2
  assert found["smoothed"]["spread"] > found["single"]["spread"] + 0.03


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown users of planted vectors 'svds'. Did you mean 'svd'"):
    knn_embed.Config(users="svds")
  with pytest.raises(ConfigError, match="10 different events may be of one cluster, and there are 4"):
    knn_embed.Config(num_items=160)
  with pytest.raises(ConfigError, match="A user shows 7 of 6 liked clusters"):
    knn_embed.Config(shown=7)


@pytest.mark.slow
def test_tiny_is_short(monkeypatch, tmp_path):
  monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
  result = study(read_config_file(f"{running.ROOT}/experiments/knn_embed_planted.py:tiny"))
  assert len(result["tables"]) == 2 and not (tmp_path / "docs").exists()
