"""Propagation over a bipartite graph of users and items whose edges carry vectors of their own.

    u(l + 1) = mean over the edges e of u of (i_e(l) - r_e)
    i(l + 1) = mean over the edges e of i of (u_e(l) + r_e)

so that a user and what an edge asks for are near the item: a translation. A node without edges gets 0.
The vectors r_e are those of all layers, and the mean of a sum is a sum of means: a product with a
sparse matrix in chunks (`nn.graph`), and a shift of every node that is found once for all layers.

Edges are kept in blocks of one size, the last filled up with weight 0,

    user [K, S]   item [K, S]   weight [K, S]   and further columns [K, S, ...]

and a scan goes over the blocks. Its gradient makes each block's vectors anew, so that memory is that of
one block, however many edges there are. Traced under a mesh with a 'data' axis, devices have blocks of
their own. Equal edges are one, with their number as its weight.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.nn.graph import chunks_of, multiply
from recjax.nn.over_devices import data_devices, sum_over_devices

_BLOCK = 4096  # edges whose vectors exist at once
ENDS = ("user", "item")


def edge_blocks(columns: Mapping[str, np.ndarray], size: int = _BLOCK) -> dict[str, np.ndarray]:
  """Distinct edges in blocks, with `weight`, how often each occurs.

  Args:
    columns: whole numbers [E, ...] by name, `user` and `item` among them.
    size: S, of a block; fewer edges make one smaller block.
  """
  as_rows = lambda column: column.reshape(len(column), int(np.prod(column.shape[1:])))
  flat = {name: as_rows(np.asarray(column, np.int32)) for name, column in columns.items()}
  joined = np.concatenate(list(flat.values()), axis=1)
  distinct, count = np.unique(joined, axis=0, return_counts=True)
  size = min(size, max(len(distinct), 1))
  missing = -len(distinct) % size if len(distinct) else size
  blocks = lambda array: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)).reshape(
    -1, size, *array.shape[1:]
  )
  found, start = {"weight": blocks(count.astype(np.float32))}, 0
  for name, column in flat.items():
    part = distinct[:, start : start + column.shape[1]]
    found[name] = blocks(part.reshape(len(part), *np.shape(columns[name])[1:]))
    start += column.shape[1]
  return found


def edge_means(
  blocks: Mapping[str, jax.Array],
  vectors: Callable[[Mapping[str, jax.Array], Any], jax.Array],
  read: Any,
  rows: Mapping[str, int],
) -> dict[str, jax.Array]:
  """Weighted means [rows, D] of edge vectors over the edges of every node, by end; 0 without edges.

  Args:
    blocks: from `edge_blocks`.
    vectors: a block, columns [S, ...], and `read` -> vectors [S, D] of its edges.
    read: arrays; gradients flow into them.
    rows: of the results, by end: "user" and "item".
  """
  made = jax.checkpoint(vectors)
  shape = jax.eval_shape(vectors, {name: array[0] for name, array in blocks.items()}, read)

  def sums_of(blocks, read):
    def add(sums, block):
      weighted = block["weight"][:, None] * made(block, read)
      return {end: total + _sum(weighted, block[end], rows[end]) for end, total in sums.items()}, None

    zero = {end: jnp.zeros((rows[end], shape.shape[-1]), shape.dtype) for end in ENDS}
    return jax.lax.scan(add, zero, blocks)[0]

  missing = -len(blocks["weight"]) % data_devices()
  filled = {n: jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for n, a in blocks.items()}
  sums = sum_over_devices(sums_of, filled, read)
  weight = blocks["weight"].reshape(-1)
  degree = {end: _sum(weight, blocks[end].reshape(-1), rows[end]) for end in ENDS}
  return {end: total / jnp.maximum(degree[end], 1.0)[:, None] for end, total in sums.items()}


def _sum(values, node, rows):
  return jax.ops.segment_sum(values, node, rows)


def mean_graph(pairs: scipy.sparse.csr_array) -> dict[str, Any]:
  """The graph of who had what how often, for means over neighbours.

  pairs [U, N] counts events; each is an edge. Chunks by user and by item, and user_scale [U] and
  item_scale [N], one over the number of edges, 0 without any.
  """
  counts = scipy.sparse.csr_array(pairs, dtype=np.float32)
  scale = lambda axis: _inverse(np.asarray(counts.sum(axis=axis)).reshape(-1))
  return {
    "by_user": chunks_of(counts), "by_item": chunks_of(scipy.sparse.csr_array(counts.T)),
    "user_scale": scale(1), "item_scale": scale(0),
  }


def _inverse(degree):
  inverse = np.divide(1.0, degree, where=degree > 0, out=np.zeros(degree.shape))
  return inverse.astype(np.float32)


def translated_layers(
  graph: Mapping[str, Any],
  users: jax.Array,
  items: jax.Array,
  means: Mapping[str, jax.Array] | None,
  layers: int,
) -> list[tuple[jax.Array, jax.Array]]:
  """Users [U, D] and items [N, D] of layers 0 to `layers`.

  Args:
    graph: from `mean_graph`.
    users: layer 0; may have more rows than the graph.
    items: likewise.
    means: of edge vectors, from `edge_means`; None for means over neighbours alone.
    layers: how many.
  """
  by_user, by_item = graph["by_user"], graph["by_item"]
  fill = lambda scale, table: jnp.pad(scale, (0, len(table) - len(scale)))[:, None]
  user_scale, item_scale = fill(graph["user_scale"], users), fill(graph["item_scale"], items)
  found = [(users, items)]
  for _ in range(layers):
    users, items = (
      user_scale * multiply(by_user, by_item, items, len(users)),
      item_scale * multiply(by_item, by_user, users, len(items)),
    )
    if means is not None:
      users, items = users - means["user"], items + means["item"]
    found.append((users, items))
  return found
