"""How much behaviours say about clicks, by category and by how long ago: in the data, and in a model.

    CTC(c, p) = I(X; Y) in bits:  X: the user's p-th newest behaviour is of category c,  Y: a click,
                among the rows whose target is of one category
    Cor(c, p) = exp(<e~, v~> / sqrt(D)) |e~ * v~|,  e~ = e_c + P[p],  v~ = v + P[0]

Zhou et al., WWW 2024, arXiv 2308.08487. Where a model has learned what the data hold, both fall from
the target's own category to others, and from the newest behaviour to older ones.
"""

from collections.abc import Mapping, Sequence

import numpy as np


def mutual_information(
  event: np.ndarray, other: np.ndarray, clicked: float, passed: float
) -> np.ndarray:
  """Bits [...] that an event tells about a click.

  Args:
    event: rows [...] with the event and a click.
    other: rows [...] with the event and none.
    clicked: all rows with a click.
    passed: all rows without. NaN is returned where there are no rows at all.
  """
  event, other = np.broadcast_arrays(np.asarray(event, np.float64), np.asarray(other, np.float64))
  cells = np.stack([[event, other], [clicked - event, passed - other]])
  total = float(clicked + passed)
  if not total:
    return np.full(event.shape, np.nan)
  expected = cells.sum(0, keepdims=True) * cells.sum(1, keepdims=True)
  ratio = np.divide(cells * total, expected, out=np.ones_like(cells), where=cells > 0)
  return np.sum(cells / total * np.log2(ratio), axis=(0, 1))


def click_correlations(
  columns: Mapping[str, np.ndarray], target: int, categories: Sequence[int], positions: int
) -> np.ndarray:
  """CTC float64 [categories, positions] among the rows of a click table with one target category.

  Args:
    columns: hist_cat and hist_mask [n, L], oldest first, target_cat and label [n].
    target: category of the target. A category without rows gives NaN.
    categories: of behaviours.
    positions: 1 ... this many, 1 being the newest.
  """
  rows = columns["target_cat"] == target
  history, mask = columns["hist_cat"][rows], columns["hist_mask"][rows]
  click = columns["label"][rows] > 0
  after = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1] * mask
  shape = (len(categories), positions)
  event, other = np.zeros(shape), np.zeros(shape)
  for place in range(positions):
    at = after == place + 1
    category = np.sum(history * at, axis=1)
    for index, wanted in enumerate(categories):
      there = at.any(1) & (category == wanted)
      event[index, place], other[index, place] = (there & click).sum(), (there & ~click).sum()
  return mutual_information(event, other, click.sum(), (~click).sum())


def learned_correlations(
  behaviours: np.ndarray, target: np.ndarray, positions: np.ndarray, of_target: np.ndarray
) -> np.ndarray:
  """Cor float64 [K, P] of vectors [K, D] of categories and rows [P, D] of positions from 1 on.

  Args:
    behaviours: [K, D].
    target: [D].
    positions: [P, D]; zeros for a model that knows none.
    of_target: row [D] of the target's position.
  """
  encoded = np.asarray(behaviours, np.float64)[:, None] + np.asarray(positions, np.float64)[None]
  wanted = np.asarray(target, np.float64) + np.asarray(of_target, np.float64)
  strength = np.linalg.norm(encoded * wanted, axis=-1)
  return np.exp(encoded @ wanted / np.sqrt(len(wanted))) * strength


def to_unit_range(grid: np.ndarray) -> np.ndarray:
  """The grid moved and scaled to 0 ... 1; zeros where all values are equal."""
  low, high = np.min(grid), np.max(grid)
  return (grid - low) / (high - low) if high > low else np.zeros_like(grid)
