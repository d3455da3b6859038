"""Rows: a table of examples that exist only as columns and a rule to gather them by index.

`gather` is written once, against an array module, and runs with NumPy on memory-mapped columns or
with jax.numpy on device-resident ones; both give the same batch to the bit.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from recjax.data.schema import Schema

Columns = Mapping[str, Any]


class Rows(NamedTuple):
  """Examples to train on or to score.

  Attributes:
    count: number of rows.
    columns: arrays that `gather` reads; their lengths are the view's own business.
    gather: (xp, columns, index [B]) -> batch; `xp` is numpy or jax.numpy, index int32.
    schema: fields of the batch that `gather` returns.
  """

  count: int
  columns: Columns
  gather: Callable[[ModuleType, Columns, Any], dict[str, Any]]
  schema: Schema


class Cases(NamedTuple):
  """Rows to evaluate on, each with its right answers. A case is a user at a moment.

  Attributes:
    rows: what the model may see, gathered like training rows.
    user: int32 [n] user of each case.
    targets: int32 [n, T] items that came next, padded with 0.
    seen: index [b] -> int32 [b, S], items of the user's history, padded with 0; S is the same for
      every call. Full ranking leaves them out of the ranking.
    column: name of an event column -> [n], its value at the first right answer of each case, text
      where the values stand for text; raises DataError for unknown names. None where events are
      not known.
  """

  rows: Rows
  user: np.ndarray
  targets: np.ndarray
  seen: Callable[[np.ndarray], np.ndarray]
  column: Callable[[str], np.ndarray] | None = None


class SampleCases(NamedTuple):
  """Rows to generate samples for. A case is a user with a prompt.

  Attributes:
    rows: what the model may see.
    user: int32 [n] user of each case; every user has equally many cases in a row.
    prompt: int32 [n].
    repeat: int32 [n] number of the case among those of its user; equal ones have the same prompt.
    group: int32 [n] number of each case's group in `groups`.
    groups: names of groups of users.
    judge: (samples [m, H, W, C], user [m], prompt [m]) -> values [m] by name, "reward" among them.
    shape: (H, W, C) of a sample.
  """

  rows: Rows
  user: np.ndarray
  prompt: np.ndarray
  repeat: np.ndarray
  group: np.ndarray
  groups: tuple[str, ...]
  judge: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
  shape: tuple[int, int, int]


class FeedCases(NamedTuple):
  """Users to rank the videos of a feed for, where liking is known.

  Attributes:
    rows: users and what they did.
    user: int32 [n] user of each case.
    videos: a row each by id, from row 0, which is padding.
    products: likewise.
    pairs: pictures and words of products that no row to train on has.
    truth: user [b] -> float32 [b, V + 1], how much a user likes each video.
    known: bool [V + 1], videos that the log may hold; the others are new.
    duration: float32 [V + 1] of videos, in seconds.
    slot: float64 [V + 1], mean slot in the log, NaN for those never shown.
  """

  rows: Rows
  user: np.ndarray
  videos: Rows
  products: Rows
  pairs: Rows
  truth: Callable[[np.ndarray], np.ndarray]
  known: np.ndarray
  duration: np.ndarray
  slot: np.ndarray


class View(NamedTuple):
  """What a view makes of a data set.

  Attributes:
    train: rows to train on.
    validation: cases that choose the variables to keep.
    test: cases reported once.
    counts: int64 [V] by vocabulary: how often each id occurs in training. A view of sequences gives
      `data.counts.TrainingCounts`, which also counts transitions when asked to.
    facts: counts for the report.
  """

  train: Rows
  validation: Cases
  test: Cases
  counts: Mapping[str, np.ndarray]
  facts: Mapping[str, Any]
