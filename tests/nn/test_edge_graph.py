"""Translation over a graph: by hand, against loops, what must not change it, its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn import edge_graph


def made(user, item, vectors, shape, size=4096):
  """The graph of edges with given vectors, and the means of those."""
  pairs = scipy.sparse.coo_array((np.ones(len(user), np.float32), (user, item)), shape).tocsr()
  columns = {"user": user, "item": item, "number": np.arange(len(user))}
  blocks = jax.tree.map(jnp.asarray, edge_graph.edge_blocks(columns, size))
  table = jnp.asarray(vectors, jnp.float32)
  rows = dict(zip(("user", "item"), shape, strict=True))
  means = edge_graph.edge_means(blocks, lambda block, table: table[block["number"]], table, rows)
  return jax.tree.map(jnp.asarray, edge_graph.mean_graph(pairs)), means


def by_loops(user, item, vectors, users, items, layers):
  """The same, edge by edge."""
  found = [(users, items)]
  for _ in range(layers):
    sums = np.zeros_like(users), np.zeros_like(items)
    degree = np.zeros(len(users)), np.zeros(len(items))
    for u, i, r in zip(user, item, vectors, strict=True):
      sums[0][u] += items[i] - r
      sums[1][i] += users[u] + r
      degree[0][u] += 1
      degree[1][i] += 1
    users, items = (s / np.maximum(d, 1)[:, None] for s, d in zip(sums, degree, strict=True))
    found.append((users, items))
  return found


def test_one_edge_by_hand():
  graph, means = made([0], [0], [[0.5, 0.5]], (1, 1))
  layers = edge_graph.translated_layers(
    graph, jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), means, 2
  )
  np.testing.assert_allclose(layers[1][0], [[-0.5, 0.5]])
  np.testing.assert_allclose(layers[1][1], [[1.5, 0.5]])
  # Along one edge a second step leads back: (u + r) - r = u.
  np.testing.assert_allclose(layers[2][0], [[1, 0]])
  np.testing.assert_allclose(layers[2][1], [[0, 1]])


# Every example has shapes of its own, and so is compiled.
@settings(deadline=None, max_examples=3)
@given(
  st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=12),
  st.sampled_from((1, 3, 4096)), st.integers(0, 2**31),
)
def test_layers_equal_loops_over_edges(edges, size, seed):
  rng = np.random.default_rng(seed)
  user, item = (np.array([e[k] for e in edges], np.int64) for k in (0, 1))
  vectors = rng.normal(size=(len(edges), 2))
  # Tables have more rows than the graph, and nobody has the last user and the last item.
  users, items = rng.normal(size=(7, 2)), rng.normal(size=(6, 2))
  pairs = scipy.sparse.coo_array((np.ones(len(user), np.float32), (user, item)), (6, 5)).tocsr()
  table = jnp.asarray(np.append(vectors, np.zeros((1, 2)), axis=0), jnp.float32)
  blocks = edge_graph.edge_blocks({"user": user, "item": item, "number": np.arange(len(user))}, size)

  @jax.jit
  def run(blocks, graph, users, items):
    means = edge_graph.edge_means(
      blocks, lambda b, table: table[b["number"]], table, {"user": 7, "item": 6}
    )
    return edge_graph.translated_layers(graph, users, items, means, 2)

  graph = jax.tree.map(jnp.asarray, edge_graph.mean_graph(pairs))
  found = run(jax.tree.map(jnp.asarray, blocks), graph, jnp.float32(users), jnp.float32(items))
  twin = by_loops(user, item, vectors, users, items, 2)
  for (u, i), (loop_u, loop_i) in zip(found, twin, strict=True):
    np.testing.assert_allclose(u, loop_u, atol=1e-5)
    np.testing.assert_allclose(i, loop_i, atol=1e-5)


def example():
  rng = np.random.default_rng(0)
  user, item = np.array([0, 0, 1, 3, 3]), np.array([1, 0, 1, 2, 2])
  vectors = rng.normal(size=(5, 3))
  vectors[4] = vectors[3]
  return user, item, vectors, jnp.float32(rng.normal(size=(4, 3))), jnp.float32(rng.normal(size=(3, 3)))


def test_edges_given_twice_change_nothing():
  user, item, vectors, users, items = example()
  once = edge_graph.translated_layers(*_args(made(user, item, vectors, (4, 3)), users, items), 2)
  doubled = made(np.tile(user, 2), np.tile(item, 2), np.tile(vectors, (2, 1)), (4, 3), size=3)
  again = edge_graph.translated_layers(*_args(doubled, users, items), 2)
  for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def _args(graph_and_means, users, items):
  return graph_and_means[0], users, items, graph_and_means[1]


def test_without_vectors_it_is_a_mean_over_neighbours():
  user, item, vectors, users, items = example()
  graph, means = made(user, item, np.zeros_like(vectors), (4, 3))
  zero = edge_graph.translated_layers(graph, users, items, means, 2)
  plain = edge_graph.translated_layers(graph, users, items, None, 2)
  for a, b in zip(jax.tree.leaves(zero), jax.tree.leaves(plain), strict=True):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(plain[1][0][2], 0)  # nobody's neighbour
  np.testing.assert_allclose(plain[1][0][0], (items[0] + items[1]) / 2, rtol=1e-6)


def test_equal_edges_are_one_with_a_weight():
  words = np.array([[1, 2], [0, 0], [1, 2], [0, 0], [2, 1]])
  blocks = edge_graph.edge_blocks(
    {"user": np.array([1, 1, 1, 1, 1]), "item": np.array([2, 2, 2, 2, 2]), "words": words}, size=2
  )
  assert blocks["words"].shape == (2, 2, 2) and blocks["weight"].shape == (2, 2)
  found = {tuple(w): n for w, n in zip(
    blocks["words"].reshape(-1, 2).tolist(), blocks["weight"].reshape(-1), strict=True
  ) if n}
  assert found == {(1, 2): 2, (0, 0): 2, (2, 1): 1}
  empty = edge_graph.edge_blocks({"user": np.zeros(0, int), "item": np.zeros(0, int)})
  assert empty["user"].shape == (1, 1) and empty["weight"].sum() == 0


def test_the_gradient_is_that_of_the_means():
  user, item, _, users, items = example()
  columns = {"user": user, "item": item}
  blocks = jax.tree.map(jnp.asarray, edge_graph.edge_blocks(columns, 2))
  slope = np.random.default_rng(1).normal(size=(4, 3)), np.random.default_rng(2).normal(size=(3, 3))

  def value(users):
    vectors = lambda block, users: jnp.square(users[block["user"]]) * items[block["item"]]
    means = edge_graph.edge_means(blocks, vectors, users, {"user": 4, "item": 3})
    return jnp.sum(means["user"] * slope[0]) + jnp.sum(means["item"] * slope[1])

  degrees = np.bincount(user, minlength=4), np.bincount(item, minlength=3)
  expected = np.zeros((4, 3))
  for u, i in zip(user, item, strict=True):
    outer = slope[0][u] / degrees[0][u] + slope[1][i] / degrees[1][i]
    expected[u] += 2 * np.asarray(users[u]) * np.asarray(items[i]) * outer
  np.testing.assert_allclose(jax.jit(jax.grad(value))(users), expected, atol=1e-5)


def test_memory_is_that_of_one_block():
  """The gradient keeps no vectors of edges: no array of all edges times the width is made."""
  columns = {"user": np.arange(512) % 5, "item": np.arange(512) % 7, "number": np.arange(512)}
  blocks = jax.tree.map(jnp.asarray, edge_graph.edge_blocks(columns, 16))
  table, weights = jnp.ones((5, 8)), jnp.ones((8, 8))

  def value(weights):
    vectors = lambda block, weights: jnp.tanh(table[block["user"]] @ weights)
    means = edge_graph.edge_means(blocks, vectors, weights, {"user": 5, "item": 7})
    return jnp.sum(means["user"]) + jnp.sum(means["item"])

  text = jax.jit(jax.grad(value)).lower(weights).as_text()
  assert "16x8xf32" in text and "32x16x8xf32" not in text


@pytest.mark.parametrize("end", edge_graph.ENDS)
def test_means_are_zero_without_edges(end):
  _, means = made([1], [1], [[3.0]], (3, 3))
  np.testing.assert_array_equal(means[end], [[0], [3], [0]])
