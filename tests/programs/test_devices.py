"""The whole program on one device, on eight, and on several processes: one result."""

import dataclasses
import signal

import jax
import numpy as np
import pytest
import running
import toys

from recjax.config import Mesh, Train
from recjax.programs.train import train
from recjax.serve.recommender import Recommender
from recjax.train.feeds import host_batch, make_feed
from recjax.train.mesh import make_mesh
from recjax.train.state import TrainState
from recjax.train.step import Updater, over_seeds
from recjax.train.writers import read_metrics

# Sums in another order round differently; thirty Adam steps carry that to about 1e-4.
CLOSE = {"rtol": 2e-2, "atol": 2e-3}


@pytest.mark.parametrize("model", [1, 2])
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_batches_do_not_depend_on_feed_or_devices(feed, seeds, model):
  """What reaches the update on eight devices is, to the bit, what NumPy gathers on one host."""
  rows = toys.rows(50)
  config = toys.config(
    seeds=seeds, mesh=Mesh(model=model), train=Train(batch_size=16, steps=20, feed=feed)
  )
  mesh = make_mesh(config.mesh)
  updater = Updater(toys.learner(rows.schema), config, rows.schema, mesh, 20)
  keep = lambda state, batch: dataclasses.replace(state, step=state.step + 1, variables=dict(batch))
  numbers = np.arange(seeds, dtype=np.uint32) if seeds > 1 else np.uint32(0)
  create = over_seeds(
    lambda seed: dataclasses.replace(
      updater.create(seed), variables=jax.tree.map(jax.numpy.asarray, host_batch(rows, 0, 0, 16))
    ),
    seeds,
  )
  whole = jax.NamedSharding(mesh, jax.P())
  shardings = jax.tree.map(lambda _: whole, jax.eval_shape(create, numbers))
  state = jax.jit(create, out_shardings=shardings)(numbers)
  feed = make_feed(config, rows, keep, TrainState(**vars(shardings)), mesh, 20)
  for first, last in ((0, 1), (1, 7), (11, 12)):  # a jump, and past the end of an epoch
    state = dataclasses.replace(state, step=jax.device_put(np.full_like(numbers, first, np.int32)))
    state = feed.advance(jax.device_put(state, shardings), first, last, True)
    for seed in range(seeds):
      expected = host_batch(rows, seed, last - 1, 16)
      for name, column in expected.items():
        found = np.asarray(state.variables[name])
        np.testing.assert_array_equal(found[seed] if seeds > 1 else found, column)
  feed.close()


def test_eight_devices_train_as_one(unbroken, tmp_path):
  """Ten steps, within a fifth of CLOSE: later a ReLU that switches makes more of what was rounded."""
  reference = unbroken("train.steps=10")
  train(running.short_config("train.steps=10"), tmp_path)
  running.assert_close(reference, tmp_path, rtol=4e-3, atol=4e-4)
  assert running.report(tmp_path)["devices"].startswith("8 x ")


def test_tables_cut_in_two_train_as_whole(unbroken, tmp_path):
  """mesh.model=2 on eight devices, tables by rows, against one device with everything."""
  train(running.short_config(*running.ROWS, "mesh.model=2"), tmp_path)
  running.assert_close(unbroken(*running.ROWS), tmp_path, **CLOSE)


def test_tables_in_bfloat16_go_on_bit_equal_and_serve(tmp_path):
  settings = (*running.ROWS, "tables.dtype=bfloat16", "mesh.model=2")
  whole = tmp_path / "whole"
  train(running.short_config(*settings), whole)
  part = running.interrupted(whole, tmp_path / "part")
  train(running.short_config(*settings), part)
  running.assert_same(whole, part)
  assert running.exported(whole)["tables/item"].dtype == jax.numpy.bfloat16
  (best,) = Recommender.load(whole).recommend([[3, 4, 5]], k=4)
  assert len({one.item for one in best} - {3, 4, 5}) == 4
  assert np.isfinite([one.score for one in best]).all()


@pytest.mark.parametrize(
  "devices",
  [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)],
)
def test_a_run_begun_on_eight_devices_goes_on_with_fewer(devices, tmp_path):
  """The checkpoint's digests, checked on loading, say that the values are the same to the bit."""
  whole = tmp_path / "whole"
  train(running.short_config(), whole)
  part = running.interrupted(whole, tmp_path / "part")
  out, _ = running.run(part, devices=devices)
  assert "Going on from step 20." in out
  running.assert_close(whole, part, **CLOSE)


@pytest.mark.multiprocess
@pytest.mark.parametrize(
  "settings",
  [
    ("train.feed=streaming",),
    pytest.param(("train.feed=resident",), marks=pytest.mark.slow),
    pytest.param((*running.ROWS, "mesh.model=2"), marks=pytest.mark.slow),
    pytest.param(("train.feed=streaming", "seeds=2"), marks=pytest.mark.slow),
  ],
  ids=["streaming", "resident", "rows", "seeds"],
)
def test_two_processes_train_as_one(settings, tmp_path):
  running.end_processes(running.start_processes(tmp_path / "two", *settings))
  running.run(tmp_path / "one", *settings, devices=4)
  running.assert_close(tmp_path / "one", tmp_path / "two", **CLOSE)
  assert running.report(tmp_path / "two")["devices"].startswith("4 x ")


@pytest.mark.multiprocess
def test_a_signal_to_one_process_stops_all_and_both_go_on(unbroken, tmp_path):
  """Tables cut across both processes; only the second is told to stop, at some step."""
  settings = (*running.ROWS, "mesh.model=4")
  processes = running.start_processes(tmp_path, *settings)
  running.when(processes[1], lambda: bool(read_metrics(tmp_path)), signal.SIGTERM)
  (out, _), _ = running.end_processes(processes, 143)
  step = read_metrics(tmp_path)[-1]["step"]
  assert step < 30 and f"Interrupted at step {step};" in out
  (out, _), _ = running.end_processes(running.start_processes(tmp_path, *settings))
  assert f"Going on from step {step}." in out
  reference = unbroken(*running.ROWS)
  running.assert_close(reference, tmp_path, **CLOSE)


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_processes_diverge_with_one_sentence(tmp_path):
  processes = running.start_processes(tmp_path, "optimizer.learning_rate=1e30")
  results = [running.end(p, 1) for p in processes]
  assert any("recjax: The loss or a gradient is not finite at step" in err for _, err in results)
  assert list((tmp_path / "diverged").glob("step_*/summary.json"))
