"""Settings every test runs under: eight CPU devices, no silent broadcasting, own cache folders."""

import gc
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
# Shared with the processes that tests start; apart from what the user's own runs keep.
os.environ["RECJAX_CACHE_DIR"] = str(pathlib.Path.home() / ".cache/recjax/tests")

import jax  # noqa: E402 - the settings above come first
import pytest  # noqa: E402
from absl import flags  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.environ["RECJAX_CACHE_DIR"] + "/compiled")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()

_BESIDE = pathlib.Path(__file__).parents[1].parent / "shared" / "data"
if "RECJAX_DATA_DIR" not in os.environ and _BESIDE.is_dir():
  os.environ["RECJAX_DATA_DIR"] = str(_BESIDE)


@pytest.fixture
def data_dir() -> pathlib.Path:
  """The folder of further real data sets; skips where there is none."""
  folder = os.environ.get("RECJAX_DATA_DIR")
  if not folder or not pathlib.Path(folder).is_dir():
    pytest.skip("RECJAX_DATA_DIR names no folder of data sets")
  return pathlib.Path(folder)


@pytest.fixture
def compiles():
  """Counts compilations: `with compiles() as count: ...; count()`."""
  import contextlib

  @contextlib.contextmanager
  def counting():
    events = []
    listen = lambda name, *_, **__: events.append(name) if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
      yield lambda: len(events)
    finally:
      jax.monitoring.unregister_event_duration_listener(listen)

  return counting


@pytest.fixture
def collected():
  """Collects what a test left behind while the test's own marks hold."""
  yield
  gc.collect()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
  """settings -> workdir of the short run on one device, which several tests compare with."""
  import running

  made = {}

  def make(*settings):
    if settings not in made:
      made[settings] = tmp_path_factory.mktemp("unbroken") / "run"
      running.run(made[settings], *settings)
    return made[settings]

  return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
  """A finished short run, made in this process on its eight devices."""
  import running

  from recjax.programs.train import train

  folder = tmp_path_factory.mktemp("finished") / "run"
  train(running.short_config(), folder)
  return folder
