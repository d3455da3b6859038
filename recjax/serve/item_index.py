"""Exact search among the vectors of items: the k largest dot products, for many queries at once.

Items are cut over the devices, each of which keeps its own and finds its k best, block by block; what
is sent and merged are those lists. The evaluators' search (`evaluate.topk`) has the same running top-k
and cuts users instead, as fits their variables.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax.errors import DataError, RecjaxError
from recjax.evaluate.topk import leave_out
from recjax.nn.running_top_k import running_top_k

_QUERIES = 1024  # searched for at once; with a block of items, what memory follows


class ItemIndex:
  """The vectors of a catalogue, ready to be searched; `search` compiles once for each k.

  Attributes:
    num_items: ids run from 1 to num_items.
  """

  def __init__(self, vectors: np.ndarray, block: int = 32_768, devices: list | None = None):
    """Places vectors float [num_items + 1, D] by id, of which row 0 is padding and never found.

    Args:
      vectors: as `encode_items` of a model gives them.
      block: items scored at once on each device.
      devices: to cut items over; None: all of this process.

    Raises:
      DataError: vectors are no table, or not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) < 2 or not np.isfinite(vectors).all():
      raise DataError(f"An index takes finite vectors [items + 1, D], not {list(vectors.shape)}.")
    devices = devices or jax.local_devices()
    self.num_items = len(vectors) - 1
    # Every device gets whole blocks, so that a block is a slice.
    self._block = min(block, -(-self.num_items // len(devices)))
    self._own = -(-self.num_items // (len(devices) * self._block)) * self._block
    filled = np.zeros((self._own * len(devices), vectors.shape[1]), np.float32)
    filled[: self.num_items] = vectors[1:]
    self._mesh = jax.make_mesh((len(devices),), ("items",), (AxisType.Auto,), devices=devices)
    self._items = jax.device_put(filled, NamedSharding(self._mesh, PartitionSpec("items")))
    self._search = jax.jit(self._find, static_argnums=3)

  def search(
    self, queries: np.ndarray, k: int, seen: np.ndarray | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [Q, k] and dot products float32 [Q, k], best first, of equals the lower id.

    Where fewer than k items can be found, the rest has id 0 and product -inf.

    Args:
      queries: float [Q, D].
      k: at most num_items.
      seen: int [Q, S] items to leave out, padded with 0.

    Raises:
      RecjaxError: queries of another width or not finite, or k out of range.
    """
    queries = np.asarray(queries, np.float32)
    width = self._items.shape[1]
    if queries.ndim != 2 or queries.shape[1] != width or not np.isfinite(queries).all():
      raise RecjaxError(f"Queries are finite vectors [Q, {width}], not {list(queries.shape)}.")
    if not 1 <= k <= self.num_items:
      raise RecjaxError(f"k = {k} is not between 1 and {self.num_items}, the number of items.")
    found = []
    for start in range(0, len(queries), _QUERIES):
      part = slice(start, start + _QUERIES)
      count = len(queries[part])
      fill = ((0, min(_QUERIES, 1 << (count - 1).bit_length()) - count), (0, 0))
      left_out = None if seen is None else np.pad(np.asarray(seen[part], np.int32), fill)
      ids, scores = self._search(self._items, np.pad(queries[part], fill), left_out, k)
      found.append((ids[:count], scores[:count]))
    if not found:
      return np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)
    ids, scores = (np.concatenate(parts) for parts in zip(*jax.device_get(found), strict=True))
    return ids, scores

  def memory(self, queries: int, k: int) -> int:
    """Bytes of temporary memory of the compiled search on each device, for queries without `seen`."""
    given = jax.ShapeDtypeStruct((queries, self._items.shape[1]), jnp.float32)
    compiled = self._search.lower(self._items, given, None, k).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  def _find(self, items, queries, seen, k):
    own, whole = PartitionSpec("items"), PartitionSpec()
    find = functools.partial(_find_own, num_items=self.num_items, block=self._block, k=k)
    ids, scores = jax.shard_map(
      find, mesh=self._mesh, in_specs=(own, whole, whole), out_specs=(own, own), check_vma=False
    )(items, queries, seen)
    # [devices, Q, k]: lower ids come first, and top_k prefers the earlier of equals.
    flat = lambda a: jnp.swapaxes(a, 0, 1).reshape(len(queries), -1)
    scores, place = jax.lax.top_k(flat(scores), k)
    return jnp.take_along_axis(flat(ids), place, axis=1), scores


def _find_own(items, queries, seen, *, num_items, block, k):
  """The k best [1, Q, k] of the items of one device."""
  first = 1 + jax.lax.axis_index("items") * len(items)

  def score(start):
    part = jax.lax.dynamic_slice_in_dim(items, start, block)
    ids = first + start + jnp.arange(block, dtype=jnp.int32)
    products = jnp.matmul(queries, part.T, precision="highest")
    products = jnp.where((ids <= num_items)[None], products, -jnp.inf)
    return products if seen is None else leave_out(products, seen - (first + start))

  columns, scores = running_top_k(score, len(queries), len(items), block, k)
  ids = jnp.where(jnp.isneginf(scores), 0, first + columns)
  return ids[None], scores[None]
