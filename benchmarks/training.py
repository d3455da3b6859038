"""Windows of training steps by the house's own update and feed, each timed in this process."""

import pathlib
import resource
import time
from typing import NamedTuple

import jax
import numpy as np

from recjax.config import Config
from recjax.data.views.rows import Rows
from recjax.models.learner import Learner
from recjax.train.feeds import make_feed
from recjax.train.mesh import make_mesh
from recjax.train.step import Updater, over_seeds


class Windows(NamedTuple):
  """What a run of windows took.

  Attributes:
    seconds: of each window after the first, which is not timed.
    losses: mean loss of a row in every window, the first among them; of all seeds.
    create_seconds: for the state.
    resident_before: bytes of this process before there was a state.
  """

  seconds: list[float]
  losses: list[float]
  create_seconds: float
  resident_before: int


def run_windows(learner: Learner, config: Config, rows: Rows, steps: int, repeats: int) -> Windows:
  """Trains for 1 + `repeats` windows of `steps` steps on all devices, `config.seeds` seeds at once."""
  mesh = make_mesh(config.mesh)
  total = (1 + repeats) * steps
  updater = Updater(learner, config, rows.schema, mesh, total)
  seeds = np.arange(config.seeds, dtype=np.uint32) if config.seeds > 1 else np.uint32(0)
  created = over_seeds(updater.create, config.seeds)
  shardings = updater.shardings(jax.eval_shape(created, seeds), config.seeds)
  create = jax.jit(created, out_shardings=shardings).lower(seeds).compile()
  feed = make_feed(config, rows, updater.update, shardings, mesh, total)
  before = resident_now()
  started = time.perf_counter()
  state = jax.block_until_ready(create(seeds))
  create_seconds = time.perf_counter() - started
  seconds, losses = [], []
  for first in range(0, total, steps):
    started = time.perf_counter()
    state = jax.block_until_ready(feed.advance(state, first, first + steps, True))
    seconds.append(time.perf_counter() - started)
    summed, weight = jax.device_get(state.window["loss"])
    losses.append(float(np.sum(summed) / np.sum(weight)))
  return Windows(seconds[1:], losses, create_seconds, before)


def resident_now() -> int:
  """Resident bytes of this process at this moment."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def peak() -> int:
  """Most resident bytes of this process so far."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
