"""The exact index: one stable sort of all products, on any number of devices, and mistakes."""

import jax
import numpy as np
import pytest

from recjax.errors import DataError, RecjaxError
from recjax.serve.item_index import ItemIndex

# Whole numbers, so that products are exact and many are equal.
RNG = np.random.default_rng(0)
VECTORS = RNG.integers(-2, 3, (1003, 4)).astype(np.float32)
QUERIES = RNG.integers(-2, 3, (5, 4)).astype(np.float32)
SEEN = RNG.integers(0, 1003, (5, 300)).astype(np.int32)


def one_sort(k, seen):
  products = QUERIES @ VECTORS.T
  products[:, 0] = -np.inf
  for row, items in enumerate(seen):
    products[row, items] = -np.inf
  ids = np.argsort(-products, axis=1, kind="stable")[:, :k]
  scores = np.take_along_axis(products, ids, axis=1)
  return np.where(np.isneginf(scores), 0, ids), scores


@pytest.mark.parametrize("devices", sorted({1, len(jax.devices())}))
def test_equals_one_sort(devices):
  index = ItemIndex(VECTORS, block=400, devices=jax.devices()[:devices])
  assert index.num_items == 1002
  for found, expected in zip(index.search(QUERIES, 7), one_sort(7, ()), strict=True):
    np.testing.assert_array_equal(found, expected)
  found = index.search(QUERIES, 7, SEEN)
  for a, b in zip(found, one_sort(7, SEEN), strict=True):
    np.testing.assert_array_equal(a, b)
  assert 0 < index.memory(5, 7) < 1e6


def test_lists_longer_than_what_is_left():
  index = ItemIndex(VECTORS[:9], devices=jax.devices()[:1])
  seen = np.tile(np.arange(1, 7), (5, 1))
  ids, scores = index.search(QUERIES, 8, seen)
  assert (np.sort(ids[:, :2], axis=1) == [7, 8]).all() and not ids[:, 2:].any()
  assert np.isneginf(scores[:, 2:]).all() and np.isfinite(scores[:, :2]).all()
  assert index.search(QUERIES[:0], 3)[0].shape == (0, 3)


def test_mistakes_are_named():
  with pytest.raises(DataError, match=r"takes finite vectors \[items \+ 1, D\], not \[4\]"):
    ItemIndex(np.zeros(4))
  with pytest.raises(DataError, match="takes finite vectors"):
    ItemIndex(np.full((3, 2), np.nan))
  index = ItemIndex(VECTORS[:9], devices=jax.devices()[:1])
  with pytest.raises(RecjaxError, match=r"Queries are finite vectors \[Q, 4\], not \[5, 3\]."):
    index.search(QUERIES[:, :3], 2)
  with pytest.raises(RecjaxError, match="k = 9 is not between 1 and 8, the number of items."):
    index.search(QUERIES, 9)
