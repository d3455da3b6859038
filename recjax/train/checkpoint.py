"""Checkpoints: the latest states to go on from, and the best variables to keep.

A checkpoint is committed by one rename, so a torn one is never seen as complete. Beside the arrays it
carries the config's fingerprint and the version of the data order; a foreign one is refused.
"""

import os
import pathlib
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from recjax.data.order import DATA_ORDER_VERSION
from recjax.errors import RecjaxError

policies = ocp.training.preservation_policies


class CheckpointError(RecjaxError):
  """A checkpoint that cannot be used, with the reason."""


class Store:
  """Checkpoints of one kind in one folder, the newest `keep` of them."""

  def __init__(self, folder: pathlib.Path, fingerprint: str, keep: int):
    self._folder, self._fingerprint = folder, fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    self._checkpointer = ocp.training.Checkpointer(
      os.path.abspath(folder),
      save_decision_policy=ocp.training.save_decision_policies.ContinuousCheckpointingPolicy(),
      preservation_policy=policies.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint."""
    found = self._checkpointer.latest
    return None if found is None else found.step

  def save(self, step: int, arrays: Any) -> None:
    """Starts writing a tree of arrays as the checkpoint of a step; a complete one stays."""
    self._checkpointer.wait()
    if any(c.step == step for c in self._checkpointer.checkpoints):
      return
    self._checkpointer.save_checkpointables_async(
      step,
      {"arrays": arrays},
      force=True,
      custom_metadata={"fingerprint": self._fingerprint, "data_order": DATA_ORDER_VERSION},
    )

  def load(self, step: int, abstract: Any, allow_foreign: bool = False) -> Any:
    """The arrays of a step, placed as `abstract` says; raises CheckpointError in one sentence."""
    where = self._folder / str(step)
    try:
      metadata = self._checkpointer.checkpointables_metadata(step).custom_metadata or {}
    except Exception as error:
      raise CheckpointError(
        f"The checkpoint {where} cannot be read ({_first_line(error)}); delete that folder to go on "
        "from the one before it."
      ) from error
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
      return self._checkpointer.load_checkpointables(step, {"arrays": abstract})["arrays"]
    except Exception as error:
      raise CheckpointError(
        f"The checkpoint {where} is damaged or of another shape ({_first_line(error)}); delete that "
        "folder to go on from the one before it."
      ) from error

  def forget_after(self, step: int) -> None:
    """Deletes checkpoints of later steps: training from `step` on makes them again."""
    for found in list(self._checkpointer.checkpoints):
      if found.step > step:
        self._checkpointer.delete(found.step)

  def wait(self) -> None:
    """Returns when everything begun is on disk."""
    self._checkpointer.wait()

  def close(self) -> None:
    """Waits, then lets go of the folder."""
    self._checkpointer.wait()
    self._checkpointer.close()


def abstract_like(tree: Any, shardings: Any) -> Any:
  """Shapes, dtypes and places of a tree, for `Store.load`."""
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings
  )


def _first_line(error: Exception) -> str:
  text = str(error).strip().split("\n")[0]
  return text[:200] or type(error).__name__
