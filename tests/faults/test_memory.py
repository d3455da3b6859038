"""What does not fit is said in one sentence that names the largest arrays and their settings."""

import resource
import signal

import jax
import pytest
import running

from recjax.config import Tables
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.nn.tables import TableSpec
from recjax.programs.train import train
from recjax.train import memory
from recjax.train.memory import OutOfMemory
from recjax.train.tables import padded_rows


@pytest.mark.parametrize(
  "settings, largest",
  [
    (
      ("tables.row_multiple=1000000000",),
      r"tables/item float32\[1000000000,16\] takes 59\.60 GiB \(config\.model, the vocabulary, "
      r"tables\.row_multiple=1000000000\)",
    ),
    (
      (*running.ROWS, "tables.optimizer=lazy_adam", "tables.row_multiple=1000000000", "seeds=5"),
      r"rows/item/\w+ float32\[5,1000000000,16\] takes 298\.02 GiB "
      r"\(tables\.optimizer=lazy_adam, seeds=5\)",
    ),
    (
      ("model.width=300000",),
      r"variables/params/block_0/attention/key/kernel float32\[300000,300000\] takes 335\.28 GiB "
      r"\(config\.model\)",
    ),
  ],
  ids=["rows", "seeds", "width"],
)
def test_a_state_that_cannot_fit_is_refused_before_it_is_made(settings, largest, tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "free_bytes", lambda: (20 << 30, 8))
  with pytest.raises(OutOfMemory, match=r"takes .* GiB and 20\.00 GiB are free: .*" + largest) as said:
    train(running.short_config(*settings), tmp_path / "run")
  assert "\n" not in str(said.value)
  assert not (tmp_path / "run").exists()


def test_more_rows_than_ids_can_number_are_refused():
  schema = Schema({"item": Field("id", (), "item")}, {"item": 2**30 + 1})
  with pytest.raises(ConfigError, match=r"row_multiple=1073741824 .* 'item'; ids are 32-bit"):
    padded_rows(TableSpec("item", 8), schema, Tables(row_multiple=2**30))


def test_what_a_step_runs_out_of_is_named_by_the_line_that_asks_for_it(tmp_path, monkeypatch):
  """The device refuses in the middle of training, as XLA says it."""
  from recjax.train.feeds import Resident

  def refuse(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")

  monkeypatch.setattr(Resident, "advance", refuse)
  with pytest.raises(OutOfMemory) as said:
    train(running.short_config("train.batch_size=2048"), tmp_path)
  text = str(said.value)
  assert text.startswith("Memory ran out (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.); the")
  assert ".py:" in text and "(train.batch_size=2048, train.micro_batches)" in text and "\n" not in text
  assert "float32[2048," in text


def test_other_errors_of_the_device_stay_what_they_are(tmp_path):
  with pytest.raises(jax.errors.JaxRuntimeError), memory.explained(None, None, None, None):
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_runs_out_in_one_sentence(tmp_path, outcome):
  """Twelve GiB of addresses, and a step whose activations take more."""
  process = running.start(tmp_path, "model.width=512", "train.batch_size=1048576")
  running.when(process, lambda: (tmp_path / "config.json").exists(), signal.SIGCONT)
  resource.prlimit(process.pid, resource.RLIMIT_AS, (12 << 30, resource.RLIM_INFINITY))
  _, said = running.end(process, 1, seconds=800)
  last = said.strip().split("\n")[-1]
  assert last.startswith("recjax: Memory ran out (") and "train.batch_size=1048576" in last
  assert "Traceback" not in said
  outcome("a step that does not fit in memory", 1, "refused in a sentence naming the largest arrays")
