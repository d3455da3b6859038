"""Rows of item ids as (indptr [m + 1], indices): what users find relevant, or have seen."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse

from recjax.errors import DataError


def sorted_rows(
  rows: tuple[np.ndarray, np.ndarray], num_rows: int, num_items: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
  """(indptr, indices) with ids ascending in each row; DataError names what is wrong with `what`."""
  indptr, indices = (np.asarray(part).astype(np.int64) for part in rows)
  if indptr.shape != (num_rows + 1,):
    raise DataError(
      f"indptr of {what} has shape {indptr.shape}; for {num_rows} users it is ({num_rows + 1},)."
    )
  if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
    raise DataError(f"indptr of {what} does not ascend from 0 to the {len(indices)} indices.")
  if len(indices) and (indices.min() < 1 or indices.max() > num_items):
    raise DataError(
      f"The {what} hold ids from {indices.min()} to {indices.max()}; items are 1 to {num_items}."
    )
  keys = np.repeat(np.arange(num_rows), np.diff(indptr)) * (num_items + 1) + indices
  keys.sort()
  if (np.diff(keys) == 0).any():
    user = int(keys[:-1][np.diff(keys) == 0][0]) // (num_items + 1)
    raise DataError(f"The {what} of row {user} name an item twice.")
  return indptr, keys % (num_items + 1)


def distinct_rows(padded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The distinct items of each row of ids [m, T], padded with 0, as (indptr [m + 1], indices)."""
  ordered = np.sort(padded, axis=1)
  new = np.diff(ordered, axis=1, prepend=0) != 0
  return np.concatenate([[0], np.cumsum(new.sum(axis=1))]), ordered[new]


def find_relevant(
  lists: np.ndarray, indptr: np.ndarray, indices: np.ndarray, num_items: int
) -> np.ndarray:
  """Position in indices of the item of each place of lists [m, K], -1 where it is not relevant."""
  if not len(indices):
    return np.full(lists.shape, -1, np.int64)
  width = num_items + 1
  keys = np.repeat(np.arange(len(lists)), np.diff(indptr)) * width + indices
  wanted = np.arange(len(lists))[:, None] * width + lists
  place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return np.where(keys[place] == wanted, place, -1)


def rows_matrix(
  indptr: np.ndarray, indices: np.ndarray, num_items: int, values: np.ndarray | None = None
) -> scipy.sparse.csr_array:
  """Checked rows as a sparse [m, num_items], item 1 in the first column; ones without values."""
  values = np.ones(len(indices), np.float32) if values is None else values
  return scipy.sparse.csr_array((values, indices - 1, indptr), (len(indptr) - 1, num_items))


def lists_matrix(items: np.ndarray, num_items: int, weights: np.ndarray) -> scipy.sparse.csr_array:
  """Lists [m, k] as a sparse [m, num_items] that holds weights [k] by place; 0 is an empty place."""
  there = items != 0
  indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
  return rows_matrix(indptr, items[there], num_items, np.broadcast_to(weights, items.shape)[there])


def spans(work: np.ndarray, most: float) -> Iterator[tuple[int, int]]:
  """Ranges of rows [m] whose work adds up to about `most`, at least one row each."""
  summed = np.cumsum(work)
  cuts = np.searchsorted(summed, np.arange(most, summed[-1] if len(work) else 0, most))
  bounds = np.unique([0, *cuts, len(work)])
  return zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


def of_items(array: np.ndarray, axis: int, num_items: int, name: str) -> np.ndarray:
  """The part of a matrix that is about items 1 to n, a view; an entry of padding before them goes.

  Raises DataError where the axis has neither n nor n + 1 entries.
  """
  size = np.shape(array)[axis] if np.ndim(array) == 2 else -1
  if size not in (num_items, num_items + 1):
    raise DataError(
      f"{name} has shape {np.shape(array)}; axis {axis} is {num_items} or {num_items + 1} long for "
      f"{num_items} items."
    )
  first = size - num_items
  return array[first:] if axis == 0 else array[:, first:]


def vectors_of_items(vectors: np.ndarray | None, num_items: int) -> np.ndarray | None:
  """Vectors float64 [n, d] of items 1 to n, None for None; DataError where they are not finite."""
  if vectors is None:
    return None
  vectors = np.asarray(of_items(vectors, 0, num_items, "item_vectors"), np.float64)
  if not np.isfinite(vectors).all():
    raise DataError("item_vectors hold NaN or infinite values.")
  return vectors
