"""Training events that are asked about, and negatives: against slow loops, and how often they come."""

import logs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import ctr
from recjax.data.views.candidates import other_items, training_targets, unseen_items
from recjax.errors import DataError


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.integers(0, 23), min_size=1, max_size=6), st.integers(0, 5), st.integers(1, 6),
  st.sampled_from(["leave_one_out", "leave_last_out"]),
)
def test_training_targets_are_those_of_a_loop(sizes, newest, stride, rule):
  log = logs.log([[1] * size for size in (*sizes, 4)])
  split = make_split(log, Split(rule))
  expected = []
  for user, (begin, end) in enumerate(zip(split.train_begin, split.train_end, strict=True)):
    own = list(range(end - 1, begin, -stride))
    expected += [(user, at) for at in reversed(own[:newest] if newest else own)]
  found = training_targets(log, split, newest, stride)
  assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_draws_are_uniform_or_in_proportion_to_events():
  # Item 1 has six events, 2 three, 3 one, 4 none; user 2 has all but 1 and 4.
  log = logs.log([[1] * 6 + [2], [2, 2, 3]], num_items=4)
  rng = np.random.default_rng(0)
  shares = lambda item: np.bincount(item, minlength=5)[1:] / len(item)
  many = np.full(20_000, 2)
  # Five deviations of a share of 20,000 draws are below .018.
  np.testing.assert_allclose(shares(unseen_items(log, many, rng)), [0.5, 0, 0, 0.5], atol=0.018)
  np.testing.assert_array_equal(shares(unseen_items(log, many, rng, popular=True)), [1, 0, 0, 0])
  found = shares(other_items(log, many, rng))
  np.testing.assert_allclose(found, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.018)
  found = shares(other_items(log, many, rng, popular=True))
  np.testing.assert_allclose(found, [6 / 7, 0, 1 / 7, 0], atol=0.018)


def test_nothing_is_left_to_draw():
  rng = np.random.default_rng(0)
  log = logs.log([[1, 2], [1]], num_items=3)
  assert unseen_items(log, np.array([1]), rng).tolist() == [3]
  # Item 3 has no event, so that it cannot be drawn as a popular one.
  with pytest.raises(DataError, match="User 1 of made by hand has every item; no negative is left"):
    unseen_items(log, np.array([1]), rng, popular=True)
  alone = logs.log([[1, 1]], num_items=2)
  assert other_items(alone, np.array([1]), rng).tolist() == [2]
  with pytest.raises(DataError, match="has one item only; no negative is left to draw"):
    other_items(alone, np.array([1]), rng, popular=True)


def test_a_swapped_row_has_another_item_and_label_0():
  log = logs.log([[1, 2, 3, 4, 5, 6]] * 400, num_items=50)
  config = ctr.Config(length=3, swap=0.3, unseen=False)
  view = ctr.build(config, log, make_split(log, Split()))
  batch = logs.gathered(view.train)
  true = np.tile([2, 3, 4], 400)
  np.testing.assert_array_equal(batch["label"], batch["target_item"] == true)
  assert abs(batch["label"].mean() - 0.7) < 5 * (0.21 / 1200) ** 0.5
  test = logs.gathered(view.test.rows)
  assert test["target_item"].shape == test["label"].shape == (400, 1)
  np.testing.assert_array_equal(test["label"], test["target_item"] == 6)
  np.testing.assert_array_equal(view.test.targets, test["target_item"] * (test["label"] > 0))
  assert 0.5 < test["label"].mean() < 0.9
  assert view.facts == {"train_rows": 1200, "swap": 0.3}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_occurrences_are_counted_in_blocks_of_any_size(size, monkeypatch):
  rng = np.random.default_rng(0)
  log = logs.log([rng.integers(1, 9, n).tolist() for n in (7, 1, 3, 12, 2, 5)], num_items=30)
  monkeypatch.setattr(ctr, "_COUNTED", size)
  config = ctr.Config(length=4, negatives=2, newest=3, stride=2)
  view = ctr.build(config, log, make_split(log, Split()))
  batch = view.train.gather(np, view.train.columns, np.arange(view.train.count))
  shown = np.concatenate([batch["hist_item"].ravel(), batch["target_item"]])
  np.testing.assert_array_equal(view.counts["item"][1:], np.bincount(shown, minlength=31)[1:])
