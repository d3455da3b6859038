"""Propagation over hypergraphs: nodes that share hyperedges, without the graph of their pairs.

With incidence H [N, E], nodes share S = H H', minus its diagonal if a node is no neighbour of itself,
and propagation is x <- diag(left) S diag(right) x. S has as many entries as pairs that share something,
U x U where everybody has the one popular item; here it is never made:

    S x = H (H' x) - degree x

so that time and memory follow the incidences. H is kept in the chunks of `nn.graph`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import scipy.sparse

from recjax.errors import ConfigError
from recjax.nn.graph import chunks_of, multiply
from recjax.nn.nearest import nearest


def by_row(incidence: scipy.sparse.csr_array) -> dict[str, Any]:
  """The hypergraph of nodes that share an edge with another: D^-1 (H H' - diag).

  incidence [N, E] is 0 or 1. Nodes that share nothing have rows of zeros.
  """
  degree = np.asarray(incidence.sum(axis=1)).reshape(-1)
  shared = _shared(incidence) - degree
  left = np.divide(1.0, shared, where=shared > 0, out=np.zeros_like(shared))
  return _hypergraph(incidence, left, np.ones_like(left), degree)


def symmetric(incidence: scipy.sparse.csr_array) -> dict[str, Any]:
  """The hypergraph D^-1/2 H H' D^-1/2, in which a node is its own neighbour, too."""
  shared = _shared(incidence)
  root = np.divide(1.0, np.sqrt(shared), where=shared > 0, out=np.zeros_like(shared))
  return _hypergraph(incidence, root, root, np.zeros_like(root))


def _shared(incidence: scipy.sparse.csr_array) -> np.ndarray:
  """Row sums of H H', float64 [N]."""
  return np.asarray(incidence @ (incidence.T @ np.ones(incidence.shape[0])), np.float64)


def _hypergraph(incidence, left, right, degree):
  return {
    "nodes": chunks_of(incidence),
    "edges": chunks_of(scipy.sparse.csr_array(incidence.T)),
    "left": left.astype(np.float32),
    "right": right.astype(np.float32),
    "degree": degree.astype(np.float32),
  }


def gather_edges(graph: Mapping[str, Any], x: jax.Array, edges: int) -> jax.Array:
  """Sums [E, D] over the nodes of each hyperedge: H' diag(right) x, of x [N, D]."""
  return multiply(graph["edges"], graph["nodes"], graph["right"][:, None] * x, edges)


def propagate(graph: Mapping[str, Any], x: jax.Array, edges: int) -> jax.Array:
  """One step, [N, D] of x [N, D], over a hypergraph of this many hyperedges."""
  through = multiply(graph["nodes"], graph["edges"], gather_edges(graph, x, edges), len(x))
  own = (graph["degree"] * graph["right"])[:, None] * x
  return graph["left"][:, None] * (through - own)


def neighbour_edges(vectors: np.ndarray, k: int) -> scipy.sparse.csr_array:
  """Who is among the k nearest of whom, as incidence [N, N]: edge j holds all that list j.

  Row i marks i itself and its k - 1 nearest others by cosine, of which those of cosine 0 or below are
  left out; a row of zeros marks nothing, and nobody marks it.

  Args:
    vectors: [N, M], a row an item; zero where there is none.
    k: neighbours, the item itself among them.

  Raises:
    ConfigError: k is below 1 or above N, or a vector is not finite.
  """
  count = len(vectors)
  if not 1 <= k <= count:
    raise ConfigError(f"{k} neighbours of {count} items cannot be listed.")
  if not np.isfinite(vectors).all():
    row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
    raise ConfigError(f"The vector of item {row} has numbers that are not finite.")
  real = vectors.any(axis=1)
  own = np.flatnonzero(real)
  heads, tails = [own], [own]
  if k > 1:
    # Values are needed now, also while a function that starts a model is traced.
    with jax.ensure_compile_time_eval():
      itself = np.arange(count, dtype=np.int32)
      rows, cosines = nearest(vectors, vectors, k - 1, leave_out=itself, allowed=real)
    head, place = np.nonzero(np.asarray(cosines) > 0)
    heads, tails = [own, head], [own, np.asarray(rows)[head, place]]
  head, tail = np.concatenate(heads), np.concatenate(tails)
  ones = np.ones(len(head), np.float64)
  return scipy.sparse.coo_array((ones, (head, tail)), (count, count)).tocsr()
