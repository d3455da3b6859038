"""What the processes of one run must do together; with one process, nothing.

Every function here is called by all processes at the same point, or none returns.
"""

from typing import Any

import jax
import numpy as np


def wait_for_all(name: str) -> None:
  """Returns when every process has come here: files written before are there for all of them."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
  """Whether the flag is set on any process."""
  if jax.process_count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def to_host(tree: Any) -> Any:
  """A tree of arrays as NumPy arrays, whole on every process, wherever their shards are."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)
