"""Propagation over a bipartite graph of users and items.

The graph is never a matrix of users x items. A sparse matrix is kept as chunks: a row's entries are cut
into pieces of a fixed width, the last of them filled up with weight 0,

    row [C]   column [C, W]   weight [C, W]

so that C follows the number of edges, however uneven the degrees are, and every array has one shape. A
product with a dense matrix gathers and adds up; so does its gradient, which is the product with the
transposed matrix and therefore kept, too. Traced under a mesh with a 'data' axis, every device works on
its own chunks and sums are exchanged.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.errors import ConfigError
from recjax.nn.over_devices import data_devices, sum_over_devices

_BLOCK = 4096  # chunks gathered at once
_WIDTH = 16  # entries of a chunk


def chunks_of(matrix: scipy.sparse.csr_array, width: int = _WIDTH) -> dict[str, np.ndarray]:
  """A sparse matrix as chunks; raises ConfigError for more entries than int32 can number."""
  if matrix.nnz >= 2**31 - 1:
    raise ConfigError(f"{matrix.nnz} edges are more than int32 can number.")
  length = np.diff(matrix.indptr)
  pieces = -(-length // width)
  row = np.repeat(np.arange(len(length)), pieces)
  place = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
  entry = matrix.indptr[row][:, None] + place[:, None] * width + np.arange(width)[None, :]
  real = entry < matrix.indptr[row + 1][:, None]
  entry = np.where(real, entry, 0)
  if not len(row):  # no edges: one chunk without any, since arrays have rows
    row, real, entry = np.zeros(1, int), np.zeros((1, width), bool), np.zeros((1, width), int)
  values = lambda array: np.append(array, 0)[entry]
  return {
    "row": row.astype(np.int32),
    "column": np.where(real, values(matrix.indices), 0).astype(np.int32),
    "weight": np.where(real, values(matrix.data), 0).astype(np.float32),
  }


def bipartite_graph(
  pairs: scipy.sparse.csr_array, width: int = _WIDTH
) -> dict[str, dict[str, np.ndarray]]:
  """The graph of who had what: D^-1/2 A D^-1/2 as chunks by user and, transposed, by item.

  pairs [U, N] counts events; every pair that occurs is one edge, of weight 1 / sqrt(degree of the user
  x degree of the item).
  """
  edges = scipy.sparse.csr_array(pairs.astype(bool).astype(np.float64))
  scale = []
  for axis in (1, 0):
    degree = np.asarray(edges.sum(axis=axis)).reshape(-1)
    root = np.divide(1.0, np.sqrt(degree), where=degree > 0, out=np.zeros_like(degree))
    scale.append(scipy.sparse.diags_array(root))
  weighted = scipy.sparse.csr_array(scale[0] @ edges @ scale[1])
  return {
    "by_user": chunks_of(weighted, width),
    "by_item": chunks_of(scipy.sparse.csr_array(weighted.T), width),
  }


def multiply(
  chunks: Mapping[str, Any], transposed: Mapping[str, Any], dense: jax.Array, rows: int
) -> jax.Array:
  """The product [rows, D] of a sparse matrix with dense [N, D].

  Gradients flow to `dense` only. Memory is that of one block of chunks and of [C, D] sums.

  Args:
    chunks: of the matrix.
    transposed: chunks of the transposed matrix.
    dense: [N, D]; N may exceed the columns.
    rows: of the result; those that the matrix does not have are zero.
  """
  sizes = rows, dense.shape[0]
  return _product(sizes, jax.sharding.get_abstract_mesh(), chunks, transposed, dense)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(sizes, mesh, chunks, transposed, dense):
  del transposed
  # A gradient is traced when whoever set the mesh has left it.
  with jax.sharding.use_abstract_mesh(mesh):
    missing = -len(chunks["row"]) % data_devices()
    filled = {n: jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for n, a in chunks.items()}
    return sum_over_devices(functools.partial(_multiply, rows=sizes[0]), filled, dense)


def _multiply(chunks, dense, *, rows):
  def weighted(chunk):
    return jnp.sum(chunk["weight"][:, None] * dense[chunk["column"]], axis=0)

  count = len(chunks["row"])
  parts = jax.lax.map(weighted, dict(chunks), batch_size=min(_BLOCK, count))
  return jax.ops.segment_sum(parts, chunks["row"], rows)


def _forward(sizes, mesh, chunks, transposed, dense):
  return _product(sizes, mesh, chunks, transposed, dense), (chunks, transposed)


def _backward(sizes, mesh, residuals, cotangent):
  chunks, transposed = residuals
  return None, None, _product(sizes[::-1], mesh, transposed, chunks, cotangent)


_product.defvjp(_forward, _backward)


def layers_of(
  graph: Mapping[str, Mapping[str, Any]], users: jax.Array, items: jax.Array, layers: int
) -> list[tuple[jax.Array, jax.Array]]:
  """Users [U, D] and items [N, D] of layers 0 to `layers`: E <- D^-1/2 A D^-1/2 E, layer by layer."""
  by_user, by_item = graph["by_user"], graph["by_item"]
  found = [(users, items)]
  for _ in range(layers):
    users, items = (
      multiply(by_user, by_item, items, len(users)), multiply(by_item, by_user, users, len(items))
    )
    found.append((users, items))
  return found
