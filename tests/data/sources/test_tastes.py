"""Planted tastes: who compared what, what the judge says, what tokens tell."""

import re

import numpy as np
import pytest

from recjax.data.load import load
from recjax.data.sources import _pictures
from recjax.errors import ConfigError, DataError

SMALL = {"name": "tastes", "train_users": 40, "unseen_users": 8, "validation_users": 4, "pairs": 24}


@pytest.fixture(scope="module")
def latents():
  return load(SMALL)


def test_pairs_have_one_prompt_and_chunks_hold_one_user(latents):
  table = latents
  assert len(table.user) == 52 * 24 and (np.diff(table.user) >= 0).all()
  np.testing.assert_array_equal(table.prompt[table.winner], table.prompt[table.loser])
  assert not (table.winner == table.loser).any()
  assert table.chunk.shape == (52 * 6, 4) and len(np.unique(table.chunk)) == table.chunk.size
  assert (table.user[table.chunk] == table.chunk_user[:, None]).all()
  members = [table.groups["train"], table.groups["validation"], table.groups["test"]["unseen"]]
  np.testing.assert_array_equal(np.sort(np.concatenate(members)), np.arange(1, 53))
  np.testing.assert_array_equal(table.groups["test"]["seen"], table.groups["train"])


def test_labels_follow_rewards_and_samples_keep_to_their_prompt(latents):
  table = latents
  judge = lambda which: table.judge(table.samples[which], table.user, table.prompt[which])
  better, worse = judge(table.winner), judge(table.loser)
  advantage = better["reward"] - worse["reward"]
  # Of a choice with temperature .3 between rewards that differ by N(0, 2).
  assert 0.85 < np.mean(advantage > 0) < 0.95
  assert 0.8 < np.std(better["reward"]) < 1.0  # the better one of two N(0, 1)
  assert np.mean(better["off_style"]) == pytest.approx(0.1 * np.sqrt(12), rel=0.05)


def test_tokens_tell_tastes(latents):
  """The gate before any training: a linear probe finds the taste of users it has not seen."""
  assert latents.tokens.shape == (52 * 6, 4, 32)
  assert latents.facts["probe_cosine"] > 0.5


def test_made_anew_it_is_the_same_and_another_seed_is_not(latents):
  again, other = load(SMALL), load({**SMALL, "seed": 1})
  for name in ("samples", "winner", "tokens"):
    np.testing.assert_array_equal(getattr(again, name), getattr(latents, name))
  assert not np.array_equal(other.samples, latents.samples)


def test_rewards_judge_the_same_pairs_without_error():
  table = load({"name": "tastes", "rewards": 3, "pairs": 200})
  first, second, third = (slice(i * 200, (i + 1) * 200) for i in range(3))
  pair = np.sort(np.stack([table.winner, table.loser]), axis=0)
  np.testing.assert_array_equal(pair[:, first], pair[:, second])
  assert 0.3 < np.mean(table.winner[first] == table.winner[third]) < 0.7
  judge = lambda which: table.judge(table.samples[which], table.user, table.prompt[which])["reward"]
  assert (judge(table.winner) > judge(table.loser)).all()
  assert list(table.groups["test"]) == ["reward_1", "reward_2", "reward_3"]
  alone = load({"name": "tastes", "rewards": 3, "pairs": 200, "only_reward": 2})
  np.testing.assert_array_equal(alone.samples, table.samples)
  np.testing.assert_array_equal(alone.groups["train"], [2])


def test_attributes_of_plain_pictures():
  plain = np.ones((4, 8, 8, 3), np.float32)  # white, red, green, half black
  plain[1, :, :, 1:] = -1
  plain[2, :, :, (0, 2)] = -1
  plain[3, :4] = -1
  found = _pictures.attributes(plain)
  np.testing.assert_allclose(
    found, [[0, 0, 0, 0], [1, -0.5, 1, 0], [0, 1, 1, 0], [0, 0, 0.5, 0.5]], atol=1e-6
  )
  measure = _pictures.Measure(plain, np.zeros(4, int))
  values = measure(plain, np.zeros(4, int))
  np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(values.std(0), 1, atol=1e-6)
  near = plain + np.float32([0.1, 0, 0, 0]).reshape(4, 1, 1, 1)
  np.testing.assert_allclose(measure.distance(near, np.zeros(4, int)), [0.1, 0, 0, 0], atol=1e-3)


def test_pictures_of_shapes():
  pictures = load({**SMALL, "generator": "pictures", "samples": 300, "size": 8})
  assert pictures.samples.shape == (300, 8, 8, 3)
  assert np.abs(pictures.samples).max() <= 1 and (pictures.samples == 1).mean() > 0.2
  np.testing.assert_array_equal(pictures.prompt[pictures.winner], pictures.prompt[pictures.loser])
  assert not (pictures.winner == pictures.loser).any()
  shrunk = _pictures.shrink(pictures.samples)
  np.testing.assert_allclose(shrunk[5, :3], pictures.samples[5, :2, :2].mean((0, 1)), rtol=1e-6)


def test_emoji(data_dir):
  table = load({**SMALL, "name": "emoji", "size": 8, "folder": str(data_dir)})
  assert table.samples.shape == (1906, 8, 8, 3) and len(table.facts["names"]) == 9
  assert table.samples.min() >= -1 and table.samples.max() <= 1
  np.testing.assert_array_equal(table.prompt[table.winner], table.prompt[table.loser])


def test_emoji_of_some_kinds(data_dir):
  config = {**SMALL, "name": "emoji", "size": 8, "folder": str(data_dir), "column": "subcategory"}
  whole, table = load(config), load({**config, "only": ("heart", "food-fruit")})
  assert table.facts["names"] == ["food-fruit", "heart"] and len(table.prompts["prompt"]) == 2
  for number, name in enumerate(table.facts["names"]):
    known = whole.samples[whole.prompt == whole.facts["names"].index(name)]
    np.testing.assert_array_equal(table.samples[table.prompt == number], known)
  with pytest.raises(ConfigError, match="Unknown subcategory 'hart'. Did you mean 'heart'"):
    load({**config, "only": ("hart",)})


@pytest.mark.parametrize(
  ("change", "error", "sentence"),
  [
    ({"generator": "latent"}, ConfigError, "Unknown generator 'latent'. Did you mean 'latents'"),
    ({"rewards": 5}, ConfigError, "there are at most 4"),
    ({"rewards": 2, "only_reward": 3}, ConfigError, "of 2 rewards number 3 cannot be taken alone"),
    ({"pairs": 11}, ConfigError, "11 comparisons a user are less than three chunks of 4"),
    ({"name": "emoji", "size": 12}, ConfigError, "is 8, 16 or 32, not 12"),
    ({"name": "emoji", "folder": "nowhere"}, DataError, "There is no nowhere/twemoji_images/images32"),
  ],
)
def test_mistakes_are_named(change, error, sentence):
  with pytest.raises(error, match=re.escape(sentence)):
    load({**SMALL, **change})
