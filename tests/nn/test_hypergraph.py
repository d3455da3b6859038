"""Hypergraphs against the matrices that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from recjax.errors import ConfigError
from recjax.nn.hypergraph import by_row, gather_edges, neighbour_edges, propagate, symmetric


def sparse(dense):
  return scipy.sparse.csr_array(np.asarray(dense, np.float64))


def matrix(graph, nodes, edges):
  """The matrix of one step."""
  return np.asarray(propagate(jax.tree.map(jnp.asarray, graph), jnp.eye(nodes), edges))


def test_users_who_share_items_by_hand():
  graph = by_row(sparse([[1, 1, 0], [0, 1, 1], [1, 1, 1]]))
  third = 1.0 / 3.0
  expected = [[0, third, 2 * third], [third, 0, 2 * third], [0.5, 0.5, 0]]
  np.testing.assert_allclose(matrix(graph, 3, 3), expected, atol=1e-7)


def test_items_of_two_modalities_by_hand():
  visual = np.kron(np.eye(2), np.ones((2, 2)))  # pairs {0, 1} and {2, 3}
  text = np.kron(np.ones((2, 2)), np.eye(2))  # pairs {0, 2} and {1, 3}
  graph = symmetric(sparse(np.concatenate([visual, text], axis=1)))
  expected = [[0.5, 0.25, 0.25, 0], [0.25, 0.5, 0, 0.25], [0.25, 0, 0.5, 0.25], [0, 0.25, 0.25, 0.5]]
  np.testing.assert_allclose(matrix(graph, 4, 8), expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_dense_matrices(seed):
  rng = np.random.default_rng(seed)
  incidence = (rng.random((30, 20)) < 0.15).astype(np.float64)
  incidence[:, 0] = 1.0  # one edge that all share
  incidence[3] = 0.0
  shared = incidence @ incidence.T
  apart = shared - np.diag(np.diag(shared))
  sums = apart.sum(1, keepdims=True)
  rows = np.divide(apart, sums, where=sums > 0, out=np.zeros_like(apart))
  np.testing.assert_allclose(matrix(by_row(sparse(incidence)), 30, 20), rows, atol=1e-6)
  assert set(np.round(rows.sum(1), 9)) == {0.0, 1.0}
  root = np.array([value**-0.5 if value else 0.0 for value in shared.sum(1)])
  np.testing.assert_allclose(
    matrix(symmetric(sparse(incidence)), 30, 20), root[:, None] * shared * root, atol=1e-6
  )


def test_nobody_else_means_exactly_zero_and_no_nan():
  graph = jax.tree.map(jnp.asarray, by_row(sparse([[1, 1, 0], [0, 0, 1], [1, 0, 0]])))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)
  assert not np.asarray(propagate(graph, x, 3))[1].any()
  assert np.isfinite(jax.grad(lambda x: (propagate(graph, x, 3) ** 2).sum())(x)).all()
  np.testing.assert_allclose(gather_edges(graph, x, 3), [x[0] + x[2], x[0], x[1]], rtol=1e-6)


def test_neighbours_are_oneself_and_the_nearest():
  vectors = np.array([[0, 0], [1, 0], [1, 0.1], [0, 2], [-1, 0], [0.1, 1]], np.float32)
  found = neighbour_edges(vectors, 2).toarray()
  assert [np.flatnonzero(row).tolist() for row in found] == [[], [1, 2], [1, 2], [3, 5], [4], [3, 5]]
  np.testing.assert_array_equal(neighbour_edges(vectors, 1).toarray(), np.diag(vectors.any(1)))
  wide = neighbour_edges(vectors, 6).toarray()
  assert wide[4].tolist() == [0, 0, 0, 0, 1, 0]  # nobody else is at less than a right angle
  assert wide[3].tolist() == [0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("k, value, message", [
  (0, 1.0, "0 neighbours of 3 items"), (4, 1.0, "4 neighbours of 3 items"), (2, np.nan, "item 1 has"),
])
def test_mistakes(k, value, message):
  vectors = np.eye(3)
  vectors[1, 1] = value
  with pytest.raises(ConfigError, match=message):
    neighbour_edges(vectors, k)
