"""How evenly top-k lists spread over the items, each against its least and most even table.

Rampisela, Maistro, Ruotsalo, Lioma: "Evaluation Measures of Individual Item Fairness for Recommender
Systems: A Critical Study", ACM TORS 3(2), 2025, arXiv 2311.01013. m lists of at most k different items
of n; c_i lists show item i, S = sum c, p_i = c_i / S, f = floor(S / n):

  Jain = S^2 / (n sum c^2)         QF = share of items with c_i > 0     Ent = -sum p_i log_n p_i
  Gini = sum_j (2j - n - 1) c_(j) / (n S), c ascending                  FSat = share with c_i >= f
  Gini-w = the same of sum 1 / log2(rank + 1) over the places of item i
  VoCD = mean of |c_i - c_j| / max(c_i, c_j) over pairs of shown items
  II-D = mean_ui (e_ui - e)^2, AI-D = mean_i (mean_u e_ui - e)^2, e_ui = patience^(rank - 1) or 0, and
  e = sum_{j <= k} patience^(j - 1) / n

`ori` is the measure as published, `our` the authors' correction (x - least) / (most - least), where the
least fair table gives all users the same list and the counts of the most fair one differ by at most 1.

Departures:
- Both tables are made and measured, instead of the paper's closed forms for full lists. The values are
  equal for full lists, and lists may be short.
- The most even Gini-w is 0 where S > n, as in the authors' code: a bound that need not be reachable, so
  that even counts may have a corrected Gini-w above 0.
- VoCD compares all shown items, as in the authors' code. Where item vectors are given it compares those
  of at least `least_similarity` cosine, as the measure was proposed; the threshold is ours.
- FSat can be below what the least fair table has (k = 2, n = 4, counts 10, 4, 3, 3), so its corrected
  form can be below 0. The authors' formula is kept.
- Without relevance and with one list a user, II-D depends on m, n, k and patience alone.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate.beyond_accuracy import exposure, gini_of

_BLOCK = 2048  # items whose cosines with all others are held at once


class Undefined(DataError):
  """A measure has no value for these lists; says why. Reports turn it into NaN and the reason."""


@dataclasses.dataclass(frozen=True, eq=False)
class ListTable:
  """The lists of all users. Built by `list_table`, which checks them.

  Attributes:
    items: int [m, k] item ids from 1, 0 where a list ends early.
    num_items: n, all items that could be recommended.
    patience: chance of looking one place further, of II-D, AI-D, II-F and AI-F.
    vectors: finite float [n, d] of items 1 to n, or None.
    least_similarity: cosine from which two items are similar, for VoCD with vectors.
  """

  items: np.ndarray
  num_items: int
  patience: float = 0.8
  vectors: np.ndarray | None = None
  least_similarity: float = 0.5

  @property
  def k(self) -> int:
    """Cut-off."""
    return self.items.shape[1]

  @functools.cached_property
  def places(self) -> np.ndarray:
    """How many lists have a place j; int64 [k], not ascending."""
    return (self.items != 0).sum(axis=0)

  @functools.cached_property
  def counts(self) -> np.ndarray:
    """How many lists show each item; int64 [n]."""
    return exposure(self.items, self.num_items)

  def summed(self, weights: np.ndarray) -> np.ndarray:
    """Sum of weights [k], or [m, k], over the places where each item stands; float64 [n]."""
    weights = np.broadcast_to(weights, self.items.shape).ravel()
    return np.bincount(self.items.ravel(), weights, minlength=self.num_items + 1)[1:]

  @functools.cached_property
  def discounted(self) -> np.ndarray:
    """Sum of 1 / log2(rank + 1) over the places of each item; float64 [n]."""
    return self.summed(log_discounts(self.k))

  @functools.cached_property
  def least_fair(self) -> np.ndarray:
    """Counts of the table where all users have the same list, cut to their lengths; [n], descending."""
    return np.pad(self.places, (0, self.num_items - self.k))

  @functools.cached_property
  def most_fair(self) -> np.ndarray:
    """Counts of a table as even as can be; [n], descending."""
    share, rest = divmod(int(self.places.sum()), self.num_items)
    return share + (np.arange(self.num_items) < rest)


def first_places(recommendations: np.ndarray, k: int) -> np.ndarray:
  """The first k places of lists [m, K]; ConfigError where there are not so many."""
  recommendations = np.asarray(recommendations)
  if recommendations.ndim != 2 or not 1 <= k <= recommendations.shape[1]:
    raise ConfigError(f"Lists of shape {recommendations.shape} cannot be cut at k = {k}.")
  return recommendations[:, :k]


def list_table(items: np.ndarray, num_items: int, **rest) -> ListTable:
  """Checks lists [m, k] and makes their table.

  Raises DataError for lists of other shapes, ids outside 1..num_items, an item twice in a list, an
  empty place before an item, or no item at all.
  """
  items = np.asarray(items)
  if items.ndim != 2 or not items.size or not np.issubdtype(items.dtype, np.integer):
    raise DataError(f"Lists are integers [users, k], not {items.dtype} of shape {items.shape}.")
  if items.shape[1] > num_items:
    raise DataError(f"Lists of {items.shape[1]} items cannot be made of {num_items}.")
  if items.min() < 0 or items.max() > num_items:
    raise DataError(
      f"Lists hold ids from {items.min()} to {items.max()}; items are 1 to {num_items}, and 0 is an "
      "empty place."
    )
  if ((items[:, 1:] != 0) & (items[:, :-1] == 0)).any():
    raise DataError("A list has an empty place before an item; fill lists from the front.")
  ordered = np.sort(items, axis=1)
  if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)).any():
    user = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)).any(axis=1).argmax())
    raise DataError(f"The list of row {user} shows an item twice.")
  if not items.any():
    raise DataError("The recommendation lists are all empty.")
  return ListTable(items, num_items, **rest)


def log_discounts(k: int) -> np.ndarray:
  """1 / log2(rank + 1) of ranks 1 to k."""
  return 1 / np.log2(np.arange(2, k + 2))


def jain_of(counts: np.ndarray) -> float:
  """Jain's index of counts [n]: 1 when all are equal, 1/n when one has everything."""
  counts = counts.astype(np.float64)
  return float(counts.sum() ** 2 / (len(counts) * (counts**2).sum()))


def entropy_of(counts: np.ndarray) -> float:
  """Entropy of counts [n] to base n, 0 log 0 = 0: 1 when all are equal, 0 when one has all."""
  shares = counts[counts > 0] / counts.sum()
  return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def shown_of(counts: np.ndarray) -> float:
  """Share of items with a count above 0."""
  return float((counts > 0).mean())


def satisfied_of(counts: np.ndarray) -> float:
  """Share of items with at least floor(sum / n), the share that all could have."""
  return float((counts >= counts.sum() // len(counts)).mean())


COUNT_MEASURES = {
  "Jain": jain_of, "QF": shown_of, "Ent": entropy_of, "Gini": gini_of, "FSat": satisfied_of
}


def corrected(value: float, least: float, most: float) -> float:
  """(value - least) / (most - least), with what rounding leaves at the ends taken away.

  Raises Undefined where both ends are one.
  """
  if abs(most - least) < 1e-12:
    raise Undefined("the least and the most fair table have the same value (one list, or k = n).")
  scaled = (value - least) / (most - least)
  for end in (0.0, 1.0):
    if abs(scaled - end) < 1e-9:
      return end
  return scaled


def _check_cut_off(table: ListTable) -> None:
  if table.k == table.num_items:
    raise Undefined("k equals the number of items, so every table shows every item to everybody.")


def count_measure(name: str) -> Callable[[ListTable], float]:
  """The published form of one of COUNT_MEASURES."""
  return lambda table: COUNT_MEASURES[name](table.counts)


def corrected_count_measure(name: str) -> Callable[[ListTable], float]:
  """The corrected form of one of COUNT_MEASURES; for Gini 0 is fair, for the others 1.

  FSat is 1 for any table where S < n, since the share that all could have is then nothing.
  """
  measure = COUNT_MEASURES[name]

  def scaled(table: ListTable) -> float:
    _check_cut_off(table)
    # With a share of 0 all items of the least fair table have theirs, and FSat would be 0 / 0.
    shareless = name == "FSat" and table.counts.sum() < table.num_items
    least = (shown_of if shareless else measure)(table.least_fair)
    most = measure(table.most_fair)
    ends = (most, least) if name == "Gini" else (least, most)
    return corrected(measure(table.counts), *ends)

  return scaled


def entropy_published(table: ListTable) -> float:
  """Ent as published: undefined as soon as an item is never shown, by its 0 log 0."""
  if not table.counts.all():
    raise Undefined("an item is never shown, and the published form takes its logarithm of 0.")
  return 1.0 if table.num_items == 1 else entropy_of(table.counts)


def weighted_gini(table: ListTable) -> float:
  """Gini-w: Gini of exposure discounted by rank."""
  return gini_of(table.discounted)


def corrected_weighted_gini(table: ListTable) -> float:
  """Gini-w between 0, the most even that all places allow if S <= n, and 1, the same list for all."""
  _check_cut_off(table)
  weights = log_discounts(table.k)
  unshown = np.zeros(table.num_items - table.k)
  unfair = gini_of(np.concatenate([weights * table.places, unshown]))
  slots = int(table.places.sum())
  fair = 0.0
  if slots <= table.num_items:
    fair = gini_of(np.pad(np.repeat(weights, table.places), (0, table.num_items - slots)))
  return corrected(weighted_gini(table), fair, unfair)


def coverage_disparity(table: ListTable) -> float:
  """VoCD: mean of |c_i - c_j| / max(c_i, c_j) over pairs of shown items, or of similar shown items."""
  shown = np.flatnonzero(table.counts)
  if len(shown) < 2:
    raise Undefined("only one item is shown, so there is no pair of items.")
  if table.vectors is not None:
    return _similar_disparity(table, shown)
  ascending = np.sort(table.counts[shown])
  earlier = np.concatenate([[0], np.cumsum(ascending)[:-1]])
  total = (np.arange(len(shown)) - earlier / ascending).sum()
  return float(total / (len(shown) * (len(shown) - 1) / 2))


def _similar_disparity(table: ListTable, shown: np.ndarray) -> float:
  """VoCD over the pairs of shown items [q] whose vectors have at least the least cosine; blocked."""
  vectors = table.vectors[shown]
  length = np.linalg.norm(vectors, axis=1)
  if not length.all():
    raise Undefined("a shown item has a vector of zeros, which has no cosine with any other.")
  vectors = vectors / length[:, None]
  counts = table.counts[shown].astype(np.float64)
  total = pairs = 0.0
  for start in range(0, len(shown), _BLOCK):
    rows = slice(start, start + _BLOCK)
    similar = vectors[rows] @ vectors[start:].T >= table.least_similarity - 1e-12
    similar &= np.arange(len(shown) - start)[None, :] > np.arange(similar.shape[0])[:, None]
    one, other = counts[rows, None], counts[None, start:]
    total += ((1 - np.minimum(one, other) / np.maximum(one, other)) * similar).sum()
    pairs += similar.sum()
  if not pairs:
    raise Undefined(f"no two shown items have a cosine of at least {table.least_similarity}.")
  return float(total / pairs)


def patience_discounts(table: ListTable) -> np.ndarray:
  """patience^(rank - 1) of ranks 1 to k."""
  return table.patience ** np.arange(table.k, dtype=np.float64)


def individual_disparity(table: ListTable) -> float:
  """II-D: mean over users and items of the squared difference from a random ranker's exposure."""
  discounts = patience_discounts(table)
  even = discounts.sum() / table.num_items
  cells = len(table.items) * table.num_items
  return float(((discounts**2 - 2 * even * discounts) * table.places).sum() / cells + even**2)


def amortised_disparity(table: ListTable) -> float:
  """AI-D: mean over items of the squared difference of mean exposure from a random ranker's."""
  discounts = patience_discounts(table)
  even = discounts.sum() / table.num_items
  return float(((table.summed(discounts) / len(table.items) - even) ** 2).mean())


MEASURES: dict[str, Callable[[ListTable], float]] = {
  **{f"{name}_ori": count_measure(name) for name in COUNT_MEASURES},
  **{f"{name}_our": corrected_count_measure(name) for name in COUNT_MEASURES},
  "Ent_ori": entropy_published,
  "Gini-w_ori": weighted_gini,
  "Gini-w_our": corrected_weighted_gini,
  "VoCD_ori": coverage_disparity,
  "II-D_ori": individual_disparity,
  "AI-D_ori": amortised_disparity,
}
