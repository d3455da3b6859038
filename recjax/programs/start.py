"""What a process does before any computation: joins other hosts, finds the compilation cache."""

import logging
import sys

import jax
from absl import logging as absl_logging

from recjax.data.sources.base import cache_root
from recjax.errors import ConfigError


def show_log() -> None:
  """Prints the progress of runs to standard output, a time and a sentence a line; once is enough."""
  logger = logging.getLogger("recjax")
  absl_logging.set_verbosity(absl_logging.WARNING)  # what the libraries say of themselves
  if not logger.handlers:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
  logger.propagate = False
  logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.WARNING)


def runtime(
  multihost: bool = False,
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> None:
  """Sets up JAX for this process; call once, before the first computation.

  Args:
    multihost: join the other hosts, found by the cluster's own means (TPU pod, SLURM, MPI).
    coordinator: host:port of process 0, with `processes` and `process`, where there are no such means.
  """
  if coordinator:
    if processes is None or process is None:
      raise ConfigError("--coordinator needs --processes and --process.")
    jax.distributed.initialize(coordinator, processes, process)
  elif multihost:
    jax.distributed.initialize()
  show_log()
  jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
