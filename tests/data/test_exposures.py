"""Exposure logs: histories by hand and by brute force, cuts in time, nothing known too early."""

import dataclasses

import logs
import numpy as np
import pytest

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import exposures
from recjax.errors import ConfigError, DataError

GLOBAL = Split(name="global_time", validation_from=0.6, test_from=0.9)
CATEGORY = [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def exposed(histories, times, clicks, earlier=None, until=None, origin=0):
  """An exposure log of users 1, 2, ...; `clicks` like `histories`, `earlier` with user 0."""
  log = logs.log(histories, times, num_items=9, category=CATEGORY)
  columns = {"is_click": np.asarray([c for row in clicks for c in row], np.int8)}
  users = {} if earlier is None else {"watched": np.asarray(earlier)}
  if until is not None:
    users["until"] = np.asarray(until)
  return dataclasses.replace(log, columns=columns, users=users, origin=origin)


def hand(**options):
  log = exposed(
    [[1, 2, 3, 4, 5], [6, 7, 8]],
    [[10, 20, 20, 30, 40], [12, 31, 45]],
    [[1, 1, 0, 1, 0], [0, 1, 1]],
    earlier=[[0, 0], [9, 8], [5, 0]],
    until=[0, 1009, 1012],
    origin=1000,
  )
  return exposures.build(exposures.Config(length=3, **options), log, make_split(log, GLOBAL)), log


def test_rows_by_hand():
  view, log = hand()
  # Times 10 12 20 20 | 30 31 | 40 45: validation from 30, test from 40.
  train = logs.gathered(view.train)
  np.testing.assert_array_equal(train["user_id"], [1, 1, 1, 2])
  np.testing.assert_array_equal(train["target_item"], [1, 2, 3, 6])
  np.testing.assert_array_equal(train["target_cat"], [1, 1, 1, 2])
  np.testing.assert_array_equal(train["label"], [1, 1, 0, 0])
  # The click on 2 happens at the time at which 3 is shown: 3 does not know it.
  history = [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
  np.testing.assert_array_equal(train["hist_item"], history)
  np.testing.assert_array_equal(train["hist_mask"], np.asarray(history) > 0)
  validation = logs.gathered(view.validation.rows)
  np.testing.assert_array_equal(validation["target_item"], [4, 7])
  np.testing.assert_array_equal(validation["hist_item"], [[0, 1, 2], [0, 0, 0]])
  test = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(test["target_item"], [5, 8])
  np.testing.assert_array_equal(test["label"], [0, 1])
  np.testing.assert_array_equal(test["hist_item"], [[1, 2, 4], [0, 0, 7]])
  np.testing.assert_array_equal(test["hist_cat"], [[1, 1, 2], [0, 0, 3]])
  np.testing.assert_array_equal(view.test.targets, [[0], [8]])
  np.testing.assert_array_equal(view.test.seen(np.array([1, 0])), [[7, 0, 0], [1, 2, 4]])
  np.testing.assert_array_equal(view.counts["item"], [0, 3, 1, 1, 0, 0, 1, 0, 0, 0])
  np.testing.assert_array_equal(view.counts["category"], [0, 5, 1, 0])
  assert (view.facts["train_rows"], view.facts["validation_rows"], view.facts["test_rows"]) == (4, 2, 2)


def test_earlier_behaviours_come_first_and_what_they_may_hold_is_left_out():
  view, _ = hand(earlier="watched", earlier_until="until")
  train = logs.gathered(view.train)
  # The exposure of user 2 at 1012 is not after the time that their list reaches to.
  np.testing.assert_array_equal(train["target_item"], [1, 2, 3])
  np.testing.assert_array_equal(train["hist_item"], [[0, 9, 8], [9, 8, 1], [9, 8, 1]])
  np.testing.assert_array_equal(logs.gathered(view.test.rows)["hist_item"], [[1, 2, 4], [0, 5, 7]])
  assert view.facts["exposures_within_earlier"] == 1 and view.facts["earlier_behaviours"] == 3
  without, _ = hand(earlier="watched")
  np.testing.assert_array_equal(logs.gathered(without.train)["hist_item"][3], [0, 0, 5])


def test_no_row_knows_what_comes_at_or_after_it():
  rng = np.random.default_rng(0)
  sizes = rng.integers(0, 12, 30)
  items = [rng.integers(1, 10, n).tolist() for n in sizes]
  times = [np.sort(rng.integers(0, 15, n)).tolist() for n in sizes]  # with many ties
  clicks = [rng.integers(0, 2, n).tolist() for n in sizes]
  earlier = rng.integers(0, 10, (31, 4)) * (rng.random((31, 1)) < 0.6)
  log = exposed(items, times, clicks, earlier)
  split = make_split(log, GLOBAL)
  view = exposures.build(exposures.Config(length=40, earlier="watched"), log, split)
  cut, test_cut = split.facts["cut"], split.facts["test_cut"]
  bounds = {"train": (-1, cut), "validation": (cut, test_cut), "test": (test_cut, 99)}
  for part, (low, high) in bounds.items():
    rows = view.train if part == "train" else getattr(view, part).rows
    batch = rows.gather(np, rows.columns, np.arange(rows.count))
    at = 0
    for user, events in enumerate(zip(items, times, clicks, strict=True), 1):
      for item, time, click in zip(*events, strict=True):
        if not low <= time < high:
          continue
        known = [i for i in earlier[user] if i]
        known += [i for i, t, c in zip(*events, strict=True) if c and t < time]
        assert batch["hist_item"][at][batch["hist_mask"][at]].tolist() == known
        assert (batch["user_id"][at], batch["target_item"][at]) == (user, item)
        assert batch["label"][at] == click
        at += 1
    assert at == rows.count > 0


def test_mistakes_are_named():
  view, log = hand()
  split = make_split(log, GLOBAL)
  config = exposures.Config()
  build = lambda log=log, split=split, **options: exposures.build(
    dataclasses.replace(config, **options), log, split
  )
  with pytest.raises(ConfigError, match="needs split.name='global_time'"):
    build(split=make_split(log, Split()))
  with pytest.raises(ConfigError, match="Unknown event column for view.label 'is_clik'. Did you mean"):
    build(label="is_clik")
  with pytest.raises(ConfigError, match="Unknown user column for view.earlier 'seen'"):
    build(earlier="seen")
  with pytest.raises(ConfigError, match="set data.core=0"):
    facts = {"cleaned": {"items_outside_core": 2}}
    build(dataclasses.replace(log, facts=facts), earlier="watched")
  with pytest.raises(DataError, match="holds no lists of its items"):
    build(earlier="until")
  with pytest.raises(DataError, match="needs an event log"):
    build(None)
