"""Sums shared by devices: equal to those of one, and no exchange within a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives
from jax.sharding import AxisType, NamedSharding

from recjax.losses.node_contrast import node_contrast
from recjax.nn import edge_graph
from recjax.nn.over_devices import data_devices, sum_over_devices

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(53, 4)).astype(np.float32)
BATCH = RNG.integers(0, 53, 16)


def contrast(table):
  """The contrast in several rounds of each device; the last node does not count."""
  return node_contrast(table, jnp.roll(table, 1, axis=0), np.arange(53) < 52, 0.5, block=2)


def means_of_edges(table):
  """Means over edges in 21 blocks, which 8 devices do not share evenly."""
  columns = {"user": np.arange(123) % 11, "item": np.arange(123) % 12, "row": np.arange(123) % 53}
  blocks = jax.tree.map(jnp.asarray, edge_graph.edge_blocks(columns, 6))
  vectors = lambda block, table: jnp.tanh(table[block["row"]])
  means = edge_graph.edge_means(blocks, vectors, table, {"user": 11, "item": 12})
  return jnp.sum(jnp.square(means["user"])) + jnp.sum(means["item"][:3])


@pytest.mark.parametrize("function", [contrast, means_of_edges])
def test_gradients_are_those_of_one_device_and_loops_exchange_nothing(function):
  """With a loss of a batch cut along 'data' beside it, whose gradient makes exchanges of its own."""
  mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
  value = lambda table, batch: function(table) + jnp.sum(jnp.cos(3.0 * table[batch]))

  def inside(table, batch):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return value(table, batch)

  whole, rows = NamedSharding(mesh, jax.P()), NamedSharding(mesh, jax.P("data"))
  many = jax.jit(
    jax.value_and_grad(inside), in_shardings=(whole, rows), out_shardings=whole
  )
  compiled = many.lower(TABLE, BATCH).compile()
  found = collectives(compiled.as_text())
  assert found and all(one.times == 1 and one.counted for one in found)
  assert " while(" in compiled.as_text()
  one = jax.jit(jax.value_and_grad(value))(TABLE, BATCH)
  many = compiled(jax.device_put(TABLE, whole), jax.device_put(BATCH, rows))
  np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
  np.testing.assert_allclose(many[1], one[1], rtol=1e-4, atol=1e-5)
  assert np.abs(one[1]).max() > 0.1


def test_without_a_mesh_there_is_one_device():
  assert data_devices() == 1
  assert sum_over_devices(lambda cut, whole: jnp.sum(cut) * whole, jnp.arange(3), 2) == 6
