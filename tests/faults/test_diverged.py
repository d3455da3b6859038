"""A run that diverges stops, keeps the evidence, and spoils nothing that was saved."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import running
from safetensors.numpy import load_file

from recjax.programs import train as program
from recjax.programs.assemble import assemble
from recjax.programs.train import train
from recjax.train.diverged import Diverged
from recjax.train.feeds import host_batch

ON = "allow_config_change=True"


@pytest.mark.parametrize(
  "settings",
  [(), pytest.param(("seeds=2", *running.ROWS), marks=pytest.mark.slow)],
  ids=["plain", "seeds"],
)
def test_divergence_stops_with_evidence_and_leaves_the_checkpoint(settings, tmp_path):
  folder = tmp_path / "run"
  train(running.short_config(*settings, "train.steps=10"), folder)
  healthy = running.exported(folder)
  wild = ("optimizer.learning_rate=1e30", "tables.learning_rate=1e30")
  config = running.short_config(*settings, *wild, ON)
  with pytest.raises(Diverged, match="not finite at step 1[0-9] of seed 0") as caught:
    train(config, folder)
  assert "\n" not in str(caught.value)
  evidence, = (folder / "diverged").iterdir()
  assert str(evidence) in str(caught.value)
  summary = json.loads((evidence / "summary.json").read_text())
  assert 10 <= summary["step"] < 20 and evidence.name == f"step_{summary['step']}"
  batch = load_file(evidence / "batch.safetensors")
  expected = host_batch(assemble(config).view.train, 0, summary["step"], config.train.batch_size)
  for name, column in expected.items():
    np.testing.assert_array_equal(batch[name], column)
  # The variables that met the batch: finite, and wilder than those of before.
  variables = load_file(evidence / "variables.safetensors")
  assert variables.keys() == healthy.keys()
  largest = max(float(np.abs(v).max()) for v in variables.values())
  assert np.isfinite(largest) and largest > 1e6
  # Nothing after step 10 was kept, so that the sane command goes on as if nothing had been.
  assert {p.name for p in (folder / "checkpoints").iterdir()} == {"10"}
  train(running.short_config(*settings, ON), folder)
  train(running.short_config(*settings), tmp_path / "unbroken")
  left, right = running.exported(folder), running.exported(tmp_path / "unbroken")
  for name in left:
    np.testing.assert_array_equal(left[name], right[name])


def test_the_command_says_so_and_fails(tmp_path):
  _, err = running.run(tmp_path, "optimizer.learning_rate=1e30", code=1)
  last = err.strip().split("\n")[-1]
  assert last.startswith("recjax: The loss or a gradient is not finite at step ")
  assert "Traceback" not in err


def test_a_nan_injected_at_a_step_stops_there_each_time_and_spoils_nothing(
  finished, tmp_path, monkeypatch, outcome
):
  """The loss adds NaN times one variable at the batch of step 27, and at no other."""
  config, workdir = running.short_config(), running.interrupted(finished, tmp_path / "run")
  batch = host_batch(assemble(config).view.train, 0, 27, config.train.batch_size)
  field = "hist_item"

  def poisoned(config):
    parts = assemble(config)

    def loss(variables, found, key):
      objective = parts.learner.loss(variables, found, key)
      hit = (found[field] == batch[field]).all()
      weight = jnp.where(hit, jnp.nan, 0.0)
      return objective._replace(loss=objective.loss + weight * variables["tables"]["item"].sum())

    return parts._replace(learner=parts.learner._replace(loss=loss))

  with monkeypatch.context() as patch:
    patch.setattr(program, "assemble", poisoned)
    for _ in range(2):
      with pytest.raises(Diverged, match="at step 27 of seed 0 .*gradients: tables/item\\)"):
        train(config, workdir)
      assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"20"}
  summary = json.loads((workdir / "diverged" / "step_27" / "summary.json").read_text())
  assert summary["non_finite_gradients"] == ["tables/item"]
  stored = load_file(workdir / "diverged" / "step_27" / "batch.safetensors")
  np.testing.assert_array_equal(stored[field], batch[field])
  train(config, workdir)
  running.assert_same(finished, workdir)
  outcome("NaN in the gradient of one variable at a step", 2, "stopped there, named it; then bit-equal")
