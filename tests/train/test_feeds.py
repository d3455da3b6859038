"""Both feeds bring the same batches to the bit, with any number of workers, from any step on."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from recjax.config import Mesh, Train
from recjax.errors import ConfigError
from recjax.train.feeds import host_batch, make_feed
from recjax.train.mesh import make_mesh, replicated
from recjax.train.state import TrainState
from recjax.train.step import Updater, over_seeds

SIZE = 16


def mesh():
  return jax.make_mesh(
    (1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=jax.devices()[:1],
  )


def keep(state, batch):
  """An update that does nothing but remember its batch."""
  return dataclasses.replace(state, step=state.step + 1, window=batch)


def batches(feed_name, rows, steps, seeds=1, workers=0):
  """The batches of `steps`, each brought by the feed on its own, as host arrays."""
  train = Train(batch_size=SIZE, steps=100, feed=feed_name, workers=workers)
  config = toys.config(train=train, seed=3, seeds=seeds)
  zeros = lambda: {n: jnp.zeros(x.shape, x.dtype) for n, x in rows.schema.example(SIZE).items()}
  start = lambda seed: TrainState(
    jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.uint32), jnp.ones((), bool), {}, (), {}, zeros()
  )
  numbers = np.arange(3, 3 + seeds, dtype=np.uint32)
  create = over_seeds(start, seeds)
  seeds_or_one = numbers if seeds > 1 else numbers[0]
  one = mesh()
  shardings = jax.tree.map(lambda _: replicated(one), jax.eval_shape(create, seeds_or_one))
  feed = make_feed(config, rows, keep, shardings, one, 100)
  found = []
  for step in steps:
    state = create(seeds_or_one)
    state = dataclasses.replace(state, step=state.step + step)
    state = jax.device_put(state, shardings)
    found.append(jax.device_get(feed.advance(state, step, step + 1, False).window))
  feed.close()
  return found


def assert_same(left, right):
  for a, b in zip(left, right, strict=True):
    assert set(a) == set(b)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


STEPS = (0, 1, 2, 6, 7, 41)  # an epoch of 100 rows ends within step 6


def test_resident_and_streaming_bring_the_rows_that_the_order_names():
  rows = toys.rows(100)
  expected = [host_batch(rows, 3, step, SIZE) for step in STEPS]
  assert_same(batches("resident", rows, STEPS), expected)
  assert_same(batches("streaming", rows, STEPS), expected)


def test_an_epoch_brings_every_row_once():
  rows = toys.rows(96)
  numbered = rows._replace(
    gather=lambda xp, columns, index: {"weight": index.astype(np.float32)},
    schema=dataclasses.replace(rows.schema, fields={"weight": rows.schema.fields["weight"]}),
  )
  seen = np.concatenate([b["weight"] for b in batches("resident", numbered, range(6))])
  assert sorted(seen.tolist()) == list(range(96))


@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_every_seed_has_an_order_of_its_own(feed):
  rows = toys.rows(100)
  found = batches(feed, rows, (0, 9), seeds=2)
  for i, seed in enumerate((3, 4)):
    own = [{n: x[i] for n, x in batch.items()} for batch in found]
    assert_same(own, [host_batch(rows, seed, step, SIZE) for step in (0, 9)])


@pytest.mark.workers
def test_workers_change_nothing_and_open_memory_maps_themselves(tmp_path):
  rows = toys.rows(100)
  columns = {}
  for name, column in rows.columns.items():
    np.save(tmp_path / f"{name}.npy", column)
    columns[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
  mapped = rows._replace(columns=columns)
  steps = (5, 6, 7)
  expected = [host_batch(rows, 3, step, SIZE) for step in steps]
  assert_same(batches("streaming", mapped, steps, workers=2), expected)


def test_what_cannot_be_fed_is_refused():
  rows = toys.rows(100)
  with pytest.raises(ConfigError, match="Unknown train.feed 'residant'. Did you mean 'resident'"):
    batches("residant", rows, (0,))
  wide = rows._replace(columns={**rows.columns, "end": np.zeros(100, np.int64)})
  with pytest.raises(ConfigError, match="cannot hold the 64-bit columns end"):
    batches("resident", wide, (0,))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_loops_within_a_step_exchange_nothing():
  """Such an exchange may start beside others of the step, in another order on each device of a CPU."""
  rows = toys.rows(50)
  train = Train(batch_size=16, steps=20, feed="resident")
  config = toys.config(mesh=Mesh(model=1), train=train)
  mesh = make_mesh(config.mesh)
  updater = Updater(toys.learner(rows.schema), config, rows.schema, mesh, 20)
  state = jax.eval_shape(updater.create, np.uint32(0))
  feed = make_feed(config, rows, updater.update, updater.shardings(state, 1), mesh, 20)
  text = feed._run.lower(state, feed._columns, np.zeros(5, np.int32)).compile().as_text()
  exchange = re.compile(r" all-(reduce|gather)(-start)?\(")
  exchanges = [line for line in text.splitlines() if exchange.search(line)]
  assert exchanges and not [line for line in exchanges if "while/body/while/" in line]
