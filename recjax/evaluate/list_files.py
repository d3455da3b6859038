"""Recommendation lists of any library and the right answers, from files to arrays by common ids.

    lists       user_id, item_id, and score or rank (1 is best); of both the score decides
    relevance   user_id, item_id, and maybe relevance: what is above 0 counts
    training    user_id, item_id, a row an event
    items       item_id, maybe category: everything that could be recommended
    users       user_id, and any columns to break figures down by

`data.table_files` says which forms of files there are.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.table_files import read_table
from recjax.errors import DataError

PAIR = ("user_id", "item_id")
MOST_GROUPS = 100  # values of a column that still breaks figures down


class Task(NamedTuple):
  """What lists are judged by; users are rows, items have ids from 1.

  Attributes:
    users: labels [n] of the users with a right answer.
    num_items: items of the catalogue.
    relevant: (indptr [n + 1], indices), each user's right answers.
    histories: (indptr [n + 1], indices), what each user had in training; None where nobody said.
    train_counts: int [num_items + 1] training events of each item, or None.
    categories: int [num_items + 1] category of each item, or None.
    groups: str [n] by column of the users' file.
    facts: counts that qualify the figures.
  """

  users: np.ndarray
  num_items: int
  relevant: tuple[np.ndarray, np.ndarray]
  histories: tuple[np.ndarray, np.ndarray] | None
  train_counts: np.ndarray | None
  categories: np.ndarray | None
  groups: dict[str, np.ndarray]
  facts: dict[str, int]


class Lists(NamedTuple):
  """The lists of one system.

  Attributes:
    ids: int [n, depth] items, best first, 0 where a list ends early.
    scores: float [n, depth], -inf where it ends.
    facts: counts that qualify the figures.
  """

  ids: np.ndarray
  scores: np.ndarray
  facts: dict[str, int]


def read_all(
  lists: Mapping[str, str],
  relevance: str,
  *,
  depth: int,
  training: str = "",
  items: str = "",
  users: str = "",
) -> tuple[Task, dict[str, Lists]]:
  """The task and the lists of every system, the first `depth` entries of each.

  Without a file of items the catalogue is what any of the files names, which makes coverage and
  fairness of items depend on the systems that are compared; `facts` says so.

  Raises:
    DataError: a file that cannot be read, a pair or item that is there twice, an item outside of the
      catalogue, ranks that repeat, no right answer.
  """
  answers = read_table(relevance, PAIR, ("relevance",), optional=("relevance",))
  if "relevance" in answers:
    right = answers.pop("relevance") > 0
    answers = {name: column[right] for name, column in answers.items()}
    if not right.any():
      raise DataError(f"{relevance} has no pair with a relevance above 0.")
  read = {
    name: read_table(path, PAIR, ("score", "rank"), optional=("score", "rank"))
    for name, path in lists.items()
  }
  events = read_table(training, PAIR) if training else None
  catalogue = read_table(items, ("item_id",), rest=True) if items else None
  codes = _Codes(catalogue, items, [answers, *read.values(), *([events] if events else [])])
  people = pa.array(np.unique(answers["user_id"]))
  answered = _pairs(answers, people, codes, relevance)
  _no_pair_twice(answered, people, codes, relevance)
  facts = {
    "users": len(people), "items": codes.count, "right answers": len(answered[0]),
    "catalogue from the lists": int(catalogue is None),
  }
  histories = counts = None
  if events:
    user, item = _pairs(events, people, codes, training)
    counts = np.bincount(item, minlength=codes.count + 1)
    known = user >= 0
    pairs = np.unique(np.stack([user[known], item[known]]), axis=1)
    histories = _rows(pairs[0], pairs[1], len(people))
  task = Task(
    np.asarray(people.to_pylist()), codes.count, _rows(*answered, len(people)), histories, counts,
    codes.categories, _groups(users, people) if users else {}, facts,
  )
  return task, {
    name: _lists(table, people, codes, str(lists[name]), depth) for name, table in read.items()
  }


class _Codes:
  """Ids from 1 of item labels."""

  def __init__(self, catalogue, place: str, tables: list):
    self.place = place
    self.categories = None
    if catalogue is None:
      named = [pc.unique(pa.array(table["item_id"])) for table in tables]
      self._labels = pc.unique(pa.concat_arrays(named)).sort()
    else:
      self._labels = pa.array(catalogue["item_id"])
      if len(pc.unique(self._labels)) < len(self._labels):
        raise DataError(f"{place} names item {_repeated(catalogue['item_id'])!r} twice.")
      if "category" in catalogue:
        _, code = np.unique(catalogue["category"], return_inverse=True)
        self.categories = np.concatenate([[0], code + 1])
    self.count = len(self._labels)

  def of(self, labels: np.ndarray, place: str) -> np.ndarray:
    """Ids int64 [n]; DataError for an item that the catalogue does not have."""
    found = pc.index_in(pa.array(labels), self._labels)
    if found.null_count:
      stranger = labels[pc.index(pc.is_null(found), True).as_py()]
      raise DataError(f"{place} has the item {str(stranger)!r}, which is not in {self.place}.")
    return found.to_numpy(zero_copy_only=False).astype(np.int64) + 1

  def label(self, code: int) -> str:
    """What an id stands for."""
    return self._labels[int(code) - 1].as_py()


def _pairs(table, people, codes, place):
  """(row of the user, -1 where nobody knows it, id of the item), each [n]."""
  user = pc.fill_null(pc.index_in(pa.array(table["user_id"]), people), -1)
  return user.to_numpy(zero_copy_only=False).astype(np.int64), codes.of(table["item_id"], place)


def _no_pair_twice(pairs, people, codes, place) -> None:
  keys = np.sort(pairs[0] * (codes.count + 1) + pairs[1])
  if len(again := keys[:-1][np.diff(keys) == 0]):
    user, item = divmod(int(again[0]), codes.count + 1)
    raise DataError(
      f"{place} has user {people[user].as_py()!r} and item {codes.label(item)!r} together twice."
    )


def _rows(user, item, count):
  """Pairs as (indptr [count + 1], indices), ids ascending within a user."""
  order = np.lexsort([item, user])
  return np.searchsorted(user[order], np.arange(count + 1)), item[order]


def _lists(table, people, codes, place, depth) -> Lists:
  """The first `depth` entries of each user's list."""
  if "score" not in table and "rank" not in table:
    raise DataError(f"{place} has neither a column 'score' nor 'rank', so its lists have no order.")
  user, item = _pairs(table, people, codes, place)
  known = user >= 0
  score = table["score"] if "score" in table else -table["rank"]
  strangers = len(np.unique(table["user_id"][~known]))
  user, item, score = user[known], item[known], score[known]
  _no_pair_twice((user, item), people, codes, place)
  order = np.lexsort([-score, user])
  user, item, score = user[order], item[order], score[order]
  if "score" not in table and len(tied := np.flatnonzero((np.diff(score) == 0) & (np.diff(user) == 0))):
    raise DataError(
      f"{place} gives user {people[int(user[tied[0]])].as_py()!r} two items of rank "
      f"{-score[tied[0]]:g}; ranks do not repeat, scores may."
    )
  begin = np.searchsorted(user, np.arange(len(people) + 1))
  at = np.arange(len(user)) - begin[user]
  kept = at < depth
  ids = np.zeros((len(people), depth), np.int64)
  scores = np.full(ids.shape, -np.inf)
  ids[user[kept], at[kept]] = item[kept]
  scores[user[kept], at[kept]] = score[kept]
  lengths = np.diff(begin)
  facts = {
    "users without a list": int((lengths == 0).sum()),
    "users left out, without right answers": strangers,
    "lists shorter than asked for": int(((lengths > 0) & (lengths < depth - 1)).sum()),
  }
  return Lists(ids, scores, facts)


def _groups(path: str, people) -> dict[str, np.ndarray]:
  """The columns [n] of the users' file that have few enough values; '' for users it lacks."""
  table = read_table(path, ("user_id",), rest=True)
  labels = pa.array(table.pop("user_id"))
  if len(pc.unique(labels)) < len(labels):
    raise DataError(f"{path} names user {_repeated(labels.to_numpy(zero_copy_only=False))!r} twice.")
  place = pc.fill_null(pc.index_in(people, labels), -1).to_numpy(zero_copy_only=False)
  groups = {}
  for name, values in table.items():
    own = np.where(place >= 0, values[place], "")
    if len(np.unique(own)) > MOST_GROUPS:
      raise DataError(
        f"{path}: column {name!r} has more than {MOST_GROUPS} values; figures are broken down by few: "
        "leave it out of the file, or put its values into classes."
      )
    groups[name] = own
  return groups


def _repeated(labels) -> str:
  found, count = np.unique(np.asarray(labels), return_counts=True)
  return str(found[count > 1][0])
