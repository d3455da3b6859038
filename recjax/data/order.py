"""The order in which rows are visited: a shuffled epoch computed position by position.

`row_at` is a bijection of 0 .. count - 1 for every (seed, epoch), computed from the position alone,
so a batch is a pure function of (seed, step): nothing is stored, resuming is free, and a host or a
device computes any slice of any batch, to the same bits, without the rest. It is an alternating
Feistel network over a rectangle of at least `count` cells; the few positions that land outside walk
on until they are inside, which keeps it a bijection.
"""

from types import ModuleType
from typing import Any

import numpy as np

# Stored in checkpoints. Any change to this file that changes an order raises it.
DATA_ORDER_VERSION = 1
_ROUNDS = 8  # fewer leave neighbours correlated in small tables (chi-squared test)


def cursor(step: int, batch_size: int, count: int) -> tuple[int, int]:
  """(epoch, offset) at which the batch of `step` begins; computed with exact Python integers."""
  return divmod(step * batch_size, count)


def row_at(xp: ModuleType, seed: Any, epoch: Any, position: Any, count: int) -> Any:
  """Rows visited at positions of an epoch and the ones after it, int32 [B].

  Args:
    xp: numpy or jax.numpy.
    seed: uint32 scalar or [1].
    epoch: uint32 scalar or [1].
    position: uint32 [B]; positions of `count` and above belong to the epochs that follow.
    count: number of rows, below 2**31.
  """
  position = xp.asarray(position, dtype=np.uint32)
  epoch = xp.reshape(xp.asarray(epoch, dtype=np.uint32), (-1,)) + position // np.uint32(count)
  position = position % np.uint32(count)
  key = _mix(xp, _mix(xp, xp.reshape(xp.asarray(seed, dtype=np.uint32), (-1,))) ^ epoch)
  width = int(np.ceil(np.sqrt(count)))
  height = -(-count // width)

  def walk(cell):
    high, low = cell // np.uint32(width), cell % np.uint32(width)
    for i in range(_ROUNDS):
      round_key = _mix(xp, key + np.uint32(i))
      if i % 2 == 0:
        high = (high + _mix(xp, low ^ round_key) % np.uint32(height)) % np.uint32(height)
      else:
        low = (low + _mix(xp, high ^ round_key) % np.uint32(width)) % np.uint32(width)
    return high * np.uint32(width) + low

  inside = lambda cell: cell < np.uint32(count)
  cell = walk(position)
  if xp is np:
    while not inside(cell).all():
      cell = np.where(inside(cell), cell, walk(cell))
  else:
    import jax

    cell = jax.lax.while_loop(
      lambda c: ~inside(c).all(), lambda c: xp.where(inside(c), c, walk(c)), cell
    )
  return cell.astype(np.int32)


def _mix(xp: ModuleType, x: Any) -> Any:
  """A 32-bit finaliser (xorshift-multiply) that spreads every input bit over the word."""
  x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
  x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
  return x ^ (x >> np.uint32(16))
