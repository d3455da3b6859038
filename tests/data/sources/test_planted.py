"""Planted data: the truth is what the generator says, seeds repeat, settings hold."""

import numpy as np
import pytest

from recjax.config import data_config
from recjax.data.frozen import quantize
from recjax.data.load import load
from recjax.data.sources import planted_attributes as attributes
from recjax.data.sources import planted_functions as functions
from recjax.data.sources import planted_interests
from recjax.data.sources import planted_queries as queries
from recjax.data.sources.planted import auc
from recjax.data.sources.planted_chains import chain
from recjax.errors import ConfigError


def table(**options):
  return load({"name": "planted", **options})


BAYES = {
  "count": 0.885, "recency": 0.889, "affinity": 0.939, "long": 0.913, "vectors": 0.860,
  "threads": 0.950, "multi": 0.735,
}


@pytest.mark.parametrize("generator, bayes", BAYES.items())
def test_bayes_auc(generator, bayes):
  for part, value in table(generator=generator).bayes_auc.items():
    assert value == pytest.approx(bayes, abs=0.01), part


@pytest.mark.parametrize("generator", ["count", "recency", "long"])
def test_truth_follows_from_the_columns(generator):
  made = table(generator=generator, num_train=500, num_validation=30, num_test=70, seed=3)
  length = 100 if generator == "long" else 20
  assert [len(part["label"]) for part in made.parts.values()] == [500, 70, 30]
  users = np.concatenate([part["user_id"] for part in made.parts.values()])
  assert users.tolist() == list(range(1, 601))
  assert made.vocabularies == {"user": 601, "item": 2049, "category": 65}
  for part in made.parts.values():
    assert part["hist_item"].shape == part["hist_mask"].shape == (len(part["label"]), length)
    for kind in ("hist", "target"):
      item, category = part[f"{kind}_item"], part[f"{kind}_cat"]
      assert item.min() >= 1 and item.max() <= 2048
      assert (category == (item - 1) % 64 + 1).all()
    hits = part["hist_cat"] == part["target_cat"][:, None]
    if generator == "recency":
      position = length - np.arange(length)  # the last behaviour is 1 before the target
      logit = 3 * ((hits * 0.7 ** (position - 1.0)).sum(1) - 0.5)
    else:
      logit = 2 * (np.log(1 + hits.sum(1)) - 0.9)
    np.testing.assert_allclose(part["bayes"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
    assert part["label"].dtype == part["weight"].dtype == np.float32


def test_affinities_fade_like_recency():
  part = table(generator="affinity", num_train=300, num_categories=8).parts["train"]
  relation = planted_interests.affinity(8)
  assert abs(relation.mean()) < 1e-12 and relation.std() > 0.3
  assert np.abs(relation - relation.T).max() > 0.3
  factors = np.linalg.svd(relation + 0.0)[1]
  assert (factors > 1e-6).sum() <= 5  # four factors, and the mean
  for row in range(0, 300, 60):
    total = sum(
      relation[c - 1, part["target_cat"][row] - 1] * 0.7**age
      for age, c in enumerate(part["hist_cat"][row][::-1])
    )
    assert part["bayes"][row] == pytest.approx(1 / (1 + np.exp(-3 * total)), rel=1e-5)


def test_vectors_lie_around_their_category():
  made = table(generator="vectors", num_train=200, num_validation=20, num_test=20, seed=3)
  vectors = made.frozen["item"].codes
  assert vectors.shape == (20_033, 16) and vectors.dtype == np.float32
  assert not vectors[0].any()
  np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), 1, rtol=1e-5)
  own = np.stack([vectors[1 + c :: 64].mean(0) for c in range(64)])
  nearest = np.argmax(vectors[1:2001] @ own.T / np.linalg.norm(own, axis=1), axis=1)
  assert np.mean(nearest == np.arange(2000) % 64) > 0.8
  part = made.parts["train"]
  hits = (part["hist_cat"] == part["target_cat"][:, None]).sum(1)
  np.testing.assert_allclose(
    part["bayes"], 1 / (1 + np.exp(-1.5 * (np.log(1 + hits) - 1.4))), rtol=1e-5
  )


def test_threads_are_followed_and_the_truth_is_the_posterior():
  part = table(generator="threads", num_train=4000, seed=3).parts["train"]
  thread, place = part["hist_cat"], (part["hist_item"] - 1) // 64
  assert ((part["hist_item"] - 1) % 64 + 1 == thread).all() and place.max() == 15
  assert (np.array([len(set(row)) for row in thread.tolist()]) == 2).mean() > 0.999
  steps, follows, last = 0, 0, np.full(4000, -1)
  for row in range(4000):
    before = {}
    for c, p in zip(thread[row].tolist(), place[row].tolist(), strict=True):
      if c in before:
        steps, follows = steps + 1, follows + (p == (before[c] + 1) % 16)
      before[c] = p
    last[row] = before.get(part["target_cat"][row], -1)
  assert follows / steps == pytest.approx(0.9 + 0.1 / 16, abs=0.005)
  assert (last >= 0).all()
  target = (part["target_item"] - 1) // 64
  after = target == (last + 1) % 16
  assert after[part["label"] > 0].mean() == pytest.approx(0.90625, abs=0.02)
  assert after[part["label"] == 0].mean() == pytest.approx(0.00625, abs=0.005)
  for chosen in (after, ~after):
    assert len(set(part["bayes"][chosen].tolist())) == 1
    assert part["label"][chosen].mean() == pytest.approx(part["bayes"][chosen].mean(), abs=0.02)
  with pytest.raises(ConfigError, match="threads needs 64 cycles of equally many items, 3 or more"):
    table(generator="threads", num_items=100)


def test_vectors_tell_categories_and_items_have_a_part_of_their_own():
  made = table(generator="vectors", num_items=6400, num_train=2000, item_bias=2.0, seed=3)
  codes = made.frozen["item"].codes.astype(np.float64)
  assert codes.shape == (6401, 16) and not codes[0].any()
  unit = codes[1:] / np.linalg.norm(codes[1:], axis=1, keepdims=True)
  category = np.arange(6400) % 64
  near = unit[:200] @ unit.T
  same = category[:200, None] == category[None]
  assert near[same].mean() > 0.5 and abs(near[~same].mean()) < 0.1
  part = made.parts["train"]
  hits = (part["hist_cat"] == part["target_cat"][:, None]).sum(1)
  own = np.log(part["bayes"] / (1 - part["bayes"])) - 1.5 * (np.log1p(hits) - 1.4)
  assert own.std() == pytest.approx(2.0, rel=0.1)
  first = {}
  for item, value in zip(part["target_item"].tolist(), own.tolist(), strict=True):
    assert first.setdefault(item, value) == pytest.approx(value, abs=1e-3)
  plain = table(generator="vectors", num_items=6400, num_train=2000, seed=3, stored="int8")
  codes = plain.frozen["item"].codes
  assert codes.dtype == np.int8
  np.testing.assert_array_equal(codes, quantize(made.frozen["item"].codes))
  np.testing.assert_array_equal(plain.parts["train"]["hist_item"], part["hist_item"])


def test_pictures_of_a_sign_differ_in_place():
  glyphs, random = (
    table(generator="vectors", num_items=640, num_train=20, pictures=kind).frozen["item"]
    for kind in ("glyphs", "random")
  )
  assert (glyphs.width, random.width) == (256, 16) and not glyphs.codes[0].any()
  pictures = glyphs.values(np.arange(1, 641)).reshape(-1, 16, 16)
  a, b = pictures[0], pictures[64]  # of one category
  shifts = [np.roll(b, (i, j), (0, 1)) for i in range(16) for j in range(16)]
  best = max(np.corrcoef(a.ravel(), s.ravel())[0, 1] for s in shifts)
  assert best > 0.5 > abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])
  with pytest.raises(ConfigError, match="Unknown value of config.data.pictures 'glyph'"):
    table(generator="vectors", pictures="glyph")
  with pytest.raises(ConfigError, match="Unknown value of config.data.stored 'int4'.*float16"):
    table(generator="vectors", stored="int4")


def test_interests_noise_and_copied_targets():
  rows = 20_000
  part = table(num_train=rows, noise=0.0, generator="count").parts["train"]
  distinct = np.array([len(set(row)) for row in part["hist_cat"].tolist()])
  assert distinct.max() == 4
  hit = (part["hist_cat"] == part["target_cat"][:, None]).any(1).mean()
  assert hit == pytest.approx(0.7 + 0.3 * distinct.mean() / 64, abs=0.02)
  noisy = table(num_train=rows, noise=1.0, generator="count").parts["train"]["hist_cat"]
  counts = np.bincount(noisy.ravel(), minlength=65)[1:]
  assert counts.min() > 0.85 * counts.mean() and counts.max() < 1.15 * counts.mean()
  # Shares of interests are Dirichlet(1, 1, 1, 1): two behaviours agree with chance 2 / 5.
  same = part["hist_cat"][:, 0] == part["hist_cat"][:, 1]
  assert same.mean() == pytest.approx(0.4, abs=0.03)
  clicks = table(num_train=rows, generator="count").parts["train"]
  assert clicks["label"].mean() == pytest.approx(clicks["bayes"].mean(), abs=0.03)


def test_seeds_repeat_and_differ():
  one, same, other = (
    table(generator="count", num_train=50, num_validation=50, num_test=50, seed=seed)
    for seed in (1, 1, 2)
  )
  for part in one.parts:
    for name, column in one.parts[part].items():
      assert (column == same.parts[part][name]).all()
    assert (one.parts[part]["hist_item"] != other.parts[part]["hist_item"]).any()
  assert (one.parts["train"]["hist_item"] != one.parts["test"]["hist_item"]).any()


def test_auc_by_hand():
  assert auc(np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.4])) == 0.875
  assert np.isnan(auc(np.ones(3), np.arange(3)))


def test_markov_walks_the_chain(tmp_path):
  log = load({"name": "planted", "cache": str(tmp_path), "seed": 5})
  assert (log.num_users, log.num_items, log.ordered) == (300, 120, True)
  sizes = np.diff(log.indptr)[1:]
  assert sizes.min() >= 8 and sizes.max() <= 30
  successor = np.array(log.facts["successor"])
  assert successor.tolist() == chain(5, 120).tolist()
  seen, item = set(), 1
  while item not in seen:
    seen.add(item)
    item = successor[item]
  assert len(seen) == 120
  inside = np.ones(log.num_events - 1, np.bool_)
  inside[log.indptr[2:-1] - 1] = False
  follows = (successor[log.item[:-1]] == log.item[1:])[inside].mean()
  assert follows == pytest.approx(0.8 + 0.2 / 120, abs=0.02)
  assert (np.diff(log.time)[inside] == 3600).all()
  assert log.vocabularies["category"] == 9 and log.items["label"][7] == "Item 7"
  pure = load({"name": "planted", "cache": str(tmp_path), "noise": 0.0, "num_users": 20})
  inside = np.ones(pure.num_events - 1, np.bool_)
  inside[pure.indptr[2:-1] - 1] = False
  successor = np.array(pure.facts["successor"])
  assert (successor[pure.item[:-1]] == pure.item[1:])[inside].all()


def test_two_signals_follow_the_successor_or_a_liked_group(tmp_path):
  sizes = {"num_users": 400, "shortest": 12, "longest": 12, "cache": str(tmp_path)}
  log = load({"name": "planted", "generator": "two_signals", **sizes})
  assert (log.num_users, log.num_items, log.num_events) == (400, 400, 4800)
  item = np.asarray(log.item).reshape(400, 12)
  names = np.array(log.facts["names"]["events.step"])
  step = names[np.asarray(log.columns["step"]).reshape(400, 12)]
  assert (step[:, 0] == "start").all() and (step[:, 1:] != "start").all()
  successor, category = np.array(log.facts["successor"]), (np.arange(401) - 1) % 20
  assert (category[successor[1:]] != category[1:]).all()
  follows = step[:, 1:] == "successor"
  assert follows.mean() == pytest.approx(0.35, abs=0.02)
  assert (successor[item[:, :-1]] == item[:, 1:])[follows].all()
  # Starts and collaborative steps keep to the categories that a user likes, three at most.
  liked = [set(category[row[kind != "successor"]]) for row, kind in zip(item, step, strict=True)]
  assert 2 <= max(map(len, liked)) <= 3
  # A collaborative step stays among the categories of the last three, where one of them is liked.
  recent = [
    category[now] in {category[i] for i in row[max(0, t - 3) : t]}
    for row, kind, likes in zip(item, step, liked, strict=True)
    for t, now in enumerate(row)
    if kind[t] == "collaborative" and likes & {category[i] for i in row[max(0, t - 3) : t]}
  ]
  assert len(recent) > 1000 and np.mean(recent) > 0.97


def test_interest_functions_move_with_time(tmp_path):
  log = load({"name": "planted", "generator": "interest_functions", "cache": str(tmp_path),
              "noise": 0.0, "num_users": 500, "seed": 2})
  assert (log.num_users, log.num_items, log.num_events) == (500, 64, 500 * 21)
  items = np.asarray(log.item).reshape(500, 21)
  topics = (items - 1) // 8
  np.testing.assert_array_equal(np.asarray(log.items["category"])[items], topics + 1)
  assert (topics[:, :20].reshape(-1, 5, 4) == topics[:, :20:4, None]).all()
  times = np.asarray(log.time).reshape(500, 21).astype(np.float64) / functions.UNIT
  times += log.origin / functions.UNIT - 1600
  sessions = times[:, ::4]
  assert (np.abs(sessions - np.arange(6) / 6 - 0.075) <= 0.0751).all()
  # Some velocity and phase explain all sessions of everybody.
  phase = (np.arange(2000) + 0.5)[None, :, None] / 2000
  found = np.zeros(500, bool)
  for velocity in functions.VELOCITIES:
    would = functions.topic_at(phase, velocity, sessions[:, None], 8)
    found |= (would == topics[:, None, ::4]).all(2).any(1)
  assert found.mean() > 0.99
  assert set(log.facts["bayes_hr"]) == {"sessions_1", "sessions_2", "sessions_5"}


def test_how_much_earlier_sessions_can_tell():
  """What anyone could know: .30 from the last session, .69 from two, .84 from all five."""
  rates = functions.best_hit_rates(0, 64, 8, 0.1)
  for sessions, rate in ((1, 0.30), (2, 0.69), (5, 0.84)):
    assert rates[f"sessions_{sessions}"] == pytest.approx(rate, abs=0.025)


def test_the_oracle_by_hand():
  # Four topics of two items; topic 0 in both sessions known and no noise: only v = 2 comes back.
  items = np.array([[1] * 12 + [1, 2, 1, 2] + [1, 1, 2, 2] + [5]])
  times = np.array([[0, 0, 0, 0.2, 0.7, 0.7]])
  belief = functions.oracle(items, times, 2, 8, 4, 0.0)
  np.testing.assert_allclose(belief.sum(), 1)
  np.testing.assert_allclose(belief[0, 0], 1.0)  # asked for at the time of the last session
  later = functions.oracle(items, np.array([[0, 0, 0, 0.2, 0.7, 0.95]]), 2, 8, 4, 0.0)
  np.testing.assert_allclose(later[0, 2], 1.0)  # a quarter later, half the topics further


def test_companions_go_with_causes_until_they_are_parted():
  log = table(generator="companions", num_users=6500)
  item = np.asarray(log.item).reshape(6500, 11)
  category = np.asarray(log.items["category"])[item]
  np.testing.assert_array_equal(category, (item - 1) // 40 + 1)
  cause = category[:, -1]
  own = category == cause[:, None]
  assert (cause <= 10).all() and (own.sum(axis=1) == 5).all()
  companion = np.where(own, 0, category).max(axis=1)
  assert ((category == companion[:, None]).sum(axis=1) == 6).all() and (companion > 10).all()
  assert all(len(set(row)) == 11 for row in item.tolist())  # the target is unseen
  # Whether the companion is the usual one: nine users of ten, then one in ten of every other late one.
  kind = np.array(log.facts["names"]["events.shift"])[np.asarray(log.columns["shift"])[::11]]
  usual = companion == np.array(log.facts["companion"])[cause - 1]
  assert (kind[:4550] == "in").all() and (kind[4550:] == "out").sum() == 975
  assert usual[kind == "in"].mean() == pytest.approx(0.91, abs=0.02)
  assert usual[kind == "out"].mean() == pytest.approx(0.19, abs=0.04)
  # The target's style is that of most of the cause's items; a half is evenly shared out.
  style = (item - 1) % 2
  share = np.where(own[:, :-1], style[:, :-1], 0).sum(axis=1)
  np.testing.assert_array_equal(style[share != 2, -1], (share > 2)[share != 2])
  assert style[share == 2, -1].mean() == pytest.approx(0.5, abs=0.04)
  assert own[:, 0].mean() == pytest.approx(0.4, abs=0.02)  # in random order
  assert (np.diff(np.asarray(log.time).reshape(6500, 11)[:, -1]) == 86_400).all()


def test_a_new_interest_comes_after_lasting_ones():
  log = table(generator="long_short", num_users=1000)
  assert (log.num_users, log.num_items, log.num_events) == (1000, 1000, 49_000)
  item = np.asarray(log.item).reshape(1000, 49)
  cluster = np.asarray(log.items["category"])[item] - 1
  np.testing.assert_array_equal(cluster, (item - 1) // 20)
  kind = np.array(log.facts["names"]["events.kind"])[np.asarray(log.columns["kind"])].reshape(1000, 49)
  assert (kind[:, :40] == "lasting").all() and ((kind[:, 40:48] == "new").sum(axis=1) == 6).all()
  assert (kind[:, 48] == "new").mean() == pytest.approx(0.6, abs=0.05)
  # Four groups a user, one of them new; within a group most events are of one cluster.
  group = cluster // 5
  assert all(len(set(row)) == 4 for row in group.tolist())
  new = np.where(kind[:, :48] == "new", group[:, :48], -1).max(axis=1)
  assert (group[:, :40] != new[:, None]).all()
  pure = np.asarray(table(generator="long_short", num_users=1000, noise=0.0).item).reshape(1000, 49)
  assert all(len(set(row)) == 4 for row in ((pure - 1) // 20).tolist())
  main = ((pure - 1) // 20)[:, :, None] == cluster[:, None, :]
  off = ~main[:, :48, :48].any(axis=1)
  assert off.mean() == pytest.approx(0.1, abs=0.01)
  assert all(row[-1] not in row[:-1] for row in item.tolist())
  main = ((pure - 1) // 20 == cluster[:, -1:]).any(axis=1)
  assert main.all()  # the target is of a cluster of the user's own


@pytest.mark.parametrize(
  "options, message",
  [
    ({"generator": "two_signals", "num_items": 50}, "deals 50 items evenly to 20"),
    ({"generator": "two_signals", "follow": 1.5}, "follow is between 0 and 1, not 1.5"),
    ({"generator": "markof"}, "Did you mean 'markov'"),
    ({"generator": "count", "num_items": 100}, "cannot be dealt evenly"),
    ({"generator": "count", "interests": 65}, "cannot be dealt evenly"),
    ({"generator": "multi", "num_categories": 50}, "given 50 categories, 4096 items and 3 interests"),
    ({"generator": "multi", "interests": 2}, "one interest of each kind"),
    ({"generator": "companions", "num_items": 100}, "even and at least 10, but has 100 items of 20"),
    ({"generator": "long_short", "num_categories": 15}, "in at least 4 groups of 5, but has 1000"),
    ({"num_users": 0}, "num_users is at least 1"),
    ({"generator": "interest_functions", "num_items": 60}, "60 items cannot be dealt evenly"),
    ({"generator": "interest_functions", "noise": 1.5}, "noise is at least -1 and at most 1, not 1.5"),
    ({"shortest": 9, "longest": 8}, "markov needs"),
    ({"generator": "modalities", "longest": 2}, "30 clusters and 2 events of each user"),
    ({"generator": "modalities", "num_categories": 2, "num_items": 60}, "to clusters, at least 3"),
    ({"generator": "queries", "num_items": 50}, "queries deals items evenly to needs"),
    ({"generator": "queries", "num_items": 20, "shortest": 21, "longest": 21}, "nobody has one twice"),
  ],
)
def test_settings_that_cannot_work(options, message):
  with pytest.raises(ConfigError, match=message):
    table(**options)


def test_another_name_is_enough():
  """Keys of one source do not stand in the way of another while they have their defaults."""
  values = {field: getattr(data_config({"name": "planted"}), field) for field in ("noise", "seed")}
  assert data_config({**values, "name": "movielens_100k"}).name == "movielens_100k"
  with pytest.raises(ConfigError, match="Unknown key of config.data 'seed'"):
    data_config({"name": "movielens_100k", "seed": 1})
  with pytest.raises(ConfigError, match="lacks the key 'name'"):
    data_config({"seed": 1})


def test_clicks_of_three_kinds():
  made = table(generator="multi", num_train=3000, num_validation=30, num_test=70, seed=3)
  assert made.vocabularies == {"user": 3101, "item": 4097, "category": 49}
  part = made.parts["train"]
  history, target = part["hist_cat"], part["target_cat"]
  assert history.shape == (3000, 100, 3) and target.shape == (3000, 3)
  for categories, items in ((history, part["hist_item"]), (target, part["target_item"])):
    value = categories - 16 * np.arange(3) - 1  # kinds have numbers of their own
    assert value.min() == 0 and value.max() == 15
    np.testing.assert_array_equal(items, value @ [1, 16, 256] + 1)
  share = (history == target[:, None]).mean(1)
  logit = 1.2 * (share >= 0.1).sum(1) - 1.5
  np.testing.assert_allclose(part["bayes"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
  # Half of the behaviours express one liked value of three; the rest is chance, one in sixteen.
  counts = np.apply_along_axis(np.bincount, 1, history.reshape(3000, -1), minlength=49)[:, 1:]
  liked = counts.reshape(3000, 3, 16).max(2).mean()
  assert liked == pytest.approx(100 * (1 / 6 + 5 / 6 / 16), abs=0.7)


def test_attributes_tell_the_group_by_half_of_the_clicks():
  log = table(generator="attributes", num_users=800, shortest=20, longest=30, seed=5)
  lengths = np.diff(log.indptr)[1:]
  assert lengths.min() == 20 and lengths.max() == 30
  assert log.vocabularies["group"] == 3 and log.facts["names"]["users.group"] == ["", "a", "b"]
  group = np.asarray(log.users["group"])[1:] - 1
  np.testing.assert_array_equal(group, attributes.groups(5, 800))
  assert 0.4 < group.mean() < 0.6
  topic = np.asarray(log.items["category"])[log.item] - 1
  owner = np.repeat(group, lengths)
  driven = np.asarray(log.facts["names"]["events.drive"])[log.columns["drive"]] == "group"
  assert driven.mean() == pytest.approx(0.5, abs=0.02)
  assert (topic[~driven] < 10).all() and (topic[driven] >= 10).all()
  assert log.facts["neutral_categories"] == list(range(1, 11))
  own = (topic[driven] - 10) // 5 == owner[driven]
  assert own.mean() == pytest.approx(0.9, abs=0.02)
  # Within a block topics are equally likely; a taste is narrower: a user's likeliest topic has much.
  counts = np.bincount(topic[driven] - 10, minlength=10)
  assert counts.min() > 0.85 * counts.mean()
  user = np.repeat(np.arange(800), lengths)
  tastes = np.zeros((800, 10))
  np.add.at(tastes, (user[~driven], topic[~driven]), 1)
  assert 0.4 < (tastes.max(1) / np.maximum(tastes.sum(1), 1)).mean() < 0.7
  # Vectors: items of a topic lie around its centre, of which each number has the variance 9 / 24.
  vectors = np.asarray(log.items["vector"])[1:]
  assert vectors.shape == (1000, 24)
  centre = np.stack([vectors[t::20].mean(0) for t in range(20)])
  assert (vectors - centre[np.arange(1000) % 20]).std() == pytest.approx(0.3, abs=0.01)
  assert centre.std() == pytest.approx((9 / 24) ** 0.5, abs=0.06)
  again = table(generator="attributes", num_users=800, shortest=20, longest=30, seed=6)
  assert not np.array_equal(again.item[:100], log.item[:100])
  with pytest.raises(ConfigError, match="attributes deals items evenly to categories"):
    table(generator="attributes", num_categories=10)


def test_queries_tell_the_need():
  log = table(generator="queries", num_users=400, shortest=10, longest=16, seed=5)
  lengths = np.diff(log.indptr)[1:]
  assert lengths.min() == 10 and lengths.max() == 16
  need = np.asarray(log.items["category"])[log.item] - 1
  words = np.stack([np.asarray(log.columns[f"word_{n}"]) for n in (1, 2)], axis=1)
  search = np.asarray(log.facts["names"]["events.kind"])[log.columns["kind"]] == "search"
  assert search.mean() == pytest.approx(0.4, abs=0.02)
  assert (words[search] > 0).all() and not words[~search].any() and words.max() == 60
  own = (words[search] - 1) // 3 == need[search, None]
  assert own.mean() == pytest.approx(0.9 + 0.1 / 20, abs=0.01)
  both = own.all(axis=1)
  # Two different words of the need, unless noise makes them equal.
  assert (words[search][both, 0] == words[search][both, 1]).mean() < 0.01
  # Nobody has an item twice; somebody's likeliest need has much of what they do.
  user = np.repeat(np.arange(1, 401), lengths)
  assert len(np.unique(user * 201 + np.asarray(log.item))) == log.num_events
  counts = np.zeros((401, 20))
  np.add.at(counts, (user, need), 1)
  assert 0.25 < (counts[1:].max(1) / lengths).mean() < 0.5
  silent = table(generator="queries", num_users=50, searches=0.0, seed=5)
  assert not np.asarray(silent.columns["word_1"]).any()


def test_queries_go_by_taste_among_items_of_a_need():
  """What comes first of a need is liked more than what comes later."""
  made = next(queries.events(3, 500, 40, 4, 30, 30, 0.4, 0.1))
  rng = np.random.default_rng([3, 0])
  taste, style = rng.normal(size=(500, 8)), rng.normal(size=(40, 8))
  liking = np.einsum("nd,nd->n", taste[made.user - 1], style[made.item - 1]).reshape(500, 30)
  assert liking[:, :5].mean() > liking[:, -5:].mean() + 1.0
  assert len(made.item) == 15_000  # the share of a need that is used up goes to the others


def test_vectors_of_modalities_tell_clusters_and_shuffled_ones_do_not(tmp_path):
  log = load({
    "name": "planted", "generator": "modalities", "num_users": 300, "longest": 12,
    "cache": str(tmp_path),
  })
  item = np.asarray(log.item).reshape(300, 12)
  assert all(len(set(row)) == 12 for row in item.tolist())
  cluster = (np.arange(1, 601) - 1) % 30
  np.testing.assert_array_equal(log.items["category"][1:], cluster + 1)
  for name, width in (("picture", 64), ("text", 48)):
    nearest = {}
    for column in (name, f"shuffled_{name}"):
      vectors = log.items[column][1:]
      assert vectors.shape == (600, width)
      unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
      cosine = unit @ unit.T - 2.0 * np.eye(600)
      nearest[column] = (cluster[cosine.argmax(axis=1)] == cluster).mean()
    assert nearest[name] > 0.95 and nearest[f"shuffled_{name}"] < 0.12  # chance is 1 in 30
  # Nine events of ten are of the three clusters that a user likes.
  top = np.array([np.sort(np.bincount(cluster[row - 1], minlength=30))[-3:].sum() for row in item])
  assert 0.88 < top.mean() / 12 < 0.97
  # In a cluster the first item is had twice as often as the second, but for who has both.
  count = np.bincount(item.reshape(-1), minlength=601)[1:].reshape(20, 30).sum(axis=1)
  assert count[0] > 1.3 * count[1] > 1.3 * count[4]
  trained = np.bincount(item[:, :-2].reshape(-1), minlength=601)
  seldom = np.asarray(log.columns["had"]) == log.facts["names"]["events.had"].index("seldom")
  np.testing.assert_array_equal(seldom, trained[np.asarray(log.item)] <= 2)
