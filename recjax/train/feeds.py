"""Two ways to bring batches to the update, with the same batches to the bit.

A batch is a pure function of (seed, step): positions of an epoch, shuffled by `row_at`, gathered by the
view. The resident feed holds the columns on the devices and runs many steps in one dispatch; the
streaming feed gathers on the host, in worker processes if asked, and sends batches ahead.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from recjax.config import Config
from recjax.data.order import cursor, row_at
from recjax.data.views.rows import Rows
from recjax.errors import ConfigError
from recjax.registry import unknown
from recjax.train.mesh import batch_sharding, bytes_of, replicated
from recjax.train.state import TrainState
from recjax.train.step import constrain, over_seeds

_AHEAD = 2  # batches on their way to the device while one is computed


def host_batch(
  rows: Rows, seed: int, step: int, batch_size: int, first: int = 0, last: int | None = None
) -> dict[str, np.ndarray]:
  """Rows first .. last - 1 of the batch of a step, gathered with NumPy."""
  epoch, offset = cursor(step, batch_size, rows.count)
  position = offset + np.arange(first, batch_size if last is None else last, dtype=np.uint32)
  index = row_at(np, np.uint32(seed), np.uint32(epoch), position.astype(np.uint32), rows.count)
  return rows.gather(np, rows.columns, index)


def make_feed(
  config: Config, rows: Rows, update: Callable, shardings: TrainState, mesh: Mesh, total_steps: int
) -> "Resident | Streaming":
  """The feed that `train.feed` asks for; auto is resident where the columns fit and index in int32."""
  wide = [name for name, c in rows.columns.items() if np.dtype(c.dtype).itemsize > 4]
  size = bytes_of(rows.columns)
  kind = config.train.feed
  if kind == "auto":
    kind = "resident" if not wide and size <= config.train.resident_bytes else "streaming"
  feeds = {"resident": Resident, "streaming": Streaming}
  if kind not in feeds:
    raise ConfigError(unknown("train.feed", kind, ("auto", *feeds)))
  if kind == "resident" and wide:
    raise ConfigError(
      f"train.feed=resident cannot hold the 64-bit columns {', '.join(wide)}; take streaming."
    )
  data_axis = mesh.shape["data"]
  if config.train.batch_size % data_axis:
    raise ConfigError(
      f"train.batch_size={config.train.batch_size} cannot be cut along mesh.data={data_axis}."
    )
  return feeds[kind](config, rows, update, shardings, mesh, total_steps)


def _fresh(state: TrainState, clear: jax.Array) -> TrainState:
  """The state with its metrics window emptied where `clear`."""
  window = jax.tree.map(lambda m: jnp.where(clear, jnp.zeros_like(m), m), state.window)
  return TrainState(**{**vars(state), "window": window})


class Resident:
  """Columns on the devices; `advance` runs any number of steps in one dispatch, compiled once."""

  def __init__(
    self, config: Config, rows: Rows, update: Callable, shardings: TrainState, mesh: Mesh, total: int
  ):
    del total
    self.name, self.wait_seconds = "resident", 0.0
    self._batch_size, self._count, self._mesh = config.train.batch_size, rows.count, mesh
    columns = {name: np.asarray(c) for name, c in rows.columns.items()}
    self._columns = jax.device_put(columns, replicated(mesh))
    whole = replicated(mesh)
    batch_size, seeds = self._batch_size, config.seeds

    def one(state, columns, first, epoch, offset):
      start = offset + ((state.step - first) * batch_size).astype(jnp.uint32)
      position = start + jnp.arange(batch_size, dtype=jnp.uint32)
      # Its loop ends when all rows are found; cut along 'data', devices would exchange that in every
      # round, beside what a step sums before it looks at its batch: on CPUs they wait forever.
      index = whole_rows(row_at(jnp, state.seed, epoch, whole_rows(position), rows.count))
      return update(state, constrain(rows.gather(jnp, columns, index), mesh))

    whole_rows = lambda array: jax.lax.with_sharding_constraint(array, whole)
    step = over_seeds(one, seeds, (0, None, None, None, None))

    def run(state, columns, scalars):
      first, stop, epoch, offset, clear = scalars
      more = lambda s: (s.step.max() < stop) & s.healthy.all()
      epoch, offset = epoch.astype(jnp.uint32), offset.astype(jnp.uint32)
      body = lambda s: step(s, columns, first, epoch, offset)
      return jax.lax.while_loop(more, body, _fresh(state, clear != 0))

    self._run = jax.jit(
      run,
      donate_argnums=0,
      in_shardings=(shardings, jax.tree.map(lambda _: whole, self._columns), whole),
      out_shardings=shardings,
    )

  def advance(self, state: TrainState, first: int, stop: int, clear: bool) -> TrainState:
    """The state after the steps first .. stop - 1; `clear` empties the metrics window before."""
    epoch, offset = cursor(first, self._batch_size, self._count)
    scalars = np.asarray([first, stop, epoch, offset, clear], np.int32)
    return self._run(state, self._columns, jax.device_put(scalars, replicated(self._mesh)))

  def close(self) -> None:
    """Nothing to stop."""


class BatchSource:
  """Batches by step as a random-access source; only the rows that this process needs."""

  def __init__(self, rows: Rows, seeds: range, batch_size: int, span: tuple[int, int], total: int):
    self._rows, self._seeds, self._batch_size = rows, seeds, batch_size
    self._span, self._total = span, total

  def __len__(self) -> int:
    return self._total

  def __getitem__(self, step: int) -> dict[str, np.ndarray]:
    parts = [
      host_batch(self._rows, seed, int(step), self._batch_size, *self._span) for seed in self._seeds
    ]
    if len(parts) == 1:
      return parts[0]
    return {name: np.stack([p[name] for p in parts]) for name in parts[0]}

  def __repr__(self) -> str:
    return f"BatchSource({self._rows.count} rows, {self._seeds}, batch {self._batch_size})"

  def __getstate__(self) -> dict[str, Any]:
    # A worker opens memory-mapped columns itself instead of receiving their content.
    columns = {name: _reference(c) for name, c in self._rows.columns.items()}
    return {**vars(self), "_rows": self._rows._replace(columns=columns)}

  def __setstate__(self, state: Mapping[str, Any]) -> None:
    vars(self).update(state)
    columns = {
      name: c() if isinstance(c, partial) else c for name, c in self._rows.columns.items()
    }
    self._rows = self._rows._replace(columns=columns)


def _reference(column: np.ndarray) -> Any:
  if isinstance(column, np.memmap) and column.base is not None and column.filename:
    return partial(
      np.memmap, column.filename, column.dtype, "r", column.offset, column.shape
    )
  return column


class Streaming:
  """Batches gathered by the host, by grain workers if asked, sent ahead of the update."""

  def __init__(
    self, config: Config, rows: Rows, update: Callable, shardings: TrainState, mesh: Mesh, total: int
  ):
    self.name, self.wait_seconds = "streaming", 0.0
    self._workers = config.train.workers
    axis = 1 if config.seeds > 1 else 0
    self._sharding = batch_sharding(mesh, axis)
    size = config.train.batch_size
    lead = (config.seeds,) * axis
    spans = [
      index[axis].indices(size)[:2]
      for index in self._sharding.addressable_devices_indices_map((*lead, size)).values()
    ]
    self._span = (min(s[0] for s in spans), max(s[1] for s in spans))
    self._lead, self._size, self._axis = lead, size, axis
    seeds = range(config.seed, config.seed + config.seeds)
    self._source = BatchSource(rows, seeds, size, self._span, total)
    self._iterator, self._next, self._queue = None, -1, []
    step = over_seeds(update, config.seeds)
    whole = replicated(mesh)
    self._step = jax.jit(
      lambda state, batch, clear: step(_fresh(state, clear), batch),
      donate_argnums=0,
      in_shardings=(shardings, None, whole),
      out_shardings=shardings,
    )
    self._flags = {flag: jax.device_put(np.bool_(flag), whole) for flag in (False, True)}

  def advance(self, state: TrainState, first: int, stop: int, clear: bool) -> TrainState:
    """The state after the steps first .. stop - 1; `clear` empties the metrics window before."""
    if self._next != first:
      self._open(first)
    for _ in range(first, stop):
      state = self._step(state, self._pull(), self._flags[clear])
      clear = False
    self._next = stop
    return state

  def close(self) -> None:
    """Stops the workers."""
    if self._iterator is not None and hasattr(self._iterator, "close"):
      self._iterator.close()
    self._iterator, self._queue = None, []

  def _open(self, step: int) -> None:
    import grain  # imports slowly, and only this feed needs it

    self.close()
    dataset = grain.MapDataset.source(self._source)[step:].to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
    )
    if self._workers:
      dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
    self._iterator = iter(dataset)

  def _pull(self) -> dict[str, jax.Array]:
    started = time.perf_counter()
    while len(self._queue) < _AHEAD:
      batch = next(self._iterator, None)
      if batch is None:
        break
      self._queue.append({name: self._send(x) for name, x in batch.items()})
    self.wait_seconds += time.perf_counter() - started
    return self._queue.pop(0)

  def _send(self, local: np.ndarray) -> jax.Array:
    first = self._span[0]
    shape = (*self._lead, self._size, *local.shape[self._axis + 1 :])

    def piece(index):
      rows = index[self._axis].indices(self._size)
      own = (slice(None),) * self._axis + (slice(rows[0] - first, rows[1] - first),)
      return local[own]

    # Explicit transfers, device by device: the train loop forbids any other.
    places = self._sharding.addressable_devices_indices_map(shape)
    pieces = [jax.device_put(piece(index), device) for device, index in places.items()]
    return jax.make_array_from_single_device_arrays(shape, self._sharding, pieces)
