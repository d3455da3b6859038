"""Memory: whether a state fits before it is made, and the largest arrays by name where it ran out."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.config import Config
from recjax.data.schema import Schema
from recjax.errors import RecjaxError
from recjax.train.state import TrainState

_SHOWN = 3


class OutOfMemory(RecjaxError):
  """The arrays of a run do not fit; the message names the largest."""


class Sized(NamedTuple):
  """An array by what it is, with its bytes on the fullest device and the setting it comes from."""

  what: str
  size: int
  setting: str


def check_fits(abstract: TrainState, config: Config) -> None:
  """Raises OutOfMemory where a state of these shapes and shardings is larger than what is free."""
  arrays = state_arrays(abstract, config)
  free, copies = free_bytes()
  need = copies * sum(array.size for array in arrays)
  if need > free:
    raise OutOfMemory(
      f"The state of training takes {_gib(need)} and {_gib(free)} are free: {_largest(arrays)}."
    )


@contextlib.contextmanager
def explained(
  abstract: TrainState, step: Callable, schema: Schema, config: Config
) -> Iterator[None]:
  """Raises OutOfMemory, with the largest arrays of the state and of a step, where memory runs out.

  `step(state, batch)` is traced, only then, on the shapes of a state and of a batch of the schema.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
      raise
    size = config.train.batch_size
    batch = {
      name: jax.ShapeDtypeStruct((size, *column.shape[1:]), column.dtype)
      for name, column in schema.example(1).items()
    }
    arrays = state_arrays(abstract, config) + step_arrays(step, abstract, batch, config)
    raise OutOfMemory(
      f"Memory ran out ({str(error).strip().partition(chr(10))[0][:120] or 'of the host'}); the "
      f"largest arrays: {_largest(arrays)}."
    ) from error


def state_arrays(abstract: TrainState, config: Config) -> list[Sized]:
  """Every array of a state of ShapeDtypeStructs with shardings."""
  found = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    found.append(
      Sized(f"{name} {_form(leaf)}", math.prod(shape) * leaf.dtype.itemsize, _origin(name, config))
    )
  return found


def step_arrays(step: Callable, abstract: TrainState, batch: Any, config: Config) -> list[Sized]:
  """What a step computes on the way, before it is optimized, by the line that computes it."""
  origin = f"train.batch_size={config.train.batch_size}, train.micro_batches"
  plain = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), abstract)
  found = {}
  for equation in _equations(jax.make_jaxpr(step)(plain, batch).jaxpr):
    for variable in equation.outvars:
      aval = variable.aval
      if hasattr(aval, "shape") and hasattr(aval.dtype, "itemsize"):
        size = math.prod(aval.shape) * aval.dtype.itemsize
        found.setdefault(_form(aval), Sized(f"{_line(equation)} {_form(aval)}", size, origin))
  return list(found.values())


def free_bytes() -> tuple[int, int]:
  """Bytes that are free for arrays, and how many local devices share them."""
  device = jax.local_devices()[0]
  stats = device.memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0), 1
  return _host_bytes(), len(jax.local_devices())


def _host_bytes() -> int:
  """What this host can still give: available memory and swap, within the limit of a container."""
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    facts = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    free = facts["MemAvailable"] + facts.get("SwapFree", 0)
  except (OSError, KeyError):
    return np.iinfo(np.int64).max  # a host that does not say: the allocation itself will
  for limit, used in (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
  ):
    with contextlib.suppress(OSError, ValueError):  # no such container, or "max"
      read = lambda name: int(pathlib.Path("/sys/fs/cgroup", name).read_text())
      free = min(free, read(limit) - read(used))
  return free


def _equations(jaxpr: Any) -> Iterator[Any]:
  """All equations of a jaxpr and of those within it."""
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, (tuple, list)) else (value,):
        inner = getattr(inner, "jaxpr", inner)
        if hasattr(inner, "eqns"):
          yield from _equations(inner)


def _line(equation: Any) -> str:
  """The line of recjax, or else of an experiment, that asked for an equation."""
  traceback = equation.source_info.traceback
  frames = [f for f in (traceback.frames if traceback else ()) if "site-packages" not in f.file_name]
  if not frames:
    return "an array"
  return f"{pathlib.Path(frames[0].file_name).name}:{frames[0].line_num}"


def _origin(name: str, config: Config) -> str:
  """The setting that an array of the state comes from."""
  kind, _, rest = name.partition("/")
  if kind == "variables":
    origin = "config.model"
    if rest.startswith("tables/"):
      origin += f", the vocabulary, tables.row_multiple={config.tables.row_multiple}"
  elif kind == "optimizer":
    origin = f"optimizer.name={config.optimizer.name}"
  elif kind == "rows":
    origin = f"tables.optimizer={config.tables.optimizer}"
  else:
    origin = "config.model"
  return origin + (f", seeds={config.seeds}" if config.seeds > 1 else "")


def _form(array: Any) -> str:
  return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _largest(arrays: list[Sized]) -> str:
  """The largest few, in words."""
  largest = sorted(arrays, key=lambda array: -array.size)[:_SHOWN]
  return "; ".join(f"{a.what} takes {_gib(a.size)} ({a.setting})" for a in largest)


def _gib(size: int) -> str:
  return f"{size / 2**30:,.2f} GiB"
