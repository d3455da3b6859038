"""The view of interest functions: rows by hand, times, pauses, cases, and the same from JAX."""

import logs
import numpy as np
import pytest

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import interest_functions
from recjax.errors import ConfigError, DataError

HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9], [5]]
TIMES = [[100, 110, 150, 151, 200, 300], [40, 45, 90], [7]]


def build(times=TIMES, split=None, **options):
  log = logs.log(HISTORIES, times)
  made = make_split(log, split or Split("few_shot", shots=4))
  return interest_functions.build(interest_functions.Config(**options), log, made)


def test_rows_by_hand():
  batch = logs.gathered(build(length=4).train)
  # Of user 1 events 1 .. 3 are for training; user 2 has too few to hold out; user 3 a single one.
  np.testing.assert_array_equal(batch["user_id"], [1, 2])
  np.testing.assert_array_equal(batch["hist_item"], [[0, 1, 2, 3], [0, 7, 8, 9]])
  np.testing.assert_array_equal(batch["hist_mask"], [[False, True, True, True]] * 2)
  np.testing.assert_allclose(batch["hist_time"], [[0, 0, 0.2, 1], [0, 0, 0.1, 1]], rtol=1e-6)
  np.testing.assert_array_equal(batch["hist_asked"], [[False, False, True, True]] * 2)


def test_a_case_ends_at_the_moment_asked_for():
  view = build(length=3)
  case = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(case["hist_item"], [[2, 3, 4]])
  np.testing.assert_allclose(case["hist_time"], [[0, 40 / 90, 41 / 90]], rtol=1e-6)
  assert case["query_time"] == 1
  np.testing.assert_array_equal(view.test.targets, [[5, 6]])
  np.testing.assert_array_equal(view.test.seen(np.array([0])), [[1, 2, 3, 4]])
  np.testing.assert_array_equal(view.validation.targets, [[4]])
  np.testing.assert_array_equal(view.counts["item"], [0, 1, 1, 1, 0, 1, 0, 1, 1, 1])


def test_a_unit_makes_times_of_users_comparable():
  view = build(length=4, unit=50)
  np.testing.assert_allclose(
    logs.gathered(view.train)["hist_time"], [[0, 0, 0.2, 1], [0, 0, 0.1, 1]], rtol=1e-6
  )
  case = logs.gathered(view.test.rows)
  np.testing.assert_allclose(case["hist_time"], [[0, 0.2, 1, 1.02]], rtol=1e-6)
  np.testing.assert_allclose(case["query_time"], [2], rtol=1e-6)


def test_without_times_the_place_counts():
  view = build(times=None, length=4)
  batch, case = logs.gathered(view.train), logs.gathered(view.test.rows)
  np.testing.assert_allclose(batch["hist_time"], [[0, 0, 0.25, 0.5]] * 2)
  np.testing.assert_allclose(case["hist_time"], [[0, 0.25, 0.5, 0.75]])
  assert case["query_time"] == 1


def test_only_what_follows_a_pause_is_asked_for():
  asked = logs.gathered(build(length=4, pause=40).train)["hist_asked"]
  np.testing.assert_array_equal(asked, [[False, False, False, True], [False, False, False, True]])


def test_long_histories_give_several_rows_and_every_event_can_be_a_target_once():
  log = logs.log([list(range(1, 24)), [3, 4, 5]], num_items=23)
  view = interest_functions.build(
    interest_functions.Config(length=6), log, make_split(log, Split("few_shot", shots=22))
  )
  batch = logs.gathered(view.train)
  assert batch["hist_mask"].sum(1).tolist() == [6, 6, 6, 6, 3]
  own = batch["user_id"] == 1
  asked = batch["hist_item"][own][batch["hist_asked"][own]]
  assert sorted(asked.tolist()) == list(range(2, 22))


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="view.length >= 2"):
    build(length=1)
  with pytest.raises(ConfigError, match="count seconds, but made by hand has no times"):
    build(times=None, unit=3.0)
  log = logs.log([[1], [2, 3, 4]])
  split = make_split(log, Split())
  with pytest.raises(DataError, match="no user with 2 training events"):
    interest_functions.build(interest_functions.Config(), log, split)
  with pytest.raises(DataError, match="needs an event log"):
    interest_functions.build(interest_functions.Config(), None, None)
