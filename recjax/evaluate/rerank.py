"""Re-ranking of finished lists towards items that are shown less: Borda, CombMNZ, GREEDY-beta.

As used with DPFR (Rampisela et al., WWW 2025, arXiv 2502.11921): the K best items of each user become
k. The coverage of an item is the number of lists whose first k places show it. The items of a user are
ranked twice, by score as they stand, and by coverage, least shown first, lower ids first among equals.

- Borda: a place j of K gives K - j points in each ranking; most points first.
- CombMNZ: scores scaled to 0..1 over all users, and 1 - scaled coverage, each within the first k
  places of its ranking; their sum times how many of the two are not 0.
- GREEDY-beta: items shown more than `upper` give places to items shown less than `lower`, upper =
  min(floor(mean + beta max), max) of coverage and lower = upper - beta max. For each such pair the
  user is taken who lists the first, not the second, and loses least score; of all pairs by loss, the
  first are applied, to a share of the k m places.

Departures: an item of Borda and CombMNZ always comes from the K items of its user, where the authors'
code could take one from outside among those of 0 points; lower ids come first among equals. A constant
score or coverage adds nothing to CombMNZ, where it would be 0 / 0. GREEDY-beta leaves out pairs whose
loss is not finite, such as items that the user has seen.
"""

import math

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate.beyond_accuracy import exposure
from recjax.evaluate.item_exposure import list_table

SHARE = 0.25  # of all places, that GREEDY-beta changes at most


def coverage_of(items: np.ndarray, k: int, num_items: int) -> np.ndarray:
  """How many lists show each item in the first k of their places [m, K]; int64 [n]."""
  return exposure(items[:, :k], num_items)


def borda(items: np.ndarray, num_items: int, k: int) -> np.ndarray:
  """The k best of lists [m, K] by score and coverage; int [m, k].

  Raises ConfigError for k outside 1..K, DataError for lists that are short or not lists.
  """
  by_coverage = _places_by_coverage(items, num_items, k)
  points = 2 * items.shape[1] - np.arange(1, items.shape[1] + 1) - (by_coverage + 1)
  return _best(items, points, k)


def combmnz(items: np.ndarray, scores: np.ndarray, num_items: int, k: int) -> np.ndarray:
  """The k best of lists [m, K] with scores [m, K] by CombMNZ; int [m, k]; errors as of `borda`."""
  by_coverage = _places_by_coverage(items, num_items, k)
  if scores.shape != items.shape or not np.isfinite(scores).all():
    raise DataError(f"CombMNZ needs finite scores of shape {items.shape}.")
  by_score = np.where(np.arange(items.shape[1]) < k, _scaled(scores), 0)
  seldom = _scaled(-coverage_of(items, k, num_items)[items - 1].astype(np.float64))
  seldom = np.where(by_coverage < k, seldom, 0)
  both = (by_score + seldom) * ((by_score != 0).astype(int) + (seldom != 0))
  return _best(items, both, k)


def greedy_substitution(
  items: np.ndarray, scores: np.ndarray, k: int, beta: float = 0.05, share: float = SHARE
) -> np.ndarray:
  """The first k of lists [m, K], with items that are shown much replaced by those that are not.

  Args:
    items: int [m, K], best first; what is in nobody's K is never brought in.
    scores: [m, num_items + 1] of all items, the first column not read; rows are read item by item.
    k: length of the lists.
    beta: width of the band of coverage that is left alone, as a share of the largest coverage.
    share: of the k m places, the most that change.

  Raises:
    ConfigError: k, beta or share out of range.
    DataError: lists that are short or not lists, scores of another shape.
  """
  if not 0 <= beta <= 1 or not 0 <= share <= 1:
    raise ConfigError(f"beta = {beta} and share = {share} are shares between 0 and 1.")
  num_items = scores.shape[1] - 1
  _check(items, num_items, k)
  if len(scores) != len(items):
    raise DataError(f"There are scores of {len(scores)} users and lists of {len(items)}.")
  lists, coverage = items[:, :k].copy(), coverage_of(items, k, num_items)
  over, under = _bands(coverage, np.unique(items), beta)
  pairs = []
  for item in over:
    users = np.flatnonzero((lists == item).any(axis=1))
    if not len(users) or not len(under):
      continue
    listed = (lists[users][:, :, None] == under).any(axis=1)
    with np.errstate(invalid="ignore"):  # -inf less -inf
      loss = scores[users, item].astype(np.float64)[:, None] - scores[np.ix_(users, under)]
    loss[listed | ~np.isfinite(loss)] = np.inf
    at = loss.argmin(axis=0)
    least = loss[at, np.arange(len(under))]
    pairs += [
      (least[j], users[at[j]], item, under[j]) for j in np.flatnonzero(np.isfinite(least))
    ]
  pairs.sort(key=lambda pair: pair[0])
  for _, user, old, new in pairs[: round(share * lists.size)]:
    row = lists[user]
    place = np.flatnonzero(row == old)
    if len(place):
      row[row == new] = old  # it came in by another pair: they change places
      row[place[0]] = new
  return lists


def _bands(coverage: np.ndarray, items: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
  """Of items, those shown more than the band and those shown less, or from the band if none are."""
  shown = coverage[items - 1]
  most = int(shown.max())
  upper = min(math.floor(shown.mean() + beta * most), most)
  lower = upper - beta * most
  over, under = shown > upper, shown < lower
  middle = ~over & ~under & (shown != lower)
  if not over.any():
    over = middle
  elif not under.any():
    under = middle
  return items[over], items[under]


def _scaled(values: np.ndarray) -> np.ndarray:
  low, high = values.min(), values.max()
  return (values - low) / (high - low) if high > low else np.zeros(values.shape)


def _check(items: np.ndarray, num_items: int, k: int) -> None:
  if not 1 <= k <= items.shape[1]:
    raise ConfigError(f"Lists of {items.shape[1]} items cannot be re-ranked to k = {k}.")
  list_table(items, num_items)
  if not items.all():
    raise DataError("Re-ranking needs lists of one length; some of these are short.")


def _places_by_coverage(items: np.ndarray, num_items: int, k: int) -> np.ndarray:
  """Place from 0 of each item of lists [m, K] in its user's ranking by coverage."""
  _check(items, num_items, k)
  order = np.lexsort((items, coverage_of(items, k, num_items)[items - 1]), axis=1)
  places = np.empty_like(order)
  np.put_along_axis(places, order, np.arange(items.shape[1])[None, :], axis=1)
  return places


def _best(items: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
  """The k items of each row with the most points, lower ids first among equals."""
  order = np.lexsort((items, -points), axis=1)[:, :k]
  return np.take_along_axis(items, order, axis=1)
