"""Checkpoints: the latest states to go on from, and the best variables to keep.

A checkpoint is committed by one rename, so a torn one is never seen as complete. Beside the arrays
it carries the config's fingerprint and the version of the data order, so that a foreign one is
refused, and a digest of every array, because the files do not protect values: a bit that flipped on
the disk would be read as another number.
"""

import contextlib
import gc
import logging
import os
import pathlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from recjax.data.order import DATA_ORDER_VERSION
from recjax.errors import RecjaxError, writing

policies = ocp.training.preservation_policies


class CheckpointError(RecjaxError):
  """A checkpoint that cannot be used, with the reason."""


class Store:
  """Checkpoints of one kind in one folder, the newest `keep` of them."""

  def __init__(self, folder: pathlib.Path, fingerprint: str, keep: int):
    self._folder, self._fingerprint, self._saving = folder, fingerprint, None
    logging.getLogger("absl").addFilter(_is_not_retold)
    with writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
    try:
      self._checkpointer = ocp.training.Checkpointer(
        os.path.abspath(folder),
        save_decision_policy=ocp.training.save_decision_policies.ContinuousCheckpointingPolicy(),
        preservation_policy=policies.LatestN(keep),
        cleanup_tmp_directories=True,
      )
    except Exception as error:
      raise CheckpointError(
        f"A checkpoint in {folder} is damaged ({_first_line(error)}); delete the newest folder in "
        "it to go on from the one before."
      ) from error

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint."""
    found = self._checkpointer.latest
    return None if found is None else found.step

  def save(self, step: int, arrays: Any) -> None:
    """Starts writing a tree of arrays as the checkpoint of a step; a complete one stays."""
    self.wait()
    if any(c.step == step for c in self._checkpointer.checkpoints):
      return
    with writing(self._folder):
      self._saving = self._checkpointer.save_checkpointables_async(
        step,
        {"arrays": arrays},
        force=True,
        custom_metadata={
          "fingerprint": self._fingerprint,
          "data_order": DATA_ORDER_VERSION,
          "digests": digests(arrays),
        },
      )

  def load(self, step: int, abstract: Any, allow_foreign: bool = False) -> Any:
    """The arrays of a step, placed as `abstract` says; raises CheckpointError in one sentence."""
    where = self._folder / str(step)
    try:
      metadata = self._checkpointer.checkpointables_metadata(step).custom_metadata or {}
    except Exception as error:
      raise _damaged(where, _first_line(error)) from error
    if not {"data_order", "fingerprint", "digests"} <= set(metadata):
      raise _damaged(where, "it does not say what it holds")
    if metadata.get("data_order") != DATA_ORDER_VERSION:
      raise CheckpointError(
        f"The checkpoint {where} was made with data order {metadata.get('data_order')}, this recjax "
        f"has {DATA_ORDER_VERSION}: the batches after it would differ; start in a new workdir."
      )
    if metadata.get("fingerprint") != self._fingerprint and not allow_foreign:
      raise CheckpointError(
        f"The checkpoint {where} belongs to another config ({metadata.get('fingerprint')}, not "
        f"{self._fingerprint}); take a new workdir, or pass --config.allow_config_change=True."
      )
    try:
      with _quiet():
        arrays = self._checkpointer.load_checkpointables(step, {"arrays": abstract})["arrays"]
    except Exception as error:
      raise _damaged(where, f"or of another shape: {_first_line(error)}") from error
    found = digests(arrays)
    if found != metadata["digests"]:
      wrong = sorted(n for n in found if found[n] != metadata["digests"].get(n))
      raise _damaged(where, f"other values than were saved: {', '.join(wrong[:3])}")
    return arrays

  def forget_after(self, step: int) -> None:
    """Deletes checkpoints of later steps: training from `step` on makes them again."""
    for found in list(self._checkpointer.checkpoints):
      if found.step > step:
        self._checkpointer.delete(found.step)

  def wait(self) -> None:
    """Returns when everything begun is on disk; raises StorageError where it could not be."""
    saving, self._saving = self._saving, None
    with writing(self._folder):
      if saving is not None:
        saving.result()  # only this ends the thread of the save and closes its files
      self._checkpointer.wait()

  def close(self) -> None:
    """Waits, then lets go of the folder."""
    self.wait()
    with writing(self._folder):
      self._checkpointer.close()


def abstract_like(tree: Any, shardings: Any) -> Any:
  """Shapes, dtypes and places of a tree, for `Store.load`."""
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings
  )


def digests(tree: Any) -> dict[str, int]:
  """A number for every array of a tree that changes with any of its bits, whatever its sharding."""
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  on_device = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, jax.Array)}
  found = jax.device_get(_digest_arrays(on_device)) if on_device else {}
  for name, leaf in leaves.items():
    if name not in on_device:
      found[name] = zlib.crc32(np.ascontiguousarray(leaf).tobytes())
  return {name: int(value) for name, value in found.items()}


@jax.jit
def _digest_arrays(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Sums of all words modulo 2**32, each times an odd number that depends on its place.

  An odd factor is invertible, so a change within one element always shows; sums of integers do not
  depend on their order, so neither do they on devices.
  """
  return {name: _digest(array) for name, array in arrays.items()}


def _digest(array: jax.Array) -> jax.Array:
  if array.dtype == bool:
    words = array.astype(jnp.uint32)
  else:
    size = min(array.dtype.itemsize, 4)
    words = jax.lax.bitcast_convert_type(array, f"uint{8 * size}").astype(jnp.uint32)
  factor = jnp.full(words.shape, 0x9E3779B9, jnp.uint32)
  for axis in range(words.ndim):
    place = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    factor = (factor ^ place) * np.uint32(0x85EBCA6B)
    factor = factor ^ (factor >> 13)
  return jnp.sum(words * (factor | 1), dtype=jnp.uint32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps tasks that a failed read abandons from printing tracebacks of their own."""
  logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
  level = logger.level
  try:
    yield
  except Exception:
    logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda *_: None
    gc.collect()
    raise
  finally:
    logger.setLevel(level)
    sys.unraisablehook = hook


def _is_not_retold(record: logging.LogRecord) -> bool:
  """Whether a line of the log says anything new: what fails in orbax's threads `wait` raises again."""
  return not (record.levelno >= logging.ERROR and "orbax" in record.pathname)


def _damaged(where: pathlib.Path, reason: str) -> CheckpointError:
  return CheckpointError(
    f"The checkpoint {where} is damaged ({reason}); delete that folder to go on from the one "
    "before it."
  )


def _first_line(error: Exception) -> str:
  text = str(error).strip().split("\n")[0]
  return text[:200] or type(error).__name__
