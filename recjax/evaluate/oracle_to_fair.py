"""Oracle2Fair: from the most relevant lists to the fairest ones, one replacement at a time.

Rampisela, Ruotsalo, Maistro, Lioma: "Joint Evaluation of Fairness and Relevance in Recommender Systems
with Pareto Frontier", WWW 2025, arXiv 2502.11921. With k places for each of m users and n items:

- Oracle: who has k test items gets those. Who has more, group by group in their number, gets those that
  no list has yet, then the least shown. Who has fewer gets all, then items that no list shows, each
  once, then the least shown ones; never an item of the user's history.
- A replacement takes the most shown item and the least shown one, and of the users who list the first,
  from the back of the lists on, and neither know nor list the second, the first who finds it relevant,
  or else the first. Relevant items then move to the front of that list.
- It ends when no item is shown more than ceil(k m / n) times.

Departures, each where the authors' code fails or depends on the order of a container:
- Ties go to the lowest item, then to the lowest user.
- Where no user can take the least shown item, the next one is tried, then the next most shown item.
  If nothing lowers the largest count the walk ends with `converged=False`.
- Counts are renewed after each replacement from the start, so it also ends at the right place while
  some items are still unshown, and where k m < n.
- `fully_fair` goes on until counts differ by at most 1, which the published end does not promise.
"""

import dataclasses
import heapq
from collections.abc import Callable, Iterator

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate.item_rows import sorted_rows

Rows = tuple[np.ndarray, np.ndarray]


class _ByCount:
  """Items in the order of their counts (ascending for sign 1, descending for -1), lower ids first."""

  def __init__(self, counts: np.ndarray, sign: int):
    self._counts, self._sign = counts, sign
    self._heap = [(sign * int(c), i) for i, c in enumerate(counts) if i]
    heapq.heapify(self._heap)

  def renew(self, item: int) -> None:
    """Tells that the count of an item has changed."""
    heapq.heappush(self._heap, (self._sign * int(self._counts[item]), item))

  def __iter__(self) -> Iterator[int]:
    taken = {}
    try:
      while self._heap:
        entry = heapq.heappop(self._heap)
        key, item = entry
        if key == self._sign * self._counts[item] and item not in taken:  # else it is an old entry
          taken[item] = entry
          yield item
    finally:
      for entry in taken.values():
        heapq.heappush(self._heap, entry)


@dataclasses.dataclass
class Walk:
  """Lists on the way from the oracle to fairness; items are numbered 1 to n by ascending id.

  Attributes:
    lists: int64 [m, k], relevant items first.
    hits: int64 [m], how many of them are relevant.
    counts: int64 [n + 1], how many lists show each item.
    relevant, seen: sets of items of each user.
    ids: int64 [n + 1], the id of each number.
  """

  lists: np.ndarray
  hits: np.ndarray
  counts: np.ndarray
  relevant: list[set[int]]
  seen: list[set[int]]
  ids: np.ndarray

  @property
  def limit(self) -> int:
    """ceil(k m / n): the largest count at the end."""
    return -(-int(self.counts.sum()) // (len(self.ids) - 1))

  @property
  def expected(self) -> int:
    """How many replacements the end is away at least."""
    return int(np.maximum(self.counts - self.limit, 0).sum())

  def recommendations(self) -> np.ndarray:
    """The lists with ids; int64 [m, k]."""
    return self.ids[self.lists]

  def replace(self, user: int, place: int, new: int) -> None:
    """Puts an item into a place of a list, relevant items to the front."""
    row, wanted = self.lists[user].tolist(), self.relevant[user]
    self.hits[user] += int(new in wanted) - int(row[place] in wanted)
    self.counts[row[place]] -= 1
    self.counts[new] += 1
    row[place] = new
    self.lists[user] = sorted(row, key=lambda item: item not in wanted)  # stable


def oracle(relevant: Rows, seen: Rows, k: int, items: np.ndarray | None = None) -> Walk:
  """The lists with the largest relevance, spread over the items as well as is cheap.

  Args:
    relevant: (indptr [m + 1], indices), what each user finds relevant; at least one item each.
    seen: the same of the histories, from which nothing is recommended.
    k: length of the lists.
    items: ids of all items there are; those of `relevant` and `seen` unless given.

  Raises:
    ConfigError: k below 1.
    DataError: rows that do not fit, a user without relevant items, with one that is also seen, or
      with fewer than k items left.
  """
  if k < 1:
    raise ConfigError(f"Lists of k = {k} items cannot be made; k is at least 1.")
  known = np.union1d(relevant[1], seen[1])
  ids = known if items is None else np.unique(items)
  if not np.isin(known, ids).all():
    raise DataError(f"Item {np.setdiff1d(known, ids)[0]} is relevant or seen but not among the items.")
  ids = np.concatenate([[0], ids]).astype(np.int64)
  rows = []
  for part, what in ((relevant, "relevant items"), (seen, "seen items")):
    numbers = (part[0], np.searchsorted(ids, part[1]))
    indptr, indices = sorted_rows(numbers, len(relevant[0]) - 1, len(ids) - 1, what)
    rows.append([indices[a:b].tolist() for a, b in zip(indptr[:-1], indptr[1:], strict=True)])
  wanted, known = rows[0], [set(row) for row in rows[1]]
  for user, row in enumerate(wanted):
    if not row:
      raise DataError(f"The user of row {user} has no relevant item; leave such users out.")
    if known[user].intersection(row):
      raise DataError(f"The user of row {user} has seen an item that is to be recommended.")
  counts = np.zeros(len(ids), np.int64)
  lists = [row[:] if len(row) <= k else [] for row in wanted]
  _add(counts, [row for row in lists if len(row) == k])
  for size in sorted({len(row) for row in wanted if len(row) > k}):
    _choose(lists, counts, wanted, [u for u, row in enumerate(wanted) if len(row) == size], k)
  _add(counts, [row for row in lists if len(row) < k])
  _fill(lists, counts, known, k)
  hits = np.minimum([len(row) for row in wanted], k)
  return Walk(np.array(lists), hits, counts, [set(row) for row in wanted], known, ids)


def _add(counts: np.ndarray, lists: list[list[int]]) -> None:
  for row in lists:
    counts[row] += 1


def _choose(lists, counts, wanted, users: list[int], k: int) -> None:
  """Lists of a group of users with more than k relevant items."""
  before = counts.copy()
  users.sort(key=lambda u: before[wanted[u]].sum())
  for user in users:
    lists[user] = [item for item in wanted[user] if not before[item]][:k]
    counts[lists[user]] += 1
  for user in users:
    taken = [item for item in wanted[user] if before[item]]
    more = sorted(taken, key=lambda item: counts[item])[: k - len(lists[user])]
    lists[user] += more
    counts[more] += 1


def _fill(lists, counts, seen, k: int) -> None:
  """Fills short lists with items that no list shows, then with the least shown ones."""
  unshown = [item for item in range(1, len(counts)) if not counts[item]]
  short = [user for user, row in enumerate(lists) if len(row) < k]
  for user in short:
    kept = []
    for place, item in enumerate(unshown):
      if len(lists[user]) == k:
        kept += unshown[place:]
        break
      if item in seen[user]:
        kept.append(item)
      else:
        lists[user].append(item)
        counts[item] += 1
    unshown = kept
    if not unshown:
      break
  order = _ByCount(counts, 1)
  for user in short:
    missing = k - len(lists[user])
    if not missing:
      continue
    # What the user finds relevant is in a short list already.
    free = (i for i in order if counts[i] and i not in seen[user] and i not in lists[user])
    more = [item for _, item in zip(range(missing), free, strict=False)]
    free.close()
    if len(more) < missing:
      raise DataError(f"The user of row {user} has fewer than {k} items that are not in the history.")
    lists[user] += more
    for item in more:
      counts[item] += 1
      order.renew(item)


def walk_to_fair(
  walk: Walk, after: Callable[[int], None] = lambda step: None, fully_fair: bool = False
) -> tuple[int, bool]:
  """Replaces until the end, in place, and calls `after` with the number of each replacement from 1.

  Returns how many replacements there were, and whether the end was reached.
  """
  shown_by = [set() for _ in walk.ids]
  for user, row in enumerate(walk.lists.tolist()):
    for item in row:
      shown_by[item].add(user)
  most, least = _ByCount(walk.counts, -1), _ByCount(walk.counts, 1)
  counts, step, limit = walk.counts, 0, walk.limit

  def ended() -> bool:
    real = counts[1:]
    return real.max() - real.min() <= 1 if fully_fair else real.max() <= limit

  while not ended():
    found = _replacement(walk, most, least, shown_by)
    if found is None:
      return step, False
    user, place, old, new = found
    walk.replace(user, place, new)
    shown_by[old].remove(user)
    shown_by[new].add(user)
    for item in (old, new):
      most.renew(item)
      least.renew(item)
    step += 1
    after(step)
  return step, True


def _replacement(walk, most, least, shown_by) -> tuple[int, int, int, int] | None:
  """(user, place, old item, new item) of the next replacement, None where there is none."""
  for old in most:
    listing = np.sort(np.fromiter(shown_by[old], np.int64, len(shown_by[old])))
    place_of = (walk.lists[listing] == old).argmax(axis=1)
    back_first = np.argsort(-place_of, kind="stable")
    users = list(zip(place_of[back_first].tolist(), listing[back_first].tolist(), strict=True))
    for new in least:
      if walk.counts[new] + 1 >= walk.counts[old]:
        break  # it would not make counts more even
      free = [
        (place, u) for place, u in users if new not in walk.seen[u] and u not in shown_by[new]
      ]
      if free:
        place, user = next((f for f in free if new in walk.relevant[f[1]]), free[0])
        return user, place, old, new
  return None
