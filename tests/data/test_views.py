"""Views by hand, the same from NumPy and JAX, and their invariants on random logs."""

import dataclasses

import logs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import ctr, next_item
from recjax.errors import DataError


def test_windows_are_cut_from_the_newest_backwards():
  log = logs.log([[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11]])
  view = next_item.build(next_item.Config(length=3), log, make_split(log, Split()))
  batch = logs.gathered(view.train)
  # User 1 trains on 1..6: targets 4 5 6 in one window, 2 3 in the next. User 2 trains on 9 alone.
  np.testing.assert_array_equal(batch["hist_item"], [[3, 4, 5], [0, 1, 2]])
  np.testing.assert_array_equal(batch["target_item"], [[4, 5, 6], [0, 2, 3]])
  np.testing.assert_array_equal(batch["user_id"], [1, 1])
  np.testing.assert_array_equal(view.counts["item"], [0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0])
  test = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(test["hist_item"], [[5, 6, 7], [0, 9, 10]])
  np.testing.assert_array_equal(view.test.targets, [[8], [11]])
  seen = view.test.seen(np.array([1, 0]))
  np.testing.assert_array_equal(seen, [[9, 10, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]])


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=17), min_size=1, max_size=6),
  st.integers(1, 6),
)
def test_every_training_event_but_the_first_is_a_target_once(histories, length):
  histories = [*histories, [1, 2, 3, 4]]
  log = logs.log(histories, num_items=9)
  view = next_item.build(next_item.Config(length=length), log, make_split(log, Split()))
  batch = view.train.gather(np, view.train.columns, np.arange(view.train.count))
  for user, history in enumerate(histories, 1):
    trained = history[:-2] if len(history) >= 3 else history
    own = batch["user_id"] == user
    pairs = [
      (int(i), int(t))
      for row_in, row_out in zip(
        batch["hist_item"][own][::-1], batch["target_item"][own][::-1], strict=True
      )
      for i, t in zip(row_in, row_out, strict=True)
      if t
    ]
    assert pairs == list(zip(trained[:-1], trained[1:], strict=True))


@pytest.mark.parametrize("rule", ["leave_one_out", "user_disjoint"])
def test_items_are_counted_in_blocks_of_any_size(rule, monkeypatch):
  rng = np.random.default_rng(0)
  log = logs.log([rng.integers(1, 9, size).tolist() for size in (7, 1, 3, 12, 2, 5)], num_items=9)
  split = make_split(log, Split(name=rule, validation_users=0.2, test_users=0.2))
  expected = np.zeros(10, int)
  for first, last in zip(split.train_begin, split.train_end, strict=True):
    np.add.at(expected, np.asarray(log.item[first:last]), 1)
  for size in (1, 4, 10, 100):
    monkeypatch.setattr(next_item, "_COUNTED", size)
    np.testing.assert_array_equal(next_item.item_counts(log, split), expected)


def test_ctr_rows_by_hand():
  log = logs.log([[1, 2, 3, 4, 5], [6, 7]], num_items=9, category=[0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
  config = ctr.Config(length=2, negatives=2, candidates=3)
  view = ctr.build(config, log, make_split(log, Split()))
  batch = logs.gathered(view.train)
  np.testing.assert_array_equal(batch["label"], [1, 0, 0, 1, 0, 0, 1, 0, 0])
  np.testing.assert_array_equal(batch["user_id"], [1, 1, 1, 1, 1, 1, 2, 2, 2])
  np.testing.assert_array_equal(batch["hist_item"][[0, 3, 6]], [[0, 1], [1, 2], [0, 6]])
  np.testing.assert_array_equal(batch["hist_cat"][[0, 3, 6]], [[0, 1], [1, 1], [0, 2]])
  np.testing.assert_array_equal(batch["target_item"][[0, 3, 6]], [2, 3, 7])
  assert set(batch["target_item"][[1, 2, 4, 5]]) <= {6, 7, 8, 9}
  assert set(batch["target_item"][[7, 8]]) <= {1, 2, 3, 4, 5, 8, 9}
  expected = np.bincount(
    np.concatenate([batch["target_item"], batch["hist_item"].ravel()]), minlength=10
  )
  np.testing.assert_array_equal(view.counts["item"][1:], expected[1:])
  categories = np.bincount(
    np.concatenate([batch["target_cat"], batch["hist_cat"].ravel()]), minlength=4
  )
  np.testing.assert_array_equal(view.counts["category"][1:], categories[1:])
  test = logs.gathered(view.test.rows)
  assert test["target_item"].shape == (1, 3) and test["target_item"][0, 0] == 5
  np.testing.assert_array_equal(test["label"], [[1, 0, 0]])
  np.testing.assert_array_equal(test["hist_item"], [[3, 4]])


def test_times_of_ctr_rows_by_hand():
  log = logs.log([[1, 2, 3, 4, 5], [6, 7]], times=[[5, 6, 8, 11, 15], [2, 30]], num_items=9)
  config = ctr.Config(length=2, negatives=1, candidates=2, times=True)
  view = ctr.build(config, log, make_split(log, Split()))
  batch = logs.gathered(view.train)
  np.testing.assert_array_equal(batch["hist_item"][::2], [[0, 1], [1, 2], [0, 6]])
  np.testing.assert_array_equal(batch["hist_time"][::2], [[0, 5], [5, 6], [0, 2]])
  np.testing.assert_array_equal(batch["target_time"], [6, 6, 8, 8, 30, 30])
  test = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(test["hist_time"], [[8, 11]])
  np.testing.assert_array_equal(test["target_time"], [15])
  assert "hist_time" not in ctr.build(ctr.Config(), log, make_split(log, Split())).train.schema.fields
  timeless = dataclasses.replace(log, time=None)
  with pytest.raises(DataError, match="has no times: set view.times=False"):
    ctr.build(config, timeless, make_split(log, Split()))


def test_a_user_with_everything_has_no_negatives():
  log = logs.log([[1, 2, 3, 4]])
  with pytest.raises(DataError, match="no negative is left"):
    ctr.build(ctr.Config(), log, make_split(log, Split()))
