"""Do raters agree, and does a judge agree with people?

Raters: Cohen's kappa (1960), weighted kappa (1968), Gwet's AC1 (2008), Fleiss' kappa (1971),
Krippendorff's alpha (2011). Judges beside people: `judges`.

A measure is a `Measured`: a number, or NaN and the reason why there is none.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from recjax.errors import ConfigError, DataError
from recjax.registry import unknown

WEIGHTS = ("none", "linear", "quadratic")
LEVELS = ("nominal", "ordinal", "interval", "ratio")


class Measured(NamedTuple):
  """A value, or NaN with the reason why it is undefined."""

  value: float
  reason: str = ""


def _undefined(reason: str) -> Measured:
  return Measured(float("nan"), reason)


def confusion(first: np.ndarray, second: np.ndarray, categories: int) -> np.ndarray:
  """Table [K, K] of how often the first rater [n] said the row and the second the column."""
  first, second = np.asarray(first), np.asarray(second)
  if first.shape != second.shape or first.ndim != 1:
    raise DataError(f"Two raters judge the same items; got {first.shape} and {second.shape} answers.")
  for codes in (first, second):
    if len(codes) and not ((codes >= 0) & (codes < categories)).all():
      raise DataError(f"Answers are numbers from 0 to {categories - 1}; some are not.")
  code = first.astype(np.int64) * categories + second.astype(np.int64)
  return np.bincount(code, minlength=categories**2).reshape(categories, categories)


def cohen(table: np.ndarray, weights: str = "none") -> Measured:
  """Cohen's kappa of a table [K, K], disagreement weighted by 1, |i - j| or (i - j)^2."""
  if weights not in WEIGHTS:
    raise ConfigError(unknown("weighting", weights, WEIGHTS))
  table = _table(table)
  total = table.sum()
  if not total:
    return _undefined("nobody judged anything")
  apart = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table)))).astype(float)
  apart = {"none": (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}[weights]
  chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
  expected = (apart * chance).sum()
  if not expected:
    return _undefined("both raters always gave the same one answer")
  return Measured(float(1 - (apart * table).sum() / expected))


def gwet(table: np.ndarray) -> Measured:
  """Gwet's AC1 of a table [K, K]: chance agreement that does not grow with prevalence."""
  table = _table(table)
  total = table.sum()
  if not total or len(table) < 2:
    return _undefined("nobody judged anything" if not total else "there is one category only")
  share = (table.sum(axis=0) + table.sum(axis=1)) / (2 * total)
  chance = (share * (1 - share)).sum() / (len(table) - 1)
  return Measured(float((np.trace(table) / total - chance) / (1 - chance)))


def fleiss(counts: np.ndarray) -> Measured:
  """Fleiss' kappa of counts [items, K]: how many raters, the same number for all, said what."""
  counts = np.asarray(counts, np.float64)
  if counts.ndim != 2 or (counts < 0).any():
    raise DataError("Fleiss' kappa takes counts, 0 or more, of items by categories.")
  raters = counts.sum(axis=1)
  if len(counts) and (raters != raters[0]).any():
    raise DataError(
      "Fleiss' kappa needs the same number of raters for every item: use Krippendorff's alpha."
    )
  if not len(counts) or raters[0] < 2:
    return _undefined("no item has two raters")
  n = raters[0]
  chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
  if chance == 1:
    return _undefined("all raters always gave the same one answer")
  agreed = ((counts**2).sum(axis=1) - n) / (n * (n - 1))
  return Measured(float((agreed.mean() - chance) / (1 - chance)))


def krippendorff(ratings: np.ndarray, level: str = "nominal") -> Measured:
  """Krippendorff's alpha of ratings [raters, units], NaN where missing, at a level of measurement."""
  if level not in LEVELS:
    raise ConfigError(unknown("level of measurement", level, LEVELS))
  ratings = np.asarray(ratings, np.float64)
  if ratings.ndim != 2:
    raise DataError(f"Ratings are raters by units; got an array of shape {ratings.shape}.")
  unit = np.broadcast_to(np.arange(ratings.shape[1]), ratings.shape)[~np.isnan(ratings)]
  values, code = np.unique(ratings[~np.isnan(ratings)], return_inverse=True)
  counts = np.zeros((ratings.shape[1], len(values)))
  np.add.at(counts, (unit, code), 1.0)
  raters = counts.sum(axis=1)
  counts, raters = counts[raters > 1], raters[raters > 1]
  if not len(counts):
    return _undefined("no unit has two ratings")
  weighted = counts / (raters - 1)[:, None]
  together = counts.T @ weighted - np.diag(weighted.sum(axis=0))
  total = together.sum(axis=1)
  apart = _distance(values, total, level)
  expected = total @ apart @ total
  if not expected:
    return _undefined("all ratings are the same")
  return Measured(float(1 - (total.sum() - 1) * (together * apart).sum() / expected))


def _distance(values: np.ndarray, total: np.ndarray, level: str) -> np.ndarray:
  """Squared differences [K, K] of values [K] that occur `total` [K] times."""
  if level == "nominal":
    return 1.0 - np.eye(len(values))
  if level == "ordinal":
    # What lies between two values, half of both ends included.
    middle = np.cumsum(total) - total / 2
    return np.subtract.outer(middle, middle) ** 2
  if level == "ratio" and (values < 0).any():
    raise DataError("On a ratio scale values are 0 or more; some are below.")
  gap = np.subtract.outer(values, values)
  if level == "interval":
    return gap**2
  whole = np.add.outer(values, values)
  return np.divide(gap, whole, out=np.zeros_like(gap), where=whole > 0) ** 2


def spearman(x: np.ndarray, y: np.ndarray) -> Measured:
  """Spearman's rank correlation of x, y [n]."""
  return _correlation(x, y, stats.spearmanr)


def kendall(x: np.ndarray, y: np.ndarray) -> Measured:
  """Kendall's tau-b of x, y [n]."""
  return _correlation(x, y, stats.kendalltau)


def pearson(x: np.ndarray, y: np.ndarray) -> Measured:
  """Pearson's correlation of x, y [n]."""
  return _correlation(x, y, stats.pearsonr)


def _correlation(x: np.ndarray, y: np.ndarray, correlate) -> Measured:
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.shape != y.shape or x.ndim != 1:
    raise DataError(f"A correlation pairs two lists of the same length, not {x.shape} and {y.shape}.")
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise DataError("Some values are NaN or infinite, so they have no correlation.")
  if len(x) < 2:
    return _undefined("there are fewer than two pairs")
  if not (np.ptp(x) and np.ptp(y)):
    return _undefined("one side is constant")
  return Measured(float(correlate(x, y)[0]))


def wilson(hits: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
  """Wilson's interval of a share; (NaN, NaN) of nothing."""
  if not total:
    return float("nan"), float("nan")
  z = stats.norm.isf((1 - confidence) / 2)
  share = hits / total
  middle = share + z * z / (2 * total)
  half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
  return float((middle - half) / (1 + z * z / total)), float((middle + half) / (1 + z * z / total))


def _table(table: np.ndarray) -> np.ndarray:
  table = np.asarray(table, np.float64)
  if table.ndim != 2 or table.shape[0] != table.shape[1] or not (table >= 0).all():
    raise DataError("A table of agreement is square, and its counts are 0 or more.")
  return table


def values(measured: Mapping[str, Measured]) -> dict[str, float]:
  """The numbers alone."""
  return {name: m.value for name, m in measured.items()}
