"""The protocols of experiments/ctr.py on raw files: which rows, which histories, which negatives.

The files are written by hand or made up, in the format that was published; numbers of rows follow from
the numbers of events, as they do for the published sets.
"""

import json
import pathlib

import numpy as np
import pytest

from recjax.config import read_config_file
from recjax.data.load import load
from recjax.data.splits import make_split
from recjax.data.views.rows import View
from recjax.errors import ConfigError
from recjax.programs.prove import override
from recjax.registry import resolve

CTR = pathlib.Path(__file__).parents[2] / "experiments" / "ctr.py"
HISTORIES = {
  "U1": ["B1", "B2", "B3", "B4", "B5"], "U2": ["B2", "B6", "B1"], "U3": ["B7", "B8"],
}


def built(protocol, *settings, data="") -> tuple:
  """(log, view) of a protocol."""
  name = f"{CTR}:protocol={protocol}" + (f",data={data}" if data else "")
  config = override(read_config_file(name), settings)
  log = load(config.data)
  view: View = resolve("view", config.view.name).build(
    config.view, log, make_split(log, config.split)
  )
  return log, view


def gathered(rows) -> dict[str, np.ndarray]:
  """All rows as one batch; that devices gather the same is tested where the rows are made."""
  return rows.gather(np, rows.columns, np.arange(rows.count))


def write_amazon(folder, histories) -> tuple[str, ...]:
  """Files of reviews and products, written from the newest review to the oldest; settings for them."""
  reviews = [
    {"reviewerID": user, "asin": item, "unixReviewTime": 1_400_000_000 + 86_400 * day}
    for user, items in histories.items() for day, item in enumerate(items)
  ]
  text = "".join(json.dumps(review) + "\n" for review in reversed(reviews))
  (folder / "reviews.json").write_text(text)
  products = sorted({item for items in histories.values() for item in items})
  first, last = (lambda item: f"first {int(item[1:]) % 2}"), (lambda item: f"last {int(item[1:]) % 3}")
  text = "".join(
    repr({"asin": item, "categories": [["All", first(item)], ["All", "x", last(item)]]}) + "\n"
    for item in products
  )
  (folder / "meta.json").write_text(text)
  return (
    f"data.path={folder / 'reviews.json'}", f"data.metadata={folder / 'meta.json'}",
    f"data.cache={folder / 'cache'}",
  )


def made_up(users, seed=0, least=5) -> dict[str, list[str]]:
  """Histories of different items, of `least` events or more."""
  rng = np.random.default_rng(seed)
  return {
    f"U{user}": [f"B{item}" for item in 1 + rng.permutation(90)[: least + rng.geometric(0.2)]]
    for user in range(users)
  }


def test_ae_v_by_hand(tmp_path):
  log, view = built("ae_v", *write_amazon(tmp_path, HISTORIES))
  batch = gathered(view.train)
  # U1 asks about B2 and B3 in training, U2 about nothing; U3 is too short to hold anything out.
  np.testing.assert_array_equal(batch["user_id"], [1, 1, 1, 1, 3, 3])
  np.testing.assert_array_equal(batch["label"], [1, 0] * 3)
  np.testing.assert_array_equal(batch["target_item"][::2], [2, 3, 8])
  assert batch["hist_item"].shape == (6, 430)
  np.testing.assert_array_equal(batch["hist_item"][:, -2:], [[0, 1]] * 2 + [[1, 2]] * 2 + [[0, 7]] * 2)
  assert set(batch["target_item"][[1, 3]]) <= {6, 7, 8} and batch["target_item"][5] <= 6
  names = log.facts["names"]["items.category"]
  assert [names[c] for c in batch["target_cat"][::2]] == ["last 2", "last 0", "last 2"]
  validation, test = gathered(view.validation.rows), gathered(view.test.rows)
  np.testing.assert_array_equal(validation["target_item"][:, 0], [4, 6])
  np.testing.assert_array_equal(validation["hist_item"][:, -3:], [[1, 2, 3], [0, 0, 2]])
  np.testing.assert_array_equal(test["target_item"][:, 0], [5, 1])
  np.testing.assert_array_equal(test["hist_item"][:, -4:], [[1, 2, 3, 4], [0, 0, 2, 6]])
  for part in (validation, test):
    assert part["target_item"].shape == (2, 2) and part["target_item"][0, 1] in (6, 7, 8)
    assert part["target_item"][1, 1] in (3, 4, 5, 7, 8)
  assert log.facts["cleaned"]["repeated_events"] == 0


def test_ae_by_hand(tmp_path):
  _, view = built("ae", *write_amazon(tmp_path, HISTORIES))
  batch = gathered(view.train)
  np.testing.assert_array_equal(batch["user_id"], [1] * 6 + [2] * 2)
  np.testing.assert_array_equal(batch["target_item"][::2], [2, 3, 4, 6])
  histories = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 2]]
  np.testing.assert_array_equal(batch["hist_item"][::2, -3:], histories)
  test = gathered(view.test.rows)
  np.testing.assert_array_equal(test["target_item"][:, 0], [5, 1, 8])
  assert view.validation is view.test


def test_rows_of_ae_follow_from_users_and_events(tmp_path):
  # 1,689,188 reviews of 192,403 users, all with 5 or more: the sizes that the authors' logs have.
  assert 2 * (1_689_188 - 2 * 192_403) == 2_608_764
  assert 2 * (1_689_188 - 3 * 192_403) == 2_223_958
  histories = made_up(40)
  events, files = sum(map(len, histories.values())), write_amazon(tmp_path, histories)
  for protocol, left_out in (("ae", 2), ("ae_v", 3)):
    log, view = built(protocol, *files)
    assert (log.num_users, log.num_events) == (40, events)
    assert view.train.count == view.facts["train_rows"] == 2 * (events - left_out * 40)
    for cases in (view.validation, view.test):
      np.testing.assert_array_equal(gathered(cases.rows)["label"], [[1, 0]] * 40)


def test_ab_has_one_pair_a_user_and_shares_no_user(tmp_path):
  # B1 has half of all reviews.
  histories = {user: items + ["B1"] * len(items) for user, items in made_up(200, least=2).items()}
  log, view = built("ab", *write_amazon(tmp_path, histories))
  names = log.facts["names"]["items.category"]
  assert names == ["", "first 0", "first 1"]
  train = gathered(view.train)
  parts = [train, *(gathered(cases.rows) for cases in (view.validation, view.test))]
  assert [len(set(part["user_id"])) for part in parts] == [160, 20, 20]
  assert len(set(np.concatenate([np.unique(part["user_id"]) for part in parts]))) == 200
  assert view.train.count == 2 * 160 and parts[2]["target_item"].shape == (20, 2)
  number = {name: at for at, name in enumerate(log.items["raw"].tolist())}
  for part in parts:
    candidates, labels = part["target_item"].reshape(-1, 2), part["label"].reshape(-1, 2)
    np.testing.assert_array_equal(labels, np.tile([1, 0], (len(labels), 1)))
    assert (candidates[:, 0] != candidates[:, 1]).all() and (candidates[:, 0] == number["B1"]).all()
    users = part["user_id"].reshape(len(labels), -1)[:, 0]
    rows = part["hist_item"].reshape(len(labels), -1, 100)[:, 0]
    for user, row in zip(users, rows, strict=True):
      own = [number[item] for item in histories[log.users["raw"][user]]][:-1]
      assert row[row > 0].tolist() == own[-100:]
  # What the user has bought at another time may be drawn.
  drawn = train["target_item"].reshape(-1, 2)[:, 1]
  assert any(d in row for d, row in zip(drawn, train["hist_item"][::2], strict=True))


def write_taobao(folder, histories, kinds=("pv",), start=1_511_600_000) -> tuple[str, ...]:
  """A file of behaviours, users interleaved; settings for it."""
  rows = [
    (start + 60 * at, f"{user},{item},{1000 + item % 7},{kinds[at % len(kinds)]},{start + 60 * at}")
    for user, items in histories.items() for at, item in enumerate(items)
  ]
  outside = [f"1,1,1001,pv,{time}" for time in (-5, 1_511_539_199, 1_512_316_800)]
  (folder / "taobao.csv").write_text("\n".join([*outside, *(row for _, row in sorted(rows))]) + "\n")
  return (f"data.path={folder / 'taobao.csv'}", f"data.cache={folder / 'cache'}")


def test_tb_cuts_users_by_their_last_event(tmp_path):
  # User u has 2 + u behaviours, so that users end in the order of their numbers.
  histories = {user: list(range(user, 2 * user + 2)) for user in range(1, 41)}
  log, view = built("tb", *write_taobao(tmp_path, histories, ("pv", "buy")))
  assert log.facts["cleaned"] == {
    "rows_outside_times": 3, "categories_overruled": 0, "repeated_events": 0,
  }
  assert log.num_events == sum(map(len, histories.values())) and log.vocabularies["category"] == 8
  parts = [gathered(rows) for rows in (view.train, view.validation.rows, view.test.rows)]
  # Lower quantiles .6 and .7 of 40 last times are those of users 24 and 28.
  assert [part["user_id"].tolist() for part in parts] == [
    list(range(1, 24)), list(range(24, 28)), list(range(28, 41))
  ]
  number = {name: at for at, name in enumerate(log.items["raw"].tolist())}
  for part in parts:
    columns = (part[n].reshape(len(part["user_id"]), -1) for n in ("hist_item", "target_item", "label"))
    for user, row, candidate, label in zip(part["user_id"], *columns, strict=True):
      own = [number[str(item)] for item in histories[user]]
      assert row[row > 0].tolist() == own[:-1] and (candidate[0] == own[-1]) == (label[0] > 0)
  labels = np.concatenate([part["label"].ravel() for part in parts])
  assert 10 < labels.sum() < 30


def test_tb_l_asks_about_every_fifth_of_long_histories(tmp_path):
  rng = np.random.default_rng(0)
  sizes = {1: 210, 2: 209, 3: 260}
  histories = {user: (1 + rng.permutation(400)[:size]).tolist() for user, size in sizes.items()}
  log, view = built("tb_l", *write_taobao(tmp_path, histories))
  assert log.users["raw"].tolist() == ["", "1", "3"]
  # Items that only left users viewed stay numbers, but nobody draws them.
  assert log.num_items == len({item for items in histories.values() for item in items} | {1})
  batch = gathered(view.train)
  assert view.train.count == 2 * 19 * 3
  number = {name: at for at, name in enumerate(log.items["raw"].tolist())}
  drawable = set(np.asarray(log.item).tolist())
  for user, raw in ((1, 1), (2, 3)):
    own = [number[str(item)] for item in histories[raw]]
    rows = batch["user_id"] == user
    asked = [own[-back] for back in range(93, 2, -5)]
    assert batch["target_item"][rows][::3].tolist() == asked and len(asked) == 19
    others = batch["target_item"][rows & (batch["label"] == 0)]
    assert not set(others.tolist()) & set(own) and set(others.tolist()) <= drawable
    newest = batch["hist_item"][rows][-1]
    assert newest[newest > 0].tolist() == own[:-3][-200:]
    for cases, back in ((view.validation, 2), (view.test, 1)):
      case = gathered(cases.rows)
      assert case["target_item"].shape == (2, 3)
      assert case["target_item"][user - 1, 0] == own[-back]
      assert case["hist_mask"][user - 1].sum() == 200


@pytest.mark.parametrize(
  "protocol, data, negatives", [("ae_v", "amazon14_grocery_train", 1), ("small", "ml_100k", 4)]
)
def test_rows_of_real_sets_follow_from_users_and_events(protocol, data, negatives, data_dir):
  if not (data_dir / data).is_dir():
    pytest.skip(f"{data} is not there")
  log, view = built(protocol, data=data)
  assert np.diff(log.indptr)[1:].min() >= 3
  assert view.train.count == (1 + negatives) * (log.num_events - 3 * log.num_users)
  assert view.test.rows.count == view.validation.rows.count == log.num_users
  assert view.test.rows.schema.fields["target_cat"].vocabulary == "category"


def test_long_histories_of_exposures(data_dir):
  if not (data_dir / "kuairand_pure_part").is_dir():
    pytest.skip("kuairand_pure_part is not there")
  log, view = built("long")
  rows = sum(view.facts[f"{part}_rows"] for part in ("train", "validation", "test"))
  assert rows + view.facts["exposures_within_earlier"] == log.num_events
  assert log.num_events + log.facts["cleaned"]["repeated_events"] == 222_451
  index = np.arange(0, view.test.rows.count, 97)
  test = view.test.rows.gather(np, view.test.rows.columns, index)
  assert test["hist_item"].shape == (len(index), 1000)
  # Up to 50 long views before the log, and the clicks since.
  assert 50 < test["hist_mask"].sum(1).max() < 1000


def test_long_histories_of_exposures_in_a_csv_file(tmp_path):
  rows = ["user,item,tag,click,t"]
  # User a sees item 1 + t at time t and clicks on every second one; user b clicks on nothing.
  rows += [f"a,{1 + t},c{t % 2},{t % 2},{t}" for t in range(20)]
  rows += [f"b,{1 + t},c{t % 2},0,{t}" for t in range(20)]
  (tmp_path / "shown.csv").write_text("\n".join(rows) + "\n")
  keys = {"user": "user", "item": "item", "category": "tag", "time": "t"}
  log, view = built(
    "long", f"data.path={tmp_path / 'shown.csv'}", f"data.cache={tmp_path}",
    *(f"data.{key}={column}" for key, column in keys.items()), "data.columns=('click',)",
    "view.label=click", "view.earlier=", "view.earlier_until=", data="csv",
  )
  # Lower quantiles .7 and .8 of 0 0 1 1 ... 19 19 are 13 and 15.
  train, test = gathered(view.train), gathered(view.test.rows)
  assert len(train["label"]) == 26 and test["target_item"].tolist() == [*range(16, 21)] * 2
  assert test["label"].tolist() == [1, 0, 1, 0, 1] + [0] * 5
  assert test["hist_item"].shape == (10, 1000)
  history = [row[row > 0].tolist() for row in test["hist_item"]]
  clicked = [2, 4, 6, 8, 10, 12, 14]
  assert history == [
    clicked, [*clicked, 16], [*clicked, 16], [*clicked, 16, 18], [*clicked, 16, 18], *[[]] * 5
  ]
  assert log.items["category"].tolist() == [0] + [1, 2] * 10


def test_an_unknown_protocol_lists_the_known_ones():
  with pytest.raises(ConfigError, match="Unknown protocol 'ae_vv'. Did you mean 'ae_v'"):
    read_config_file(f"{CTR}:protocol=ae_vv")
