"""Splits by hand, and the leakage check on splits that leak."""

import dataclasses

import logs
import numpy as np
import pytest

from recjax.config import Split
from recjax.data.load import load
from recjax.data.splits import check_leakage, make_split
from recjax.errors import ConfigError, DataError

LOG = logs.log([[1, 2, 3, 4], [5, 6], [], [7, 8, 9]])
TIMED = logs.log(
  [[1, 2, 3, 4], [5, 6], [], [7, 8, 9]], [[0, 10, 20, 90], [30, 80], [], [70, 80, 99]]
)


def test_leave_one_out_by_hand():
  split = make_split(LOG, Split("leave_one_out"))
  # User 2 has two events: too few to hold out, all are for training; user 3 has none.
  np.testing.assert_array_equal(split.train_begin, [0, 0, 4, 6, 6])
  np.testing.assert_array_equal(split.train_end, [0, 2, 6, 6, 7])
  np.testing.assert_array_equal(split.validation.user, [1, 4])
  np.testing.assert_array_equal(split.validation.history_end, [2, 7])
  np.testing.assert_array_equal(split.test.history_end, [3, 8])
  np.testing.assert_array_equal(split.test.target_end, [4, 9])
  assert split.facts["users_too_short_to_hold_out"] == 1
  assert split.facts["train_events"] == 5


def test_global_time_by_hand():
  # Sorted times: 0 10 20 30 70 80 80 90 99; lower quantiles .5 and .75 are 70 and 80.
  split = make_split(TIMED, Split("global_time", validation_from=0.5, test_from=0.75))
  assert (split.facts["cut"], split.facts["test_cut"]) == (70, 80)
  np.testing.assert_array_equal(split.train_end, [0, 3, 5, 6, 6])
  # In [70, 80): user 4's first event, but a case needs a history.
  assert split.validation.user.tolist() == []
  assert split.test.user.tolist() == [1, 2, 4]
  np.testing.assert_array_equal(split.test.history_end, [3, 5, 7])
  np.testing.assert_array_equal(split.test.target_end, [4, 6, 9])


def test_user_disjoint_shares_no_user():
  log = logs.log([[1, 2, 3, 4, 5]] * 10)
  split = make_split(log, Split("user_disjoint", validation_users=0.2, test_users=0.3))
  trained = set(np.flatnonzero(split.train_end > split.train_begin))
  validation, test = set(split.validation.user), set(split.test.user)
  assert (len(trained), len(validation), len(test)) == (5, 2, 3)
  assert not trained & validation and not trained & test and not validation & test
  np.testing.assert_array_equal(split.test.history_end - split.test.begin, 4)


def test_a_share_of_one_leaves_the_last_event():
  log = logs.log([[1, 2, 3], [4, 5], [6], [7, 8, 9, 10]])
  config = Split("user_disjoint", validation_users=0.25, test_users=0.5, history_share=1.0)
  split = make_split(log, config)
  begin, end = log.indptr[:-1], log.indptr[1:]
  for part in (split.validation, split.test):
    np.testing.assert_array_equal(part.target_end, end[part.user])
    np.testing.assert_array_equal(part.history_end, end[part.user] - 1)
    assert 3 not in part.user  # one event is no history
  held = np.flatnonzero(split.train_end[1:] == begin[1:]) + 1
  assert len(held) == 3 and set(held) - {3} == {*split.validation.user, *split.test.user}


def test_leave_last_out_by_hand():
  split = make_split(LOG, Split("leave_last_out"))
  np.testing.assert_array_equal(split.train_end, [0, 3, 5, 6, 8])
  assert split.validation is split.test and split.facts["validation_is_test"]
  np.testing.assert_array_equal(split.test.user, [1, 2, 4])
  np.testing.assert_array_equal(split.test.begin, [0, 4, 6])
  np.testing.assert_array_equal(split.test.history_end, [3, 5, 8])
  np.testing.assert_array_equal(split.test.target_end, [4, 6, 9])


def test_users_by_time_by_hand():
  histories = [[1, 2], [3], [4, 5, 6], [7, 8], [], [9, 1]]
  log = logs.log(histories, [[0, 50], [60], [1, 2, 10], [5, 70], [], [69, 90]])
  # Sorted last times: 10 50 60 70 90; lower quantiles .5 and .75 are 60 and 70.
  split = make_split(log, Split("users_by_time", validation_from=0.5, test_from=0.75))
  assert (split.facts["cut"], split.facts["test_cut"]) == (60, 70)
  np.testing.assert_array_equal(split.train_end - split.train_begin, [0, 2, 0, 3, 0, 0, 0])
  # User 2 of validation has no history.
  assert split.validation.user.tolist() == [] and split.facts["held_out_users"] == 3
  assert split.test.user.tolist() == [4, 6]
  np.testing.assert_array_equal(split.test.history_end, [7, 9])
  np.testing.assert_array_equal(split.test.target_end, [8, 10])
  with pytest.raises(DataError, match="users_by_time needs event times"):
    make_split(LOG, Split("users_by_time"))
  with pytest.raises(ConfigError, match="users_by_time needs 0 < split.validation_from < split.test"):
    make_split(log, Split("users_by_time", validation_from=0.9, test_from=0.9))


def given(parts, names=("", "test", "train", "val")):
  """A log whose users have these parts, by their codes among `names`."""
  made = logs.log([[1] * len(user) for user in parts])
  column = np.array([code for user in parts for code in user], np.int32)
  facts = {"names": {"events.split": list(names)}}
  return dataclasses.replace(made, columns={"split": column}, facts=facts)


def test_given_parts_may_hold_several_or_no_answers():
  # train train val val test, train test, test (no history), train.
  split = make_split(given([[2, 2, 3, 3, 1], [2, 1], [1], [2]]), Split("given"))
  np.testing.assert_array_equal(split.train_end, [0, 2, 6, 7, 9])
  assert split.validation.user.tolist() == [1] and split.test.user.tolist() == [1, 2]
  assert (split.validation.history_end[0], split.validation.target_end[0]) == (2, 4)
  np.testing.assert_array_equal(split.test.history_end, [4, 6])
  np.testing.assert_array_equal(split.test.target_end, [5, 7])
  assert split.facts["events_by_part"] == {"train": 4, "valid": 2, "test": 3}
  assert split.facts["train_events"] == 4


@pytest.mark.parametrize(
  ("log", "message"),
  [
    (LOG, "Unknown event column of made by hand 'split'"),
    (given([[2, 1]], ("", "test", "warmup")), "holds test, warmup, where each event has one of train"),
    (given([[2, 0]]), "each event has one of"),
    (given([[2, 3], [1, 2]]), "user 2 has an event of 'split' before one .* the order train, valid"),
  ],
)
def test_given_parts_that_cannot_be_used(log, message):
  with pytest.raises(DataError, match=message):
    make_split(log, Split("given"))


@pytest.mark.parametrize(
  ("name", "users", "items", "parts", "most"),
  [
    ("tiktok", 9_308, 6_710, (59_541, 3_051, 6_130), 1),
    ("sports", 35_598, 18_357, (218_409, 40_029, 37_899), 29),
    ("clothing", 39_387, 23_033, (197_338, 41_189, 40_150), 13),
  ],
)
def test_splits_of_mmhcl_are_those_published(name, users, items, parts, most, data_dir, tmp_path):
  if not (data_dir / "mmhcl_splits").is_dir():
    pytest.skip("the data root has no mmhcl_splits")
  options = {"name": f"mmhcl_splits/{name}.parquet", "folder": str(data_dir), "cache": str(tmp_path)}
  log = load(options)
  split = make_split(log, Split("given"))
  assert (log.name, log.num_users, log.num_items) == (name, users, items)
  assert tuple(split.facts["events_by_part"].values()) == parts
  assert split.facts["train_events"] == parts[0]
  assert (split.test.target_end - split.test.history_end).max() == most


def test_few_shot_holds_out_everything_after_the_shots():
  split = make_split(LOG, Split("few_shot", shots=2))
  np.testing.assert_array_equal(split.train_end, [0, 1, 6, 6, 7])
  np.testing.assert_array_equal(split.test.user, [1, 4])
  np.testing.assert_array_equal(split.test.history_end, [2, 8])
  np.testing.assert_array_equal(split.test.target_end, [4, 9])


@pytest.mark.parametrize("part", ["validation", "test"])
def test_training_on_a_target_is_found(part):
  split = make_split(LOG, Split("leave_one_out"))
  end = split.train_end.copy()
  end[4] = getattr(split, part).history_end[1] + 1
  with pytest.raises(DataError, match="user 4 has training events at or after the validation"):
    check_leakage(LOG, split._replace(train_end=end))


def test_training_after_the_cut_is_found():
  split = make_split(TIMED, Split("global_time", validation_from=0.5, test_from=0.75))
  end = split.train_end.copy()
  begin = split.train_begin.copy()
  begin[2], end[2] = 4, 6  # user 2 is then trained on an event at time 80
  with pytest.raises(DataError, match="Leakage"):
    check_leakage(TIMED, split._replace(train_begin=begin, train_end=end))


def test_what_cannot_be_split_says_why():
  with pytest.raises(ConfigError, match="Unknown split 'leave_one_ou'. Did you mean 'leave_one_out'"):
    make_split(LOG, Split("leave_one_ou"))
  with pytest.raises(DataError, match="has none"):
    make_split(LOG, Split("global_time"))
  with pytest.raises(DataError, match="users of 3 events"):
    make_split(logs.log([[1, 2]]), Split("leave_one_out"))
  with pytest.raises(ConfigError, match="leaves a part of 3 users empty"):
    make_split(LOG, Split("user_disjoint"))
