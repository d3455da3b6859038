"""One update: row-sparse against NumPy, micro-batches, seeds, devices, feeds, non-finite losses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from recjax.config import Mesh, Tables, Train
from recjax.errors import ConfigError
from recjax.train import tables as row_tables
from recjax.train.feeds import BatchSource, host_batch, make_feed
from recjax.train.mesh import make_mesh
from recjax.train.state import step_key
from recjax.train.step import Updater, over_seeds

ROWS = Tables(training="rows", optimizer="adagrad", learning_rate=0.1, initial_accumulator=0.1)
HALVES = dataclasses.replace(ROWS, dtype="bfloat16")
KINDS = pytest.mark.parametrize("tables", [Tables(), ROWS, HALVES], ids=["dense", "rows", "bfloat16"])


def one_device_mesh():
  return jax.make_mesh(
    (1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=jax.devices()[:1],
  )


def run(config, steps=12, rows=None, mesh=None, learner=None, start=None, compiles=None):
  """State after `steps`, as host arrays."""
  rows = rows or toys.rows()
  mesh = mesh or one_device_mesh()
  learner = learner or toys.learner(rows.schema)
  updater = Updater(learner, config, rows.schema, mesh, steps)
  seeds = np.arange(config.seed, config.seed + config.seeds, dtype=np.uint32)
  seeds = seeds[0] if config.seeds == 1 else seeds
  create = over_seeds(updater.create, config.seeds)
  shardings = updater.shardings(jax.eval_shape(create, seeds), config.seeds)
  state = jax.jit(create, out_shardings=shardings)(seeds)
  feed = make_feed(config, rows, updater.update, shardings, mesh, steps)
  middle = steps // 3
  state = feed.advance(state, 0, middle, True)
  state = feed.advance(state, middle, steps, False)
  feed.close()
  return jax.device_get(state)


def assert_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("optimizer", ["adagrad", "lazy_adam"])
def test_rows_equal_a_numpy_twin(optimizer):
  """The sparse step equals an update of the whole table by hand, row by row, from a dense gradient."""
  rows = toys.rows(30)
  learner = toys.learner(rows.schema)
  settings = dataclasses.replace(ROWS, optimizer=optimizer)
  config = toys.config(tables=settings)
  updater = Updater(learner, config, rows.schema, one_device_mesh(), 5)
  state = updater.create(np.uint32(3))
  twin = {n: np.array(t, np.float64) for n, t in state.variables["tables"].items()}
  if optimizer == "adagrad":
    memory = {n: [np.full(len(t), 0.1)] for n, t in twin.items()}
  else:
    memory = {n: [np.zeros_like(t), np.zeros_like(t)] for n, t in twin.items()}
  for step in range(4):
    batch = host_batch(rows, 3, step, 16)
    draw_key, loss_key = jax.random.split(step_key(state.seed, state.step))
    full = learner.draw(state.variables, batch, draw_key)

    def mean_loss(tables, full=full, state=state, loss_key=loss_key):
      out = learner.loss({**state.variables, "tables": tables}, full, loss_key)
      return out.loss / out.weight

    gradient = jax.device_get(jax.grad(mean_loss)(state.variables["tables"]))
    touched = {0}
    for name in ("hist_item", "target_item", "negative_item"):
      touched |= set(np.asarray(full[name]).ravel().tolist())
    for name, table in twin.items():
      g = np.array(gradient[name], np.float64)
      for row in touched - {0}:
        if optimizer == "adagrad":
          memory[name][0][row] += (g[row] ** 2).mean()
          table[row] -= 0.1 * g[row] / (np.sqrt(memory[name][0][row]) + settings.eps)
        else:
          m, v = memory[name]
          m[row] = 0.9 * m[row] + 0.1 * g[row]
          v[row] = 0.999 * v[row] + 0.001 * g[row] ** 2
          corrected = m[row] / (1 - 0.9 ** (step + 1))
          deviation = np.sqrt(v[row] / (1 - 0.999 ** (step + 1)))
          table[row] -= 0.1 * corrected / (deviation + settings.eps)
    before = jax.device_get(state.variables["tables"])
    state = jax.jit(updater.update)(state, batch)
    after = jax.device_get(state.variables["tables"])
    for name in twin:
      np.testing.assert_allclose(after[name], twin[name], rtol=2e-4, atol=2e-6)
      untouched = sorted(set(range(len(twin[name]))) - touched)
      np.testing.assert_array_equal(after[name][untouched], before[name][untouched])
      np.testing.assert_array_equal(after[name][0], 0.0)


def test_rows_with_every_row_touched_equal_dense_adam():
  """Lazy Adam over a batch that holds every id is Adam: two paths, one answer."""
  rows = toys.rows(100, items=8)
  lazy = dataclasses.replace(ROWS, optimizer="lazy_adam", learning_rate=0.05)
  sparse = run(toys.config(tables=lazy), rows=rows, steps=6)
  dense = run(toys.config(), rows=rows, steps=6)
  assert_close(sparse.variables, dense.variables, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tables", [Tables(), ROWS], ids=["dense", "rows"])
def test_micro_batches_equal_the_batch(tables):
  whole = run(toys.config(tables=tables))
  train = Train(batch_size=16, steps=20, micro_batches=4)
  parts = run(toys.config(tables=tables, train=train))
  assert_close(whole.variables, parts.variables, rtol=1e-4, atol=1e-6)
  assert_close(whole.window, parts.window, rtol=1e-4)


@KINDS
def test_streaming_equals_resident(tables):
  """The same numbers from both feeds, to rounding: they are two programs."""
  resident = run(toys.config(tables=tables, train=Train(batch_size=16, steps=20, feed="resident")))
  streaming = run(toys.config(tables=tables, train=Train(batch_size=16, steps=20, feed="streaming")))
  assert_close(resident.variables, streaming.variables, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tables", [Tables(), ROWS], ids=["dense", "rows"])
@pytest.mark.parametrize("model", [1, 2, 8])
def test_one_device_equals_eight(tables, model):
  one = run(toys.config(tables=tables))
  config = toys.config(tables=tables, mesh=Mesh(model=model))
  eight = run(config, mesh=make_mesh(config.mesh))
  assert_close(one.variables, eight.variables, rtol=1e-3, atol=1e-5)
  assert_close(one.window, eight.window, rtol=1e-4)


@pytest.mark.parametrize("tables", [Tables(), ROWS], ids=["dense", "rows"])
@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_seeds_in_one_program_equal_single_runs(tables, feed):
  train = Train(batch_size=16, steps=20, feed=feed)
  several = run(toys.config(tables=tables, seeds=3, train=train))
  for i in range(3):
    single = run(toys.config(tables=tables, seed=i, train=train))
    own = jax.tree.map(lambda a, i=i: a[i], several.variables)
    assert_close(own, single.variables, rtol=1e-3, atol=1e-5)
  first, second = (jax.tree.map(lambda a, i=i: a[i], several.variables) for i in (0, 1))
  assert np.abs(first["tables"]["item"] - second["tables"]["item"]).max() > 0.1


def test_the_update_compiles_once(compiles):
  rows = toys.rows()
  config = toys.config(tables=ROWS)
  mesh = one_device_mesh()
  updater = Updater(toys.learner(rows.schema), config, rows.schema, mesh, 20)
  abstract = jax.eval_shape(updater.create, np.uint32(0))
  shardings = updater.shardings(abstract, 1)
  state = jax.jit(updater.create, out_shardings=shardings)(np.uint32(0))
  feed = make_feed(config, rows, updater.update, shardings, mesh, 20)
  with compiles() as count:
    state = feed.advance(state, 0, 3, True)
    first = count()
    for start, stop, clear in ((3, 4, False), (4, 11, True), (11, 20, False)):
      state = feed.advance(state, start, stop, clear)
    assert count() == first
  assert int(state.step) == 20


@KINDS
@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_a_non_finite_loss_changes_nothing_and_stops(tables, feed):
  rows = toys.rows()
  config = toys.config(tables=tables, train=Train(batch_size=4, steps=40, feed=feed))
  bad = int(rows.columns["target_item"][np.flatnonzero(rows.columns["weight"])[0]])
  holds = [bad in host_batch(rows, 0, s, 4)["target_item"] for s in range(40)]
  step = holds.index(True)
  broken = run(config, steps=40, rows=rows, learner=toys.learner(rows.schema, poison=bad))
  assert not broken.healthy and int(broken.step) == step
  config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=max(step, 1)))
  if step:
    sound = run(config, steps=step, rows=rows)
    assert_close(broken.variables, sound.variables, rtol=1e-6, atol=1e-7)


def test_window_is_cleared_on_request_and_sums_otherwise():
  rows = toys.rows()
  config = toys.config()
  updater = Updater(toys.learner(rows.schema), config, rows.schema, one_device_mesh(), 20)
  state = updater.create(np.uint32(0))
  shardings = updater.shardings(jax.eval_shape(updater.create, np.uint32(0)), 1)
  feed = make_feed(config, rows, updater.update, shardings, one_device_mesh(), 20)
  state = feed.advance(state, 0, 4, True)
  assert float(state.window["gradient_norm"][1]) == 4.0
  state = feed.advance(state, 4, 6, False)
  assert float(state.window["gradient_norm"][1]) == 6.0
  state = feed.advance(state, 6, 7, True)
  assert float(state.window["gradient_norm"][1]) == 1.0


def test_a_loss_that_reads_whole_tables_is_not_trained_by_rows():
  rows = toys.rows()
  learner = toys.learner(rows.schema)._replace(whole_tables=("item",))
  with pytest.raises(ConfigError, match="reads all of the table 'item'"):
    Updater(learner, toys.config(tables=ROWS), rows.schema, one_device_mesh(), 5)


def test_rounding_by_chance_is_right_in_the_mean_and_leaves_what_is_exact():
  exact = jnp.asarray([[0.0, -0.0, 1.0, -1.5, 2.0**-126, 3e38]]).astype(jnp.bfloat16)
  kept = row_tables.rounded(exact.astype(jnp.float32), jnp.bfloat16, jax.random.key(0))
  np.testing.assert_array_equal(kept.astype(jnp.float32), exact.astype(jnp.float32))
  # Between 1 and 1 + 2**-7, the next one: up in a quarter of the draws; the sign changes nothing.
  value = 1 + 2.0**-9
  rows = jnp.asarray([[value], [-value]]) * jnp.ones((1, 40_000))
  drawn = np.asarray(row_tables.rounded(rows, jnp.bfloat16, jax.random.key(1)), np.float64)
  for row, sign in zip(drawn, (1, -1), strict=True):
    assert set(row * sign) == {1.0, 1 + 2.0**-7}
    assert abs((row * sign > 1).mean() - 0.25) < 0.01


def test_steps_below_the_spacing_of_bfloat16_add_up():
  """400 steps of 1/16 of the spacing: to the nearest nothing would ever move."""
  step = jax.jit(
    lambda table, key: row_tables.rounded(table.astype(jnp.float32) + 2.0**-11, jnp.bfloat16, key)
  )
  table = jnp.ones((64, 64), jnp.bfloat16)
  for i in range(400):
    table = step(table, jax.random.key(i))
  assert abs(float(table.astype(jnp.float32).mean()) - (1 + 400 * 2.0**-11)) < 1e-3


def test_a_step_in_bfloat16_is_that_in_float32_rounded():
  """From the same table every value is one of the two that bfloat16 has beside the float32 one."""
  rows = toys.rows(30)
  learner, batch = toys.learner(rows.schema), host_batch(rows, 3, 0, 16)
  made = {}
  for dtype in ("float32", "bfloat16"):
    tables = dataclasses.replace(ROWS, dtype=dtype)
    updater = Updater(learner, toys.config(tables=tables), rows.schema, one_device_mesh(), 5)
    state = jax.jit(updater.create)(np.uint32(3))
    if dtype == "float32":
      halves = lambda table: table.astype(jnp.bfloat16).astype(jnp.float32)
      halved = jax.tree.map(halves, state.variables["tables"])
      state = dataclasses.replace(state, variables={**state.variables, "tables": halved})
    made[dtype] = jax.device_get(jax.jit(updater.update)(state, batch).variables["tables"])
  for name, exact in made["float32"].items():
    half = made["bfloat16"][name]
    assert half.dtype == jnp.bfloat16
    below = (exact.view(np.uint32) & 0xFFFF0000).view(np.float32)
    above = (below.view(np.uint32) + 0x10000).view(np.float32)
    half = half.astype(np.float32)
    rounded_up = half == above
    assert ((half == below) | rounded_up | np.isclose(half, exact, rtol=1e-6)).all()
    moved = exact != below
    assert 0.2 < rounded_up[moved].mean() < 0.8
    np.testing.assert_array_equal(half[0], 0.0)


@pytest.mark.parametrize(
  "changes, sentence",
  [({"dtype": "bfloat61"}, "Did you mean 'bfloat16'"),
   ({"dtype": "bfloat16", "training": "dense"}, "needs tables.training=rows")],
)
def test_a_dtype_that_cannot_be_is_refused(changes, sentence):
  config = toys.config(tables=dataclasses.replace(ROWS, **changes))
  with pytest.raises(ConfigError, match=sentence):
    Updater(toys.learner(toys.rows().schema), config, toys.rows().schema, one_device_mesh(), 5)


def test_compact_keeps_padding_and_order_of_equality():
  schema = toys.rows().schema
  learner = toys.learner(schema)
  batch = {
    "hist_item": jnp.array([[0, 7, 7, 3, 0]], jnp.int32),
    "target_item": jnp.array([39], jnp.int32),
  }
  small, distinct = row_tables.compact(batch, learner.schema, learner.tables, {"item": 40})
  ids = np.asarray(distinct.ids["item"])
  assert ids.tolist() == [0, 40, 40, 3, 7, 40, 39]
  np.testing.assert_array_equal(small["hist_item"], [[0, 4, 4, 3, 0]])
  np.testing.assert_array_equal(small["target_item"], [6])


def test_batch_source_of_part_of_a_batch_is_that_part():
  rows = toys.rows(50)
  whole = BatchSource(rows, range(2, 3), 16, (0, 16), 9)[7]
  part = BatchSource(rows, range(2, 3), 16, (4, 12), 9)[7]
  for name in whole:
    np.testing.assert_array_equal(whole[name][4:12], part[name])
