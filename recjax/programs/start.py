"""What a process does before any computation: joins other hosts, finds the compilation cache."""

import logging
import os
import re
import sys

import jax
from absl import logging as absl_logging

from recjax.data.sources.base import cache_root
from recjax.errors import ConfigError

# A process that has not been heard of for this long counts as lost, and ends the others.
LOST_AFTER = 60
# What the libraries say where another process has gone: gloo, NCCL, the coordination service.
_LOST = re.compile(
  r"gloo|nccl|coordination|connection (closed|reset|refused)|heartbeat|barrier|UNAVAILABLE", re.I
)


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
    jax.distributed.initialize(
      coordinator, processes, process,
      heartbeat_timeout_seconds=LOST_AFTER, shutdown_timeout_seconds=LOST_AFTER,
    )
  elif multihost:
    jax.distributed.initialize(
      heartbeat_timeout_seconds=LOST_AFTER, shutdown_timeout_seconds=LOST_AFTER
    )
  show_log()
  jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def end_if_alone(error: Exception) -> None:
  """Ends this process, with one sentence, where the error says that another one of its run has gone.

  At once: an orderly end would wait for the other.
  """
  if jax.process_count() == 1 or not _LOST.search(str(error)):
    return
  reason = str(error).strip().partition("\n")[0][:200]
  print(
    f"recjax: Another process of this run has ended or is out of reach ({reason}); see what it said "
    "last, then start the same command on all hosts: it goes on from the last checkpoint.",
    file=sys.stderr, flush=True,
  )
  sys.stdout.flush()
  os._exit(1)
