"""Small event logs made by hand, and the rows that views make of them."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.log import EventLog


def log(histories, times=None, num_items=None, category=None) -> EventLog:
  """An event log of users 1, 2, ... with these item lists, in this order."""
  item = np.asarray([i for h in histories for i in h], np.int32)
  ends = np.cumsum([0] + [len(h) for h in histories])
  num_items = num_items or int(item.max())
  vocabularies = {"user": len(histories) + 1, "item": num_items + 1}
  items = {"label": np.asarray([""] + [f"item {i}" for i in range(1, num_items + 1)])}
  if category is not None:
    items["category"] = np.asarray(category, np.int32)
    vocabularies["category"] = int(max(category)) + 1
  time = None if times is None else np.asarray([t for h in times for t in h], np.int32)
  return EventLog(
    "made by hand", np.concatenate([[0], ends]).astype(np.int64), item, time, 0, True, {}, items,
    {}, vocabularies, {},
  )


def gathered(rows):
  """All rows as one batch, as the schema says and the same by NumPy and on the device."""
  index = np.arange(rows.count, dtype=np.int32)
  batch = rows.gather(np, rows.columns, index)
  columns = {n: jnp.asarray(c) for n, c in rows.columns.items()}
  device = jax.jit(lambda c, i: rows.gather(jnp, c, i))(columns, index)
  assert set(batch) == set(rows.schema.fields)
  for name, value in batch.items():
    assert value.dtype == rows.schema.fields[name].dtype, name
    assert value.shape[1:] == rows.schema.fields[name].shape, name
    np.testing.assert_array_equal(value, device[name])
  return batch
