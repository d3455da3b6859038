"""Sums over work that the devices of a mesh share.

What a loop reads is on the device before the loop starts, and sums are exchanged after it. Left to
XLA's partitioner, a loop that reads what a batch reaches may get an exchange in every round; on CPUs
(seen with jax 0.10) such rounds start beside exchanges outside of the loop, in another order on each
device, and all of them wait forever.
"""

from collections.abc import Callable
from typing import Any

import jax


def data_devices() -> int:
  """Devices along 'data' of the mesh that functions are traced under; 1 without one."""
  return jax.sharding.get_abstract_mesh().shape.get("data", 1)


def sum_over_devices(local: Callable[[Any, Any], Any], cut: Any, whole: Any) -> Any:
  """Sums of local(cut, whole) over the devices along 'data'; without several, local(cut, whole).

  Args:
    local: to arrays of which each device gives its own part of the sums.
    cut: arrays whose first axis is a multiple of `data_devices()`; each device has its rows.
    whole: arrays that each device has all of.
  """
  if data_devices() == 1:
    return local(cut, whole)

  def on_each(cut, whole):
    return jax.lax.psum(local(cut, whole), "data")

  specs = jax.P("data"), jax.P()
  return jax.shard_map(on_each, in_specs=specs, out_specs=jax.P(), check_vma=False)(cut, whole)
