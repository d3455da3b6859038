"""What watching says about liking: labels without the video's duration, and chances of slots.

Quantiles within durations (D2Q) are of Zhan et al., KDD 2022, arXiv 2206.06003. That a list's slot is
looked at with a chance of its own, which lists in random order show, is of Joachims, Swaminathan and
Schnabel, WSDM 2017, arXiv 1608.04468. Labels divided by that chance are unbiased, as in Saito et al.,
WSDM 2020, arXiv 1909.03601. Dividing a whole example's loss by it is not: that changes how much a slot
counts, not what is learned of it.
"""

import numpy as np
import scipy.stats

from recjax.errors import DataError


def watch_ratio(seconds: np.ndarray, duration: np.ndarray) -> np.ndarray:
  """min(w / d, 1) of seconds [n] watched of durations [n] above 0."""
  return np.minimum(seconds / duration, 1.0)


def watched_half(seconds: np.ndarray, duration: np.ndarray) -> np.ndarray:
  """1 where at least a half was watched, else 0."""
  return (2 * seconds >= duration).astype(np.float64)


def duration_quantiles(seconds: np.ndarray, duration: np.ndarray, bins: int) -> np.ndarray:
  """Place in (0, 1) of seconds [n] among those of like duration; the mean of every bin is a half.

  Bins of duration hold about equally many; equal seconds share their mean place. There are at
  most as many bins as rows.
  """
  bins = min(bins, len(seconds))
  edges = np.quantile(duration, np.arange(1, bins) / bins)
  of = np.searchsorted(edges, duration, side="right")
  label = np.empty(len(seconds))
  for rows in (np.flatnonzero(of == number) for number in np.unique(of)):
    label[rows] = (scipy.stats.rankdata(seconds[rows]) - 0.5) / len(rows)
  return label


def slot_chances(watched: np.ndarray, slot: np.ndarray, slots: int) -> np.ndarray:
  """How likely each slot is looked at, relative to the first: float64 [slots + 1], NaN at 0.

  Args:
    watched: [n], of lists in random order, in which every slot had the same videos on average.
    slot: [n] from 1.
    slots: how many there are.

  Raises:
    DataError: a slot in which nothing was watched, so that its chance is not known.
  """
  shown = np.bincount(slot, minlength=slots + 1)
  total = np.bincount(slot, watched, slots + 1)
  if not total[1:].all():
    least = 1 + int(np.argmin(total[1:]))
    raise DataError(f"Nothing was watched at random in slot {least}, so its chance is not known.")
  mean = np.divide(total, shown, out=np.full(slots + 1, np.nan), where=shown > 0)
  return mean / mean[1]


def inverse_chances(chances: np.ndarray, slot: np.ndarray, most: float = 10.0) -> np.ndarray:
  """min(1 / chance, most) of slots [n]: what a label is multiplied with."""
  return np.minimum(1.0 / chances[slot], most)
