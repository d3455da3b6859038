"""Propagation over a graph: by hand, against dense matrices, its gradient, over devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding

from recjax.nn import graph as graphs
from recjax.nn.sparse import holds, sparse_rows


def sparse(dense):
  return scipy.sparse.csr_array(np.asarray(dense, np.float32))


def on_device(graph):
  return jax.tree.map(jnp.asarray, graph)


def dense_layers(pairs, users, items, layers):
  """The propagation by the dense matrix of all users and items, layer by layer."""
  edges = (np.asarray(pairs) > 0).astype(np.float64)
  count = len(edges)
  whole = np.block([
    [np.zeros((count, count)), edges], [edges.T, np.zeros((edges.shape[1],) * 2)],
  ])
  degree = whole.sum(axis=1)
  root = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
  whole = root[:, None] * whole * root[None, :]
  found = [np.concatenate([users, items])]
  for _ in range(layers):
    found.append(whole @ found[-1])
  return [(layer[:count], layer[count:]) for layer in found]


def test_layers_by_hand():
  graph = on_device(graphs.bipartite_graph(sparse([[1, 1], [0, 1]])))
  users, items = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [1.0]])
  layers = graphs.layers_of(graph, users, items, 2)
  flat = [np.concatenate([u, i])[:, 0] for u, i in layers]
  np.testing.assert_allclose(flat[0], [1, 0, 0, 1])
  np.testing.assert_allclose(flat[1], [0.5, 0.7071068, 0.7071068, 0.5], rtol=1e-6)
  np.testing.assert_allclose(flat[2], [0.75, 0.3535534, 0.3535534, 0.75], rtol=1e-6)
  np.testing.assert_allclose(np.mean(flat, axis=0), [0.75, 0.3535534, 0.3535534, 0.75], rtol=1e-6)


# Every example has shapes of its own, and so is compiled.
@settings(deadline=None, max_examples=5)
@given(
  st.integers(1, 9), st.integers(1, 9), st.sampled_from((0.3, 0.0, 1.0)),
  st.sampled_from((2, 1, 16)), st.integers(0, 2**31),
)
def test_layers_equal_those_of_a_dense_matrix(num_users, num_items, part, width, seed):
  rng = np.random.default_rng(seed)
  # Someone may have had an item several times: that is one edge.
  pairs = rng.integers(1, 4, (num_users, num_items)) * (rng.random((num_users, num_items)) < part)
  # Tables may have more rows than there are ids.
  users, items = rng.normal(size=(num_users + 2, 3)), rng.normal(size=(num_items + 1, 3))
  graph = on_device(graphs.bipartite_graph(sparse(pairs), width))
  tables = (np.asarray(a, np.float32) for a in (users, items))
  found = jax.jit(lambda graph, *tables: graphs.layers_of(graph, *tables, 2))(graph, *tables)
  twin = dense_layers(pairs, users[:num_users], items[:num_items], 2)
  for (u, i), (dense_u, dense_i) in zip(found, twin, strict=True):
    np.testing.assert_allclose(u[:num_users], dense_u, atol=1e-5)
    np.testing.assert_allclose(i[:num_items], dense_i, atol=1e-5)
  for beyond in (found[1][0][num_users:], found[1][1][num_items:]):
    np.testing.assert_array_equal(beyond, 0)


def example(seed=0):
  rng = np.random.default_rng(seed)
  matrix = rng.normal(size=(13, 7)) * (rng.random((13, 7)) < 0.5)
  matrix[4] = 0
  dense = rng.normal(size=(7, 3)).astype(np.float32)
  chunks = on_device({
    "one": graphs.chunks_of(sparse(matrix), 2), "other": graphs.chunks_of(sparse(matrix.T), 2),
  })
  return matrix, chunks, jnp.asarray(dense), rng.normal(size=(13, 3)).astype(np.float32)


def test_the_gradient_is_the_transposed_product():
  matrix, chunks, dense, slope = example()
  value = lambda dense: jnp.sum(
    slope * graphs.multiply(chunks["one"], chunks["other"], dense, 13)
  )
  np.testing.assert_allclose(jax.grad(value)(dense), matrix.T @ slope, atol=1e-5)
  np.testing.assert_allclose(value(dense), np.sum(slope * (matrix @ np.asarray(dense))), rtol=1e-4)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_devices_work_on_their_own_chunks(monkeypatch):
  monkeypatch.setattr(graphs, "_BLOCK", 2)
  matrix, chunks, dense, slope = example(1)
  mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

  def value(dense):
    product = graphs.multiply(chunks["one"], chunks["other"], dense, 13)
    return jnp.sum(slope * jnp.square(product))

  def on_mesh(dense):
    def inside(dense):
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return value(dense)

    return jax.value_and_grad(inside)(dense)

  whole = NamedSharding(mesh, jax.P())
  compiled = jax.jit(on_mesh, in_shardings=whole, out_shardings=whole).lower(dense).compile()
  found, gradient = compiled(jax.device_put(dense, whole))
  product = matrix @ np.asarray(dense)
  np.testing.assert_allclose(found, np.sum(slope * product**2), rtol=1e-4)
  np.testing.assert_allclose(gradient, matrix.T @ (2 * slope * product), atol=1e-4)
  # One sum over devices for the product, one for its gradient, which needs the product first.
  assert len(re.findall(r" all-reduce(?:-start)?\(", compiled.as_text())) >= 2


@settings(deadline=None, max_examples=6)
@given(st.lists(st.sets(st.integers(0, 12)), min_size=4, max_size=4))
def test_rows_know_what_they_hold(rows):
  dense = np.array([[float(c in row) for c in range(13)] for row in rows])
  found = jax.jit(holds)(sparse_rows(sparse(dense)), np.arange(4), np.tile(np.arange(13)[None], (4, 1)))
  np.testing.assert_array_equal(found, dense > 0)
