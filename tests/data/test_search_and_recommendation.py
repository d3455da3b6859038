"""The view of searches and recommendations: rows, cases of single answers, counts, words, mistakes."""

import dataclasses

import logs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjax.config import Split
from recjax.data.click_table import ClickTable
from recjax.data.splits import make_split
from recjax.data.views import search_and_recommendation
from recjax.data.words import frequent_words
from recjax.errors import ConfigError, DataError

WORDS = np.array([3, 0, 1, 0, 2, 5, 0, 1, 0])
LOG = dataclasses.replace(
  logs.log([[4, 1, 2, 3, 5, 6], [2, 1, 3]], num_items=6),
  columns={"first": WORDS.astype(np.int64), "second": np.roll(WORDS, 1).astype(np.int32)},
)
CONFIG = search_and_recommendation.Config(length=2, query=("first",))


def view(log=LOG, config=CONFIG, **split):
  return search_and_recommendation.build(config, log, make_split(log, Split(**split)))


def test_rows_are_the_training_events():
  batch = logs.gathered(view(name="few_shot", shots=4).train)
  assert batch["user_id"].tolist() == [1, 1, 1, 2, 2, 2]
  assert batch["target_item"].tolist() == [4, 1, 2, 2, 1, 3]
  assert batch["query_word"].tolist() == [[3], [0], [1], [0], [1], [0]]
  assert batch["hist_item"].tolist() == [[0, 0], [0, 4], [4, 1], [0, 0], [0, 2], [2, 1]]


def test_every_answer_is_a_case_of_its_own():
  made = view(name="few_shot", shots=4)
  test = logs.gathered(made.test.rows)
  assert made.test.targets.tolist() == [[5], [6]] and made.test.user.tolist() == [1, 1]
  assert test["query_word"].tolist() == [[2], [5]]
  assert test["hist_item"].tolist() == [[2, 3], [3, 5]]
  assert made.test.seen(np.array([0, 1])).tolist() == [[4, 1, 2, 3, 0], [4, 1, 2, 3, 5]]
  assert made.test.column("first").tolist() == [2, 5]
  assert made.validation.targets.tolist() == [[3]]


def test_counts_tell_the_events():
  config = dataclasses.replace(CONFIG, query=("first", "second"))
  made = view(config=config)  # leave one out: training are all but the last two events of each user
  events = made.counts.events()
  assert events["user"].tolist() == [1, 1, 1, 1, 2] and events["item"].tolist() == [4, 1, 2, 3, 2]
  assert events["query_word"].tolist() == [[3, 0], [0, 3], [1, 0], [0, 1], [0, 5]]
  assert made.counts["word"].tolist() == [5, 2, 0, 2, 0, 1]
  assert made.counts["item"].tolist() == [0, 1, 2, 1, 1, 0, 0]
  assert made.counts.pairs().sum() == 5
  assert made.train.schema.vocabularies == {"user": 3, "item": 7, "word": 6}
  assert made.facts == {"train_rows": 5, "train_searches": 5, "length": 2}


WORD = st.integers(0, 4)


@given(st.lists(st.tuples(st.integers(0, 3), st.tuples(WORD, WORD)), max_size=20), st.integers(1, 4))
def test_frequent_words_equal_a_count(events, keep):
  owner = np.array([o for o, _ in events], np.int64)
  words = np.array([w for _, w in events], np.int64).reshape(-1, 2)
  found = frequent_words(owner, words, 4, keep)
  for who in range(4):
    mine = [w for o, pair in events if o == who for w in pair if w]
    best = sorted(set(mine), key=lambda w: (-mine.count(w), w))[:keep]
    assert found[who].tolist() == best + [0] * (keep - len(best))


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Did you mean 'first'"):
    view(config=dataclasses.replace(CONFIG, query=("frist",)))
  with pytest.raises(ConfigError, match="at least one"):
    search_and_recommendation.Config(query=())
  for bad in (WORDS - 1, WORDS / 2):
    log = dataclasses.replace(LOG, columns={"first": bad})
    with pytest.raises(DataError, match="'first' of made by hand holds no words numbered from 1"):
      view(log)
  table = ClickTable("t", {}, {}, {}, {})
  with pytest.raises(DataError, match="needs an event log"):
    search_and_recommendation.build(CONFIG, table, None)
  split = make_split(LOG, Split())
  nothing = split._replace(train_end=split.train_begin)
  with pytest.raises(DataError, match="has no training events"):
    search_and_recommendation.build(CONFIG, LOG, nothing)
