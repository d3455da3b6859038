"""What happens at the first non-finite loss or gradient: the run stops and keeps the evidence.

The update left the state as it was before that step, and a batch is a function of (seed, step), so
the batch, the variables it met, and which gradients were not finite can all be written down.
"""

import pathlib
from typing import Any, NoReturn

import jax
import numpy as np

from recjax.config import Config
from recjax.data.views.rows import Rows
from recjax.errors import RecjaxError, writing
from recjax.train import hosts
from recjax.train.arrays import save_arrays
from recjax.train.feeds import host_batch
from recjax.train.state import TrainState
from recjax.train.step import Updater
from recjax.train.writers import write_json


class Diverged(RecjaxError):
  """Training met a loss or gradient that is not finite."""


def stop_diverged(
  updater: Updater, rows: Rows, state: TrainState, workdir: pathlib.Path, config: Config
) -> NoReturn:
  """Writes batch, variables and a summary to <workdir>/diverged/step_N, then raises Diverged."""
  healthy, reached = (np.atleast_1d(x) for x in jax.device_get((state.healthy, state.step)))
  # Of several seeds that diverged, the one that did first.
  which = int(np.argmin(np.where(healthy, np.iinfo(np.int32).max, reached)))
  step = int(reached[which])
  folder = workdir / "diverged" / f"step_{step}"
  if config.seeds > 1:
    state = jax.tree.map(lambda a: a[which], state)
  batch = host_batch(rows, config.seed + which, step, config.train.batch_size)
  loss, weight, leaves = updater.inspect(state, batch)
  variables = hosts.to_host(state.variables)
  summary: dict[str, Any] = {
    "step": step, "seed": config.seed + which, "loss_sum": float(loss), "weight": float(weight),
    "non_finite_gradients": leaves,
  }
  if jax.process_index() == 0:
    with writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
    save_arrays(folder / "variables.safetensors", variables)
    save_arrays(folder / "batch.safetensors", batch)
    write_json(folder / "summary.json", summary)
  raise Diverged(
    f"The loss or a gradient is not finite at step {step} of seed {config.seed + which} "
    f"(loss sum {float(loss)}, non-finite gradients: {', '.join(leaves) or 'none'}); batch and "
    f"variables are in {folder}."
  )
