"""Metrics of click-through models: ordering (AUC and its grouped forms) and calibration.

Everything here is NumPy on whole arrays; labels are 0 or 1. Grouped metrics need every row of a
group at once: averaging them over batches counts a group that spans two batches twice.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from recjax.errors import ConfigError, DataError
from recjax.registry import unknown

TIES = {"half": 0.5, "wrong": 0.0}
CLIP = 1e-7  # probabilities nearer to 0 or 1 than this are moved here before taking logarithms


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
  """Share of (positive, negative) pairs in the right order, ties counting one half.

  Args:
    labels: [n] 0 or 1.
    scores: [n], any increasing function of the probability.
    weights: [n] weights of rows, or None for ones; a pair weighs the product of its rows.

  Returns:
    The area under the ROC curve; NaN when a class is absent.
  """
  labels, scores = _checked(labels, scores)
  weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
  distinct, code = np.unique(scores, return_inverse=True)
  positive = np.bincount(code, weights * labels, len(distinct))
  negative = np.bincount(code, weights * (1 - labels), len(distinct))
  return _area(positive, negative)


class GroupedAuc(NamedTuple):
  """AUC inside groups, over the groups that have both classes.

  Attributes:
    gauc: mean of `auc` weighted by `rows`; NaN when no group has both classes.
    avg_auc: plain mean of `auc`.
    group: [G] ids of the groups with both classes, ascending.
    auc: float64 [G].
    rows: int64 [G] rows of each.
    dropped: number of groups with a single class.
  """

  gauc: float
  avg_auc: float
  group: np.ndarray
  auc: np.ndarray
  rows: np.ndarray
  dropped: int


def grouped_auc(
  groups: np.ndarray, labels: np.ndarray, scores: np.ndarray, ties: str = "half"
) -> GroupedAuc:
  """AUC of each group and its means (GAUC and avgAUC of the DIN paper).

  Args:
    groups: [n] ids, normally of users, in any order.
    labels: [n] 0 or 1.
    scores: [n].
    ties: "half", or "wrong" as the official DIN code counts them.
  """
  if ties not in TIES:
    raise ConfigError(unknown("treatment of ties", ties, TIES))
  labels, scores = _checked(labels, scores)
  order = np.lexsort((scores, groups))
  groups, labels, scores = np.asarray(groups)[order], labels[order], scores[order]

  new_group = np.append(True, groups[1:] != groups[:-1])
  new_tie = new_group | np.append(True, scores[1:] != scores[:-1])
  tie = np.cumsum(new_tie) - 1
  tie_group = (np.cumsum(new_group) - 1)[new_tie]
  positive = np.bincount(tie, labels)
  negative = np.bincount(tie, 1 - labels)

  positives = np.bincount(tie_group, positive)
  negatives = np.bincount(tie_group, negative)
  before_group = np.cumsum(negatives) - negatives
  below = np.cumsum(negative) - negative - before_group[tie_group]
  right = np.bincount(tie_group, positive * (below + TIES[ties] * negative))

  both = (positives > 0) & (negatives > 0)
  value = right[both] / (positives[both] * negatives[both])
  rows = (positives + negatives)[both].astype(np.int64)
  return GroupedAuc(
    gauc=float((value * rows).sum() / rows.sum()) if both.any() else float("nan"),
    avg_auc=float(value.mean()) if both.any() else float("nan"),
    group=groups[new_group][both],
    auc=value,
    rows=rows,
    dropped=int((~both).sum()),
  )


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
  """Mean binary cross-entropy in nats, from logits [n]; probabilities are clipped at 1e-7."""
  labels, logits = _checked(labels, logits)
  probability = np.clip(expit(logits), CLIP, 1 - CLIP)
  losses = -np.where(labels == 1, np.log(probability), np.log1p(-probability))
  return float(np.average(losses, weights=weights))


def relative_improvement(auc_model: float, auc_base: float) -> float:
  """RelaImpr of the DIN paper: the gain of AUC over 0.5, relative to a baseline's, in percent."""
  return ((auc_model - 0.5) / (auc_base - 0.5) - 1) * 100


def undo_negative_sampling(probability: np.ndarray, keep_rate: float) -> np.ndarray:
  """Probabilities before negatives were thinned: p / (p + (1 - p) / keep_rate).

  The same as adding log(keep_rate) to the logit. `keep_rate` is the share of negatives that
  training kept, in (0, 1].
  """
  check_keep_rate(keep_rate)
  return probability / (probability + (1 - probability) / keep_rate)


def check_keep_rate(keep_rate: float) -> None:
  """Raises ConfigError unless a share of kept negatives is in (0, 1]."""
  if not 0 < keep_rate <= 1:
    raise ConfigError(f"The share of kept negatives must be in (0, 1], got {keep_rate}.")


def calibration_ratio(labels: np.ndarray, probability: np.ndarray) -> float:
  """Mean predicted probability over mean label; 1 is calibrated, NaN without positives."""
  labels, probability = _checked(labels, probability)
  return float(probability.mean() / labels.mean()) if labels.any() else float("nan")


def calibration_error(labels: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
  """Expected calibration error over `bins` equal parts of [0, 1].

  Mean over rows of |mean probability - mean label| of the row's bin; 1 belongs to the last bin.
  """
  labels, probability = _checked(labels, probability)
  place = np.minimum((probability * bins).astype(np.int64), bins - 1)
  gap = np.bincount(place, probability, bins) - np.bincount(place, labels, bins)
  return float(np.abs(gap).sum() / len(place))


class LogitHistogram(NamedTuple):
  """Counts of rows by class and bin of the logit: an AUC that fits in memory and adds up.

  The bins cut [-16, 16] into 2**16 equal parts; logits outside go to the first or last bin.

  Attributes:
    positive: int64 [65536].
    negative: int64 [65536].
  """

  positive: np.ndarray
  negative: np.ndarray


HISTOGRAM_BINS = 2**16
HISTOGRAM_LIMIT = 16.0  # beyond it a probability differs from 0 or 1 by less than CLIP


def empty_histogram() -> LogitHistogram:
  """A histogram of no rows."""
  return LogitHistogram(np.zeros(HISTOGRAM_BINS, np.int64), np.zeros(HISTOGRAM_BINS, np.int64))


def count_logits(labels: np.ndarray, logits: np.ndarray) -> LogitHistogram:
  """Histogram of one part of the data, labels [n] and logits [n]."""
  labels, logits = _checked(labels, logits)
  share = (logits + HISTOGRAM_LIMIT) / (2 * HISTOGRAM_LIMIT)
  place = np.clip(np.floor(share * HISTOGRAM_BINS), 0, HISTOGRAM_BINS - 1).astype(np.int64)
  clicked = labels == 1
  return LogitHistogram(
    np.bincount(place[clicked], minlength=HISTOGRAM_BINS),
    np.bincount(place[~clicked], minlength=HISTOGRAM_BINS),
  )


def merge_histograms(first: LogitHistogram, second: LogitHistogram) -> LogitHistogram:
  """Histogram of two parts of the data together."""
  return LogitHistogram(first.positive + second.positive, first.negative + second.negative)


def histogram_auc(histogram: LogitHistogram) -> tuple[float, float]:
  """AUC of a histogram and its tie mass.

  Returns:
    AUC, with pairs inside a bin counted as ties, and the share of (positive, negative) pairs that
    are inside one bin: the exact AUC is at most half of that share away. NaN, NaN when a class is
    absent.
  """
  positive, negative = (counts.astype(np.float64) for counts in histogram)
  pairs = positive.sum() * negative.sum()
  tied = float((positive * negative).sum() / pairs) if pairs else float("nan")
  return _area(positive, negative), tied


def _area(positive: np.ndarray, negative: np.ndarray) -> float:
  """AUC from the weight of each class at ascending scores."""
  pairs = positive.sum() * negative.sum()
  below = np.cumsum(negative) - negative
  return float((positive * (below + 0.5 * negative)).sum() / pairs) if pairs else float("nan")


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Both as float64 [n]; raises DataError for what no metric here is defined on."""
  labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
  if labels.ndim != 1 or labels.shape != scores.shape or labels.size == 0:
    raise DataError(
      f"Labels and scores must be equally long lists, got {labels.shape} and {scores.shape}."
    )
  if not ((labels == 0) | (labels == 1)).all():
    raise DataError("Labels must be 0 or 1.")
  if np.isnan(scores).any():
    raise DataError("Some scores are NaN, so they cannot be evaluated.")
  return labels, scores
