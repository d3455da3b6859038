"""Lists beside what each user finds relevant: hits, and ranks in the whole ranking."""

import dataclasses
import functools

import numpy as np

from recjax.errors import DataError
from recjax.evaluate.item_exposure import ListTable, Undefined
from recjax.evaluate.item_rows import find_relevant, sorted_rows

_ROWS = 512  # users whose scores are ranked at once


@dataclasses.dataclass(frozen=True, eq=False)
class JudgedTable:
  """A table of lists with what each user finds relevant. Built by `judged_table`, which checks it.

  Attributes:
    table: the lists.
    ranking: int [m, K], K >= k, the lists as far as they are known.
    indptr, indices: relevant items of user u are indices[indptr[u]:indptr[u + 1]], ascending.
    scores: rows of [m, n], or None; what a list leaves out is ranked by them, lower ids first.
  """

  table: ListTable
  ranking: np.ndarray
  indptr: np.ndarray
  indices: np.ndarray
  scores: np.ndarray | None = None

  @functools.cached_property
  def num_relevant(self) -> np.ndarray:
    """|R_u|; int64 [m]."""
    return np.diff(self.indptr)

  @functools.cached_property
  def judged(self) -> np.ndarray:
    """Which users find something relevant; raises Undefined when nobody does."""
    judged = self.num_relevant > 0
    if not judged.any():
      raise Undefined("no user has a relevant item.")
    return judged

  @functools.cached_property
  def row(self) -> np.ndarray:
    """The user of each of `indices`."""
    return np.repeat(np.arange(len(self.num_relevant)), self.num_relevant)

  @functools.cached_property
  def relevant_users(self) -> np.ndarray:
    """|U_i|; int64 [n]."""
    return np.bincount(self.indices, minlength=self.table.num_items + 1)[1:]

  @functools.cached_property
  def hits(self) -> np.ndarray:
    """Which places hold a relevant item; bool [m, k]."""
    return self._places_of_relevant >= 0

  @functools.cached_property
  def _places_of_relevant(self) -> np.ndarray:
    """Where in `indices` the item of each place [m, k] stands, -1 where it is not relevant."""
    return find_relevant(self.table.items, self.indptr, self.indices, self.table.num_items)

  @functools.cached_property
  def ranks(self) -> np.ndarray:
    """Rank from 1 of each of `indices` in the whole ranking; raises Undefined where it is not known."""
    found = find_relevant(self.ranking, self.indptr, self.indices, self.table.num_items)
    rank = np.zeros(len(self.indices), np.int64)
    user, place = np.nonzero(found >= 0)
    rank[found[user, place]] = place + 1
    unlisted = np.flatnonzero(rank == 0)
    if not len(unlisted):
      return rank
    if self.scores is None:
      raise Undefined("relevant items are outside of the lists, and no scores rank them.")
    users, first = np.unique(self.row[unlisted], return_index=True)
    for start in range(0, len(users), _ROWS):
      block = users[start : start + _ROWS]
      scores = np.array(self.scores[block], np.float64)  # a copy, to be changed
      if not (scores < np.inf).all():
        raise DataError("A score is NaN or infinite, which has no rank.")
      listed = self.ranking[block]
      at, place = np.nonzero(listed)
      scores[at, listed[at, place] - 1] = np.inf
      order = np.argsort(-scores, axis=1, kind="stable")
      ranks = np.empty_like(order)
      np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None, :], axis=1)
      end = first[start + _ROWS] if start + _ROWS < len(users) else len(unlisted)
      entries = unlisted[first[start] : end]
      rank[entries] = ranks[np.searchsorted(block, self.row[entries]), self.indices[entries] - 1]
    return rank


def judged_table(
  table: ListTable, ranking: np.ndarray, relevant: tuple[np.ndarray, np.ndarray], scores=None
) -> JudgedTable:
  """Checks relevant items (indptr [m + 1], indices) and makes the judged table; DataError if wrong."""
  indptr, indices = sorted_rows(relevant, len(table.items), table.num_items, "relevant items")
  return JudgedTable(table, ranking, indptr, indices, scores)
