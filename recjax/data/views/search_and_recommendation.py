"""The view of searches and recommendations in one log: who took which item, and with which query.

The words of an event's query are event columns of whole numbers from 1, 0 for none. An event with a
word is a search; the others are recommendations. Every training event is a row; every held-out event is
a case of its own, since it has a query of its own, with all that the user did before as history.
"""

import dataclasses
import functools

import numpy as np

from recjax.data.counts import TrainingCounts, training_events
from recjax.data.log import EventLog
from recjax.data.schema import Field
from recjax.data.splits import Holdout, Split
from recjax.data.views.next_item import cases_of, history_rows, training_counts
from recjax.data.views.rows import Cases, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Positive
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "search_and_recommendation"
  length: Positive = 50  # events of a history, the newest ones
  query: tuple[str, ...] = ("word_1", "word_2", "word_3")  # event columns of a query's words

  def __post_init__(self):
    if not self.query:
      raise ConfigError("config.view.query names the event columns of a query's words, at least one.")


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows of user_id [B], hist_item [B, L], hist_mask [B, L], target_item [B], query_word [B, W].

  Cases lack target_item. The counts have `events`: user, item and query_word of each training event.

  Raises:
    ConfigError: an event column that does not exist.
    DataError: no event log, nothing to train on, or words that are no whole numbers from 0.
  """
  if not isinstance(log, EventLog):
    raise DataError(
      "The view 'search_and_recommendation' needs an event log; this data set is a click table."
    )
  words = np.stack([_words(log, name) for name in config.query], axis=1)
  log = dataclasses.replace(
    log, vocabularies={**log.vocabularies, "word": int(words.max(initial=0)) + 1}
  )
  event, user = training_events(log, split)
  if not len(event):
    raise DataError(f"{log.name} has no training events.")

  def rows(users, begin, position, **more):
    query = (Field("ids", (words.shape[1],), "word"), words[position])
    return history_rows(
      log, users, begin, position, config.length, {"query_word": query, **more}
    )

  def cases(holdout) -> Cases:
    each = _each_answer(holdout)
    return cases_of(log, each, rows(each.user, each.begin, each.history_end))

  item = np.asarray(log.item)[event]
  counted = training_counts(log, split)
  events = lambda: {"user": user, "item": item, "query_word": words[event]}
  counts = TrainingCounts(
    {**counted, "word": np.bincount(words[event].reshape(-1), minlength=log.vocabularies["word"])},
    counted.transitions, pairs=counted.pairs, events=functools.cache(events),
  )
  target = (Field("id", (), "item"), item)
  facts = {
    "train_rows": len(event), "train_searches": int(words[event].any(axis=1).sum()),
    "length": config.length,
  }
  return View(
    rows(user, split.train_begin[user], event, target_item=target),
    cases(split.validation), cases(split.test), counts, facts,
  )


def _words(log: EventLog, name: str) -> np.ndarray:
  """An event column of words, int32 [E]."""
  if name not in log.columns:
    raise ConfigError(unknown(f"event column of {log.name} (config.view.query)", name, log.columns))
  values = np.asarray(log.columns[name])
  if values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) >= 2**31 - 1:
    raise DataError(f"The event column {name!r} of {log.name} holds no words numbered from 1.")
  return values.astype(np.int32)


def _each_answer(holdout: Holdout) -> Holdout:
  """A moment for every right answer, with what came before it as its history."""
  count = holdout.target_end - holdout.history_end
  row = np.repeat(np.arange(len(count)), count)
  position = holdout.history_end[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
  return Holdout(holdout.user[row], holdout.begin[row], position, position + 1)
