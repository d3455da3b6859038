"""The comparison of retrieval models: one budget, rates of the grid, arms that exist."""

import pathlib

import pytest

from recjax.config import read_config_file
from recjax.errors import ConfigError
from recjax.programs import prove

FILE = "experiments/retrieval.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


def test_every_arm_of_every_world_has_the_same_budget():
  config = read_config_file(FILE)
  proof = config.proof
  rates = (0.0005, 0.001, 0.002, 0.004, 0.008)
  for data, world in proof["worlds"].items():
    assert set(world["arms"]) == set(proof["arms"]) and world["reference"] in proof["arms"]
    for name in world["arms"]:
      arm = prove.arm_config(config, world, proof["arms"][name])
      assert arm.data.name == data and arm.seeds == 3 and arm.seed == 0
      assert set(arm.evaluate) == {"full_ranking", "interests"}
      if arm.model.name == "counts":
        continue
      if arm.stages:
        assert (arm.train.steps, arm.optimizer.learning_rate) == (1, 0.0)
        assert arm.model.base == read_config_file(arm.stages["lightgcn"]).model
        arm = read_config_file(arm.stages["lightgcn"])
        assert (arm.model.name, arm.data.name) == ("lightgcn", data)
      assert arm.model.width == 64 and arm.view.length == 50
      assert arm.optimizer.learning_rate in rates and not arm.stages
      users = arm.view.name != "prefixes"
      assert arm.train.batch_size == (128 if users else 1024)
      assert (arm.train.steps, arm.train.evaluate_every, arm.train.patience) == (10_000, 200, 10)
  for claim in proof["claims"]:
    assert {claim["better"], claim["worse"]} < set(proof["arms"])
    assert claim["metric"] in proof["worlds"][claim["world"]]["metrics"]


def test_a_rate_replaces_that_of_the_table():
  assert read_config_file(f"{FILE}:model=mind,rate=0.0005").optimizer.learning_rate == 0.0005


@pytest.mark.parametrize(
  ("switch", "message"),
  [("model=sasrek", "Unknown model .*Did you mean 'sasrec'"), ("data=ml", "Unknown data set")],
)
def test_unknown_names_are_refused(switch, message):
  with pytest.raises(ConfigError, match=message):
    read_config_file(f"{FILE}:{switch}")
