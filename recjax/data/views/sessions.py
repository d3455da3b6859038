"""The view for models of sessions: a history, one item that was taken and some that were not.

A training row is a training event with the history before it, `negatives` items of which the user's
whole log is free, drawn once, uniformly, and what is known of the user (`attribute`). A case is a user
at a held-out moment; every right answer is a session of its own there, with `candidates` - 1 such
negatives. Item columns of the log go to the model beside the counts.
"""

import dataclasses
import functools

import numpy as np

from recjax.data.counts import TrainingCounts, count_transitions
from recjax.data.log import EventLog
from recjax.data.schema import Field
from recjax.data.splits import Holdout, Split
from recjax.data.views.candidates import training_targets, unseen_items
from recjax.data.views.next_item import cases_of, history_rows, item_counts, ragged
from recjax.data.views.rows import Cases, Rows, View
from recjax.data.words import title_words
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count, Positive
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "sessions"
  length: Positive = 50  # newest events of a history that a row shows
  negatives: Positive = 4  # of a training session
  candidates: Positive = 5  # of a session when evaluating: the right answer, the rest negatives
  newest: Count = 0  # training events of each user that are asked for; 0 = all but the first
  # User column to tell the attribute from, "" for none. Users of whom it is not known have code 0.
  attribute: str = ""
  # Ascending ages, say: a column of numbers above 0 becomes the classes below, between and from these.
  edges: tuple[int, ...] = ()
  words: Count = 0  # of a title, for models that read them: item column title_words; 0 = none
  seed: Count = 0  # of the negatives; fixed, so that models are compared on the same rows

  def __post_init__(self):
    if self.candidates < 2:
      raise ConfigError("The view 'sessions' needs view.candidates >= 2, a positive and a negative.")
    if list(self.edges) != sorted(set(self.edges)):
      raise ConfigError(f"config.view.edges ascend, unlike {self.edges}.")


def build(config: Config, log: EventLog, split: Split) -> View:
  """Rows of user_id [B], hist_item, hist_mask [B, L], target_item [B, 1 + K], attribute [B].

  The first target is the one that was taken. Cases have target_item, label, weight and session
  [B, S * candidates] for up to S right answers.

  Raises:
    ConfigError: a user column that does not exist or has no classes.
    DataError: no event log, or nothing to train on.
  """
  if not isinstance(log, EventLog):
    raise DataError("The view 'sessions' needs an event log; this data set is a click table.")
  user, position = training_targets(log, split, config.newest)
  taken = np.asarray(log.item)[position]
  candidate = _candidates(log, user, taken, config.negatives, config.seed, 0)
  attribute = attribute_codes(log, config.attribute, config.edges) if config.attribute else None
  vocabularies, columns = dict(log.vocabularies), dict(log.items)
  if attribute is not None:
    vocabularies["attribute"] = attribute[1]
  if config.words:
    columns["title_words"], vocabularies["word"] = title_words(log, config.words)
  named = dataclasses.replace(log, vocabularies=vocabularies)
  make = functools.partial(_rows, log=named, length=config.length, attribute=attribute)
  train = make(user, split.train_begin[user], position, {"target_item": candidate})
  transitions = functools.partial(count_transitions, log, split)
  counts = TrainingCounts({"item": item_counts(log, split)}, transitions, columns)
  facts = {
    "train_rows": train.count, "negatives": config.negatives, "candidates": config.candidates,
    "length": config.length,
  }
  if attribute is not None:
    facts["users_of_unknown_attribute"] = int((attribute[0][1:] == 0).sum())
  parts = (_cases(log, config, h, make, i) for i, h in ((1, split.validation), (2, split.test)))
  return View(train, *parts, counts, facts)


def attribute_codes(log: EventLog, name: str, edges: tuple[int, ...]) -> tuple[np.ndarray, int]:
  """Codes from 1 of a user column, int32 [num_users + 1], 0 where unknown; size with code 0.

  Text with few values has codes already; numbers above 0 are put between `edges`.
  """
  if name not in log.users or name == "raw":
    known = [column for column in log.users if column != "raw"]
    raise ConfigError(unknown(f"user column of {log.name} (config.view.attribute)", name, known))
  values = np.asarray(log.users[name])
  if edges:
    if values.dtype.kind not in "iuf" or name in log.vocabularies:
      raise ConfigError(f"config.view.edges are for numbers; {name!r} of {log.name} holds none.")
    codes = np.where(values > 0, 1 + np.searchsorted(edges, values, side="right"), 0)
    return codes.astype(np.int32), len(edges) + 2
  if name not in log.vocabularies:
    raise ConfigError(
      f"{name!r} of {log.name} has no classes: numbers need config.view.edges, text few values."
    )
  return values.astype(np.int32), log.vocabularies[name]


def _candidates(
  log: EventLog, user: np.ndarray, taken: np.ndarray, negatives: int, seed: int, stream: int
) -> np.ndarray:
  """Items int32 [n, 1 + negatives]: what each user took, and items absent from its log."""
  rng = np.random.default_rng([seed, stream])
  drawn = unseen_items(log, np.repeat(user.astype(np.int64), negatives), rng)
  return np.concatenate([taken[:, None], drawn.reshape(-1, negatives)], axis=1).astype(np.int32)


def _rows(user, begin, end, extra, *, log, length, attribute) -> Rows:
  """Rows with the history begin .. end - 1 of each; `extra` [n, C] are fields by name."""
  kinds = {"label": ("label", None), "weight": ("float", None), "session": ("ids", None)}
  more = {}
  for name, values in extra.items():
    kind, vocabulary = kinds.get(name, ("ids", "item"))
    more[name] = Field(kind, values.shape[1:], vocabulary), values
  if attribute is not None:
    more["attribute"] = Field("id", (), "attribute"), attribute[0][user]
  return history_rows(log, user, begin, end, length, more)


def _cases(log: EventLog, config: Config, holdout: Holdout, make, stream: int) -> Cases:
  """A row a moment; its sessions stand one after another, those that it lacks with weight 0."""
  answers = int((holdout.target_end - holdout.history_end).max(initial=1))
  taken = ragged(log.item, holdout.history_end, holdout.target_end, answers)
  owner = np.repeat(holdout.user, answers)
  made = _candidates(
    log, owner, taken.reshape(-1), config.candidates - 1, config.seed, stream
  ).reshape(len(taken), answers, config.candidates)
  real = np.broadcast_to((taken != 0)[:, :, None], made.shape)
  label = np.zeros(made.shape, np.float32)
  label[:, :, 0] = 1.0
  number = np.broadcast_to(np.arange(answers, dtype=np.int32)[None, :, None], made.shape)
  flat = lambda values: np.ascontiguousarray(values.reshape(len(taken), -1))
  extra = {
    "target_item": flat(np.where(real, made, 0)), "label": flat(label),
    "weight": flat(real.astype(np.float32)), "session": flat(number),
  }
  rows = make(holdout.user, holdout.begin, holdout.history_end, extra)
  return cases_of(log, holdout, rows)
