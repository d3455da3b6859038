"""The planted feed is as it says, and its view gives what models and evaluators read."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import watch_time
from recjax.data.sources import planted_feed
from recjax.data.views import feed
from recjax.errors import ConfigError, DataError

CONFIG = planted_feed.Config(num_products=60, num_videos=50, new_videos=15, num_users=400, lists=20)


@pytest.fixture(scope="module")
def data():
  return planted_feed.open_source(CONFIG)


def test_a_seed_is_a_world(data):
  again = planted_feed.open_source(CONFIG)
  for part in ("products", "videos", "actions", "log"):
    for name, column in getattr(data, part).items():
      np.testing.assert_array_equal(column, getattr(again, part)[name])
  other = planted_feed.open_source(dataclasses.replace(CONFIG, num_users=20, seed=1))
  assert (other.videos["duration"][1:6] != data.videos["duration"][1:6]).all()


def test_padding_and_sizes(data):
  for part in (data.products, data.videos, data.actions):
    for column in part.values():
      assert not np.any(column[0])
  assert data.products["words"][1:].min() == 1 and data.products["words"].max() <= 40
  assert (np.diff(np.sort(data.products["words"][1:], axis=1)) > 0).all()
  assert data.videos["frames"].shape == (51, 4, 768) and data.videos["known"].sum() == 35
  assert data.truth(np.array([3, 4])).shape == (2, 51) and not data.truth(np.array([3]))[0, 0]
  assert np.abs(data.products["picture"]).max() <= 127


def test_new_videos_are_never_shown_and_lists_have_ten_slots(data):
  log = data.log
  assert data.videos["known"][log["video"]].all() and len(log["user"]) == 400 * 20 * 10
  lists = log["video"].reshape(-1, 10)
  assert (np.diff(np.sort(lists, axis=1)) > 0).all()
  np.testing.assert_array_equal(log["slot"].reshape(-1, 10)[7], np.arange(1, 11))
  assert (log["seconds"] <= data.videos["duration"][log["video"]] * 1.0001).all()
  assert 0.06 < log["random"].mean() < 0.14


def test_watching_follows_the_truth_the_slot_and_the_duration(data):
  log = data.log
  duration = data.videos["duration"][log["video"]].astype(np.float64)
  half = watch_time.watched_half(log["seconds"].astype(np.float64), duration)
  liking = data.truth(log["user"])[np.arange(len(half)), log["video"]].astype(np.float64)
  logit = np.log(liking / (1 - liking)) - 0.5 * np.log(duration / 20)
  chance = log["slot"] ** -0.5 / (1 + np.exp(-logit))
  for rows in (log["slot"] == 1, log["slot"] == 9, duration > 30, duration < 12, liking > 0.9):
    spread = np.sqrt((chance[rows] * (1 - chance[rows])).sum()) / rows.sum()
    assert abs(half[rows].mean() - chance[rows].mean()) < 4 * spread
  # Lists at random tell the chances of slots: r^-.5.
  at_random = log["random"]
  found = watch_time.slot_chances(half[at_random], log["slot"][at_random], 10)
  np.testing.assert_allclose(found[1:], np.arange(1, 11) ** -0.5, atol=0.12)


def test_people_touch_what_they_like(data):
  """Videos are liked more the nearer the products touched; stronger kinds say more."""
  words = np.zeros((61, 41))
  for product, own in enumerate(data.products["words"]):
    words[product, own] = 1
  of_kind = {}
  for strong in (True, False):
    kinds = (data.actions["kind"][1:] <= planted_feed.STRONG) == strong
    profile = (words[data.actions["product"][1:]] * kinds[:, :, None]).sum(axis=1)
    of_kind[strong] = np.square(profile / profile.sum(axis=1, keepdims=True)).sum(axis=1).mean()
  assert of_kind[True] > 1.05 * of_kind[False]


def test_the_view_gives_rows_for_both_kinds_of_models(data):
  view = feed.build(feed.Config(held_out=0.1), data, None)
  assert view.train.count == 48
  for xp in (np, jnp):
    batch = view.train.gather(xp, view.train.columns, np.array([0, 5]))
    assert batch["picture"].shape == (2, 768) and batch["words"].shape == (2, 3)
  of = lambda part: part.gather(np, part.columns, np.arange(part.count))["picture"]
  rows = lambda part: set(map(tuple, of(part)))
  parts = [rows(part) for part in (view.train, view.validation.pairs, view.test.pairs)]
  assert sum(map(len, parts)) == len(set.union(*parts)) == 60
  assert not set(view.validation.user) & set(view.test.user)
  assert len(view.validation.user) + len(view.test.user) == 400
  shown = feed.build(feed.Config(rows="impressions", label="half"), data, None)
  batch = shown.train.gather(np, shown.train.columns, np.array([11]))
  assert batch["video_id"] == data.log["video"][11] and batch["slot"] == 2
  assert batch["duration"] == data.videos["duration"][batch["video_id"]]
  slot = shown.test.slot
  assert np.isnan(slot[~data.videos["known"]]).all()
  video = int(data.log["video"][0])
  np.testing.assert_allclose(slot[video], data.log["slot"][data.log["video"] == video].mean())


def test_labels(data):
  of = lambda **keys: feed.labels(feed.Config(rows="impressions", **keys), data).astype(np.float64)
  ratio, seconds = of(label="ratio"), of(label="seconds")
  duration = data.videos["duration"][data.log["video"]]
  np.testing.assert_allclose(ratio, np.minimum(data.log["seconds"] / duration, 1), rtol=1e-5)
  assert seconds.max() == 1 and np.corrcoef(seconds, duration)[0, 1] > 0.5
  assert abs(np.corrcoef(of(label="quantile"), duration)[0, 1]) < 0.06
  corrected = of(label="half", correct_slots=True)
  by_slot = lambda label: np.bincount(data.log["slot"], label)[[1, 10]]
  plain, fair = by_slot(of(label="half")), by_slot(corrected)
  assert plain[1] < 0.45 * plain[0] and 0.75 < fair[1] / fair[0] < 1.3


def test_mistakes_are_named(data):
  with pytest.raises(ConfigError, match="a feed has at least 10 videos that are not new"):
    planted_feed.Config(num_videos=20, new_videos=11)
  with pytest.raises(ConfigError, match="Unknown value of config.view.label 'rati'. Did you mean 'rat"):
    feed.Config(label="rati")
  with pytest.raises(ConfigError, match="validation_users is a share above 0 and below 0.5, not 0.5"):
    feed.Config(validation_users=0.5)
  with pytest.raises(DataError, match="The view 'feed' needs a feed of videos"):
    feed.build(feed.Config(), None, None)
  few = planted_feed.open_source(dataclasses.replace(CONFIG, num_products=4, num_users=5))
  with pytest.raises(DataError, match="4 products are too few to hold out 2 twice"):
    feed.build(feed.Config(), few, None)
  no_lists = data._replace(log={**data.log, "random": np.zeros_like(data.log["random"])})
  with pytest.raises(DataError, match="has no lists in random order"):
    feed.labels(feed.Config(correct_slots=True), no_lists)
