"""Devices and where arrays live on them.

The mesh is a grid ('data', 'model') with Auto axes. Batches are cut along 'data'; which variables are
cut along 'model' is an ordered table of regular expressions over their paths.
"""

import math
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from recjax.config import Mesh as MeshConfig
from recjax.errors import ConfigError

P = jax.P
AXES = ("data", "model")


def make_mesh(config: MeshConfig) -> Mesh:
  """A mesh over all devices of all hosts; raises ConfigError where the grid does not fit them."""
  devices = jax.device_count()
  data = config.data or devices // max(config.model, 1)
  if config.model < 1 or data < 1 or data * config.model != devices:
    raise ConfigError(
      f"mesh.data={config.data} x mesh.model={config.model} does not cover {devices} devices."
    )
  return jax.make_mesh((data, config.model), AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Dimension `axis` cut along 'data'; the axes before it (seeds) are whole everywhere."""
  return NamedSharding(mesh, P(*(None,) * axis, "data"))


def place(batch, mesh: Mesh):
  """A host batch, identical on every host, as arrays cut along 'data'."""
  return jax.device_put(batch, batch_sharding(mesh))


def tree_shardings(tree, mesh: Mesh, rules, row_axis: int = 0):
  """Shardings of a tree of arrays or shapes, by the first rule whose pattern finds the path.

  Args:
    tree: arrays or ShapeDtypeStructs.
    mesh: the devices.
    rules: ordered (pattern, axis name or ""); the named axis cuts dimension `row_axis`.
    row_axis: 0, or 1 when every array has a leading axis of seeds.
  """
  for pattern, axis in rules:
    if axis and axis not in AXES:
      raise ConfigError(f"mesh.rules: {pattern!r} names the axis {axis!r}; known: data, model.")

  def pick(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    axis = next((a for p, a in rules if re.search(p, name)), None)
    if axis is None:
      raise ConfigError(f"No rule of mesh.rules matches the variable {name!r}; end with ('.*', '').")
    if not axis or mesh.shape[axis] == 1:
      return replicated(mesh)
    if leaf.ndim <= row_axis or leaf.shape[row_axis] % mesh.shape[axis]:
      raise ConfigError(
        f"{name} of shape {tuple(leaf.shape)} cannot be cut into {mesh.shape[axis]} along {axis}; "
        "set tables.row_multiple to a multiple of mesh.model."
      )
    return NamedSharding(mesh, P(*(None,) * row_axis, axis))

  return jax.tree_util.tree_map_with_path(pick, tree)


def bytes_of(tree) -> int:
  """Bytes of all arrays of a tree."""
  return sum(math.prod(a.shape) * np.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))
