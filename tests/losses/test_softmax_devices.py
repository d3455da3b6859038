"""The streamed softmax over several devices: the same sums, and no positions exchanged."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from recjax.losses.softmax import full_softmax

P = jax.P


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_devices_work_on_their_own_positions():
  mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
  rng = np.random.default_rng(0)
  queries = rng.normal(size=(512, 8)).astype(np.float32)
  table = rng.normal(size=(40, 8)).astype(np.float32)
  targets = rng.integers(1, 39, 512).astype(np.int32)
  weights = (rng.random(512) < 0.5).astype(np.float32)

  def value(queries, table, targets, weights):
    return full_softmax(queries, table, targets, weights, num_items=38)[0]

  def on_mesh(*arrays):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return value(*arrays)

  rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
  arrays = (queries, table, targets, weights)
  one = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(*arrays)
  many = jax.jit(
    jax.value_and_grad(on_mesh, argnums=(0, 1)), in_shardings=(rows, whole, rows, rows),
    out_shardings=(whole, (rows, whole)),
  )
  compiled = many.lower(*arrays).compile()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one,
    compiled(*jax.device_put(arrays, (rows, whole, rows, rows))),
  )
  text = compiled.as_text()
  assert not re.search(r"all-gather|all-to-all", text)
  assert "all-reduce" in text
