"""Checkpoints: exact after any change of devices, and refused, never misread, when damaged."""

import os
import shutil
import threading

import jax
import jax.numpy as jnp
import leftovers
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from recjax.train.checkpoint import CheckpointError, Store, abstract_like, digests

P = jax.P
pytestmark = leftovers.COLLECTED


def mesh(data, model):
  devices = jax.devices()[: data * model]
  return jax.make_mesh((data, model), ("data", "model"), (AxisType.Auto,) * 2, devices=devices)


def placed(grid):
  """(arrays, shardings) of a small state on a mesh."""
  rng = np.random.default_rng(0)
  values = {
    "table": rng.normal(size=(64, 16)).astype(np.float32),
    "half": jnp.asarray(rng.normal(size=(8, 3)), jnp.bfloat16),
    "step": np.int32(7),
    "healthy": np.bool_(True),
  }
  places = {name: NamedSharding(grid, P()) for name in values}
  places["table"] = NamedSharding(grid, P("model"))
  return jax.device_put(values, places), places


def stored(folder, keep=2):
  """Checkpoints of steps 1 and 2 in a folder, and what they hold."""
  arrays, places = placed(mesh(1, 1))
  host = {"seconds": np.arange(3.0)}
  store = Store(folder, "mine", keep)
  for step in (1, 2):
    store.save(step, {"state": arrays, "host": host})
  store.close()
  return {"state": arrays, "host": host}, {"state": abstract_like(arrays, places), "host": host}


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 2), (8, 1), (4, 2)])
def test_what_eight_devices_saved_is_the_same_on_any_number(grid, tmp_path):
  arrays, _ = placed(mesh(4, 2))
  store = Store(tmp_path, "mine", 1)
  store.save(5, arrays)
  store.close()
  _, places = placed(mesh(*grid))
  store = Store(tmp_path, "mine", 1)
  loaded = store.load(5, abstract_like(arrays, places))
  store.close()
  for name, array in arrays.items():
    assert loaded[name].sharding.is_equivalent_to(places[name], array.ndim)
    assert np.asarray(loaded[name]).tobytes() == np.asarray(array).tobytes()


def test_a_digest_sees_every_bit_and_no_sharding():
  arrays, _ = placed(mesh(1, 1))
  expected = digests(arrays)
  assert digests(placed(mesh(2, 4))[0]) == expected
  rng = np.random.default_rng(1)
  for name in ("table", "half"):
    for _ in range(20):
      damaged = np.array(arrays[name])
      flat = damaged.view(np.uint8).reshape(-1)
      flat[rng.integers(len(flat))] ^= np.uint8(1 << rng.integers(8))
      assert digests({name: jnp.asarray(damaged)})[name] != expected[name]
    swapped = np.array(arrays[name])[[1, 0, *range(2, len(arrays[name]))]]
    assert digests({name: jnp.asarray(swapped)})[name] != expected[name]
  assert digests({"step": jnp.int32(8)}) != {"step": expected["step"]}
  assert digests({"healthy": jnp.bool_(False)}) != {"healthy": expected["healthy"]}


def harm(path, kind, rng):
  """Damages a file."""
  size = path.stat().st_size
  if kind == "delete":
    path.unlink()
  elif kind == "empty":
    os.truncate(path, 0)
  elif kind == "truncate":
    os.truncate(path, size // 2)
  else:
    content = bytearray(path.read_bytes())
    content[rng.integers(size)] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["delete", "empty", "truncate", "flip"])
def test_damage_is_refused_and_never_misread(kind, tmp_path):
  """Every file of the newest checkpoint in turn: its exact values, those of before, or a refusal."""
  good, folder = tmp_path / "good", tmp_path / "checkpoints"
  arrays, abstract = stored(good)
  rng = np.random.default_rng(3)
  refused = []
  for path in sorted(p.relative_to(good) for p in (good / "2").rglob("*") if p.is_file()):
    for _ in range(4 if kind == "flip" else 1):
      shutil.rmtree(folder, ignore_errors=True)
      shutil.copytree(good, folder)
      harm(folder / path, kind, rng)
      try:
        store = Store(folder, "mine", 2)
        loaded = store.load(store.latest, abstract)
      except CheckpointError as error:
        assert str(folder) in str(error) and "delete" in str(error) and "\n" not in str(error)
        refused.append(path)
        continue
      for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(arrays), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=str(path))
  # The largest file holds the values, another says what they are: both are missed.
  files = [p for p in (good / "2").rglob("*") if p.is_file()]
  largest = max(files, key=lambda p: p.stat().st_size)
  assert largest.relative_to(good) in refused
  assert len(set(refused)) >= 4
  # As the sentence says: without the damaged folder the one before is used.
  shutil.rmtree(folder / "2", ignore_errors=True)
  store = Store(folder, "mine", 2)
  assert store.latest == 1
  loaded = store.load(1, abstract)
  np.testing.assert_array_equal(loaded["state"]["table"], arrays["state"]["table"])


def test_an_unfinished_save_is_not_seen(tmp_path):
  _, abstract = stored(tmp_path)
  partial = (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")
  store = Store(tmp_path, "mine", 2)
  assert store.latest == 1
  assert int(store.load(1, abstract)["state"]["step"]) == 7
  store.close()
  assert not partial.exists()


def test_foreign_checkpoints_are_refused_and_may_be_allowed(tmp_path):
  _, abstract = stored(tmp_path)
  store = Store(tmp_path, "yours", 2)
  with pytest.raises(CheckpointError, match=r"belongs to another config \(mine, not yours\)"):
    store.load(2, abstract)
  assert int(store.load(2, abstract, allow_foreign=True)["state"]["step"]) == 7
  wider = jax.tree.map(lambda a: a, abstract)
  wider["state"]["table"] = jax.ShapeDtypeStruct((64, 32), np.float32)
  with pytest.raises(CheckpointError, match=r"2 is damaged \(or of another shape: "):
    store.load(2, wider, allow_foreign=True)


def test_saving_again_and_again_leaves_no_files_and_threads_behind(tmp_path):
  arrays, _ = placed(mesh(1, 1))
  store = Store(tmp_path, "mine", 2)
  held = []
  for step in range(6):
    store.save(step, arrays)
    store.wait()
    held.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
  store.close()
  assert held[-1] == held[1], held
