"""The view of sessions: by hand, negatives, attributes, several right answers, titles."""

import dataclasses

import logs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import sessions
from recjax.data.words import title_words
from recjax.errors import ConfigError, DataError

USERS = {
  "raw": np.array(["", "u1", "u2", "u3"]),
  "gender": np.array([0, 2, 1, 0], np.int32),
  "age": np.array([0, 24, 25, 0], np.int32),
  "note": np.array(["", "x", "y", "z"]),
}
HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1], [2, 3]]


def log(histories=HISTORIES, num_items=12):
  made = logs.log(histories, num_items=num_items)
  return dataclasses.replace(
    made, users=USERS, vocabularies={**made.vocabularies, "gender": 3}
  )


def built(split=None, data=None, **options):
  data = data or log()
  split = make_split(data, split or Split())
  return sessions.build(sessions.Config(**options), data, split)


def test_by_hand():
  view = built(length=3, negatives=2, candidates=4, attribute="gender")
  batch = logs.gathered(view.train)
  # User 1 trains on 1..4 and user 3, too short to be held out, on all; their first events ask nothing.
  np.testing.assert_array_equal(batch["user_id"], [1, 1, 1, 2, 3])
  np.testing.assert_array_equal(batch["target_item"][:, 0], [2, 3, 4, 8, 3])
  np.testing.assert_array_equal(
    batch["hist_item"], [[0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 7], [0, 0, 2]]
  )
  np.testing.assert_array_equal(batch["hist_mask"], batch["hist_item"] > 0)
  np.testing.assert_array_equal(batch["attribute"], [2, 2, 2, 1, 0])
  assert batch["target_item"].shape == (5, 3)
  assert view.train.schema.vocabularies["attribute"] == 3
  assert view.facts["users_of_unknown_attribute"] == 1
  np.testing.assert_array_equal(view.counts["item"], [0, 1, 2, 2, 1, 0, 0, 1, 1, 0, 0, 0, 0])
  assert view.counts.item_columns["label"][3] == "item 3"
  test = logs.gathered(view.test.rows)
  np.testing.assert_array_equal(test["hist_item"], [[3, 4, 5], [7, 8, 9]])
  np.testing.assert_array_equal(test["target_item"][:, 0], [6, 1])
  np.testing.assert_array_equal(test["label"], [[1, 0, 0, 0]] * 2)
  np.testing.assert_array_equal(test["weight"], np.ones((2, 4)))
  np.testing.assert_array_equal(test["session"], np.zeros((2, 4)))
  np.testing.assert_array_equal(test["attribute"], [2, 1])


def test_only_the_newest_are_asked_for():
  batch = logs.gathered(built(length=3, newest=2).train)
  np.testing.assert_array_equal(batch["user_id"], [1, 1, 2, 3])
  np.testing.assert_array_equal(batch["target_item"][:, 0], [3, 4, 8, 3])
  assert "attribute" not in batch


def test_each_right_answer_is_a_session():
  split = Split(name="few_shot", shots=3)
  view = built(split, candidates=3, length=2)
  test = logs.gathered(view.test.rows)
  # User 1 has 4, 5, 6 to be told and user 2 only 1; what user 2 lacks is padding of weight 0.
  np.testing.assert_array_equal(test["session"], [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2)
  np.testing.assert_array_equal(test["target_item"][:, ::3], [[4, 5, 6], [1, 0, 0]])
  np.testing.assert_array_equal(test["weight"], [[1] * 9, [1] * 3 + [0] * 6])
  np.testing.assert_array_equal(test["target_item"][1, 3:], 0)
  np.testing.assert_array_equal(view.test.targets, [[4, 5, 6], [1, 0, 0]])


@settings(deadline=None, max_examples=20)
@given(
  st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=9), min_size=3, max_size=3),
  st.integers(0, 4), st.integers(1, 3),
)
def test_negatives_are_absent_from_the_whole_log(histories, newest, negatives):
  histories = [*histories[:2], [1, 2, 3, 4]]
  data = log(histories, num_items=11)
  view = built(data=data, newest=newest, negatives=negatives, candidates=3)
  for rows in (view.train, view.test.rows):
    batch = rows.gather(np, rows.columns, np.arange(rows.count))
    for user, target in zip(batch["user_id"], batch["target_item"], strict=True):
      own = histories[user - 1]
      first = np.arange(len(target)) % (3 if rows is view.test.rows else 1 + negatives) == 0
      assert set(target[first]) - {0} <= set(own) and not set(target[~first]) & set(own)
  train = view.train.gather(np, view.train.columns, np.arange(view.train.count))
  asked = np.bincount(train["user_id"], minlength=4)[1:]
  for user, own in enumerate(histories):
    known = len(own) - 2 if len(own) >= 3 else len(own)
    assert asked[user] == min(max(known - 1, 0), newest or 99)


def test_numbers_become_classes():
  view = built(attribute="age", edges=(18, 25))
  codes = sessions.attribute_codes(log(), "age", (18, 25))
  np.testing.assert_array_equal(codes[0], [0, 2, 3, 0])
  assert codes[1] == 4 == view.train.schema.vocabularies["attribute"]


def test_words_of_titles():
  data = log(num_items=4, histories=[[1, 2, 3, 4, 1], [2, 3]])
  title = np.array(["", "The Man, the MAN!", "Man's best_friend 2", "", "Été: a b c d"])
  data = dataclasses.replace(data, items={**data.items, "title": title})
  words, size = title_words(data, 3)
  # man 3 times, the twice, then alphabetically: 's' and 'best' are cut from no title of three words.
  order = ["a", "b", "best", "s", "été"]
  number = {"man": 1, "the": 2, **{word: i for i, word in enumerate(order, start=3)}}
  expected = [[], ["the", "man", "the"], ["man", "s", "best"], [], ["été", "a", "b"]]
  expected = [[number[w] for w in row] + [0] * (3 - len(row)) for row in expected]
  # "the" and "man" occur twice each.
  np.testing.assert_array_equal(words, expected)
  assert size == 8
  with pytest.raises(DataError, match="have no titles to read words from"):
    title_words(log(), 3)


def test_mistakes_are_explained():
  with pytest.raises(ConfigError, match=r"Unknown user column of made by hand.*'gendre'.*'gender'"):
    built(attribute="gendre")
  with pytest.raises(ConfigError, match="'age' of made by hand has no classes: numbers need"):
    built(attribute="age")
  with pytest.raises(ConfigError, match="'gender' of made by hand holds none"):
    built(attribute="gender", edges=(1,))
  with pytest.raises(ConfigError, match="candidates >= 2"):
    sessions.Config(candidates=1)
  with pytest.raises(ConfigError, match="edges ascend"):
    sessions.Config(edges=(3, 3))
  data = log([[1], [2], [3]])
  with pytest.raises(DataError, match="needs an event log"):
    sessions.build(sessions.Config(), None, None)
  short = make_split(log(), Split())._replace(
    train_begin=np.zeros(4, np.int64), train_end=np.ones(4, np.int64)
  )
  with pytest.raises(DataError, match="no user with 2 training events"):
    sessions.build(sessions.Config(), data, short)
