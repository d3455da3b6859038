"""Stages: the variables of one experiment are the start of the next."""

import dataclasses
import re
import textwrap

import numpy as np
import pytest
import running
from safetensors.numpy import load_file

from recjax.config import read_config_file
from recjax.errors import ConfigError
from recjax.programs.train import train

FILE = """
from recjax.config import experiment


def get_config(arg=None):
  first = arg == "first"
  return experiment(
    "staged",
    data={{"name": "planted", "num_users": 60}},
    view={{"name": "next_item", "length": 10}},
    model={{"name": "sasrec", "width": 16, "dropout": 0.0}},
    evaluate={{"full_ranking": {{}}}},
    train={{"steps": 6 if first else 1, "batch_size": 16, "log_every": 2, "evaluate_every": 0}},
    optimizer={{"learning_rate": 1e-2 if first else 0.0}},
    stages={{}} if first else {{"first": "{here}:first"}},
    initialize={{}} if first else {initialize},
  )
"""


def config_file(folder, initialize):
  """An experiment whose second half starts with what `initialize` names of the first."""
  path = folder / "staged.py"
  path.write_text(textwrap.dedent(FILE).format(here=path, initialize=initialize))
  return read_config_file(str(path))


@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stage_is_the_start_of_the_next(seeds, tmp_path):
  config = config_file(tmp_path, {"tables/item": "first:tables/item"})
  config = dataclasses.replace(config, seeds=seeds)
  train(config, tmp_path / "run")
  first = running.exported(tmp_path / "run" / "stages" / "first")
  second = running.exported(tmp_path / "run")
  np.testing.assert_array_equal(first["tables/item"], second["tables/item"])
  assert np.abs(first["tables/item"]).max() > 0.03  # six steps away from where it began
  # What is not named starts by itself, from the same seed as ever.
  alone = config_file(tmp_path, {})
  train(dataclasses.replace(alone, stages={}), tmp_path / "alone")
  begun = running.exported(tmp_path / "alone")
  assert not np.array_equal(begun["tables/item"], second["tables/item"])
  moved = [n for n in begun if n != "tables/item" and not np.array_equal(begun[n], second[n])]
  assert moved == []


def test_a_whole_collection_can_be_taken(tmp_path):
  names = {"tables": "first:tables", "params": "first:params"}
  train(config_file(tmp_path, names), tmp_path / "run")
  first = running.exported(tmp_path / "run" / "stages" / "first")
  second = running.exported(tmp_path / "run")
  for name in first:
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_finished_stages_are_left_alone(tmp_path):
  config = config_file(tmp_path, {"tables/item": "first:tables/item"})
  run = tmp_path / "run"
  train(config, run)
  before, second = running.tree(run / "stages"), running.exported(run)
  (run / "report.json").unlink()
  for folder in ("checkpoints", "best"):
    for step in (run / folder).iterdir():
      step.rename(tmp_path / f"{folder}-{step.name}")
  train(config, run)
  assert running.tree(run / "stages") == before
  for name, array in running.exported(run).items():
    np.testing.assert_array_equal(array, second[name])


@pytest.mark.parametrize(
  "names, sentence",
  [
    ({"tables/item": "frist:tables/item"}, "Unknown stage 'frist'. Did you mean 'first'?"),
    ({"tables/item": "first:tables/itm"}, "Did you mean 'tables/item'?"),
    ({"tables/itm": "first:tables/item"}, "Unknown variable 'itm'. Did you mean 'item'?"),
    ({"tables/item": "first:params"}, "does not fit"),
  ],
)
def test_what_does_not_fit_is_named(names, sentence, tmp_path):
  with pytest.raises(ConfigError, match=re.escape(sentence)):
    train(config_file(tmp_path, names), tmp_path / "run")


def test_runs_share_their_stages_seed_by_seed(tmp_path):
  """Two runs find one stage of two seeds; each seed starts from its own, one seed from the first."""
  config = config_file(tmp_path, {"tables/item": "first:tables/item"})
  config = dataclasses.replace(config, seeds=2)
  shared = tmp_path / "stages"
  train(config, tmp_path / "run", shared)
  (stage,) = shared.iterdir()
  assert stage.name.startswith("first-") and not (tmp_path / "run" / "stages").exists()
  before = running.tree(stage)
  train(dataclasses.replace(config, name="other"), tmp_path / "other", shared)
  assert running.tree(stage) == before
  every = load_file(stage / "variables_of_seeds.safetensors")["tables/item"]
  for folder in ("run", "other"):
    own = load_file(tmp_path / folder / "variables_of_seeds.safetensors")["tables/item"]
    np.testing.assert_array_equal(own, every)
  assert np.abs(every[0] - every[1]).max() > 0.01

  # A finished run can be named instead; one seed takes its first.
  alone = dataclasses.replace(config, seeds=1, stages={"first": str(stage)})
  train(alone, tmp_path / "alone")
  np.testing.assert_array_equal(running.exported(tmp_path / "alone")["tables/item"], every[0])
  with pytest.raises(ConfigError, match="neither a config file nor a finished run"):
    train(dataclasses.replace(alone, stages={"first": "nowhere"}), tmp_path / "none")
