"""The view of histories with their next item: by hand, and what it shows of any log."""

import logs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import next_item, prefixes
from recjax.errors import DataError


def view_of(histories, num_items=None, **how):
  log = logs.log(histories, num_items=num_items)
  return prefixes.build(prefixes.Config(**how), log, make_split(log, Split()))


def test_rows_by_hand():
  histories = [[1, 2, 3, 4, 5, 6], [7, 8], [9, 1, 2]]
  view = view_of(histories, length=2)
  # User 1 trains on 1..4, user 2 on all of two events, user 3 on 9 alone.
  batch = logs.gathered(view.train)
  np.testing.assert_array_equal(batch["hist_item"], [[0, 1], [1, 2], [2, 3], [0, 7]])
  np.testing.assert_array_equal(batch["target_item"], [2, 3, 4, 8])
  np.testing.assert_array_equal(batch["user_id"], [1, 1, 1, 2])
  every = logs.gathered(view_of(histories, length=2, shortest=0).train)
  np.testing.assert_array_equal(every["target_item"], [1, 2, 3, 4, 7, 8, 9])
  np.testing.assert_array_equal(every["hist_item"][[0, 4]], [[0, 0], [0, 0]])
  np.testing.assert_array_equal(every["user_id"], [1, 1, 1, 1, 2, 2, 3])
  test = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(test["hist_item"], [[4, 5], [9, 1]])
  np.testing.assert_array_equal(view.test.targets, [[6], [2]])
  pairs = view.counts.pairs().toarray()
  assert pairs.shape == (4, 10) and pairs.sum() == 7
  np.testing.assert_array_equal(pairs[1], [0, 1, 1, 1, 1, 0, 0, 0, 0, 0])


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=6),
  st.integers(1, 5), st.integers(0, 3), st.integers(0, 4),
)
def test_every_moment_is_shown_once_or_drawn(histories, length, shortest, cuts):
  histories = [*histories, [1, 2, 3, 4, 5, 6]]
  view = view_of(histories, 9, length=length, shortest=shortest, cuts=cuts)
  batch = view.train.gather(np, view.train.columns, np.arange(view.train.count, dtype=np.int32))
  moments = {}
  for user, history in enumerate(histories, 1):
    trained = history[:-2] if len(history) >= 3 else history
    rows = []
    for at in range(shortest, len(trained)):
      before = trained[max(0, at - length) : at]
      rows.append(([0] * (length - len(before)) + before, trained[at]))
    if rows:
      moments[user] = rows
  found = {}
  for user, hist, mask, target in zip(
    batch["user_id"], batch["hist_item"], batch["hist_mask"], batch["target_item"], strict=True
  ):
    np.testing.assert_array_equal(mask, hist != 0)
    found.setdefault(int(user), []).append((hist.tolist(), int(target)))
  assert found.keys() == moments.keys()
  for user, rows in found.items():
    if cuts:
      assert len(rows) == cuts and all(row in moments[user] for row in rows)
    else:
      assert rows == moments[user]


def test_cuts_are_even_and_follow_the_seed():
  rows = lambda seed: logs.gathered(view_of([list(range(1, 9))], length=3, cuts=4000, seed=seed).train)
  target = rows(0)["target_item"]
  np.testing.assert_allclose(np.bincount(target, minlength=7)[2:] / 4000, [0.2] * 5, atol=0.03)
  assert (target != rows(1)["target_item"]).any()


def test_counts_are_those_of_the_other_view_of_the_same_events():
  log = logs.log([[1, 2, 1, 3, 4], [2, 3, 1, 1]])
  split = make_split(log, Split())
  views = (m.build(m.Config(), log, split) for m in (next_item, prefixes))
  one, other = (view.counts for view in views)
  np.testing.assert_array_equal(one["item"], other["item"])
  np.testing.assert_array_equal(one.transitions().toarray(), other.transitions().toarray())
  np.testing.assert_array_equal(one.pairs().toarray(), other.pairs().toarray())
  assert one.pairs().toarray()[1, 1] == 2


def test_mistakes_are_named(monkeypatch):
  with pytest.raises(DataError, match="has no user with 5 training events or more, and the view"):
    view_of([[1, 2, 3, 4]], shortest=4)
  with pytest.raises(DataError, match="'prefixes' needs an event log"):
    prefixes.build(prefixes.Config(), None, None)
  monkeypatch.setattr(prefixes, "LARGEST", 5)
  with pytest.raises(DataError, match="6 rows are more than can be numbered: choose view.cuts"):
    view_of([list(range(1, 10))])
