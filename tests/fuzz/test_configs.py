"""Configs and flags with a mistake in them: a sentence that names it, before anything is compiled.

`benchmarks/fuzz.py` runs many more of the same.
"""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import configs, flags
from recjax.config import Config, read_config_file, resolve
from recjax.errors import ConfigError, RecjaxError
from recjax.programs import prove
from recjax.programs.train import total_steps
from recjax.ranges import Range

EXAMPLES = dict(
  derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck),
)


@settings(max_examples=12, **EXAMPLES)
@given(case=configs.cases())
def test_configs(case):
  outcome, said = configs.judge(case)
  assert outcome != "failed", (case.base, case.changes, said)


@settings(max_examples=150, **EXAMPLES)
@given(case=configs.cases(("unknown key", "wrong type", "out of range")))
def test_mistakes_in_single_keys_are_found_without_data(case):
  """What `resolve` lets pass is at least not known to be wrong."""
  try:
    resolve(case.tree)
  except RecjaxError as error:
    assert str(error).isprintable() and any(name in str(error) for name in case.names), case.changes
  else:
    late = ("keep_share", "name", "pairs")  # known to be wrong once all is known
    assert not case.refusal or case.changes[0][0][-1] in late, case.changes


def test_flags():
  found = []

  @settings(max_examples=40, **EXAMPLES)
  @given(case=flags.cases())
  def collect(case):
    found.append(case)

  collect()
  for case, (outcome, said) in zip(found, flags.judge_all(found), strict=True):
    assert outcome != "failed", (case.arguments, said)


@given(low=st.floats(-5, 5), more=st.floats(0, 5), value=st.floats(-20, 20), open_=st.booleans())
def test_ranges_hold_what_is_inside(low, more, value, open_):
  high = low + more
  inside = low < value < high or (not open_ and value in (low, high))
  assert Range(low, high, open_, open_).holds(value) == inside
  assert not any(Range(low, high).holds(odd) for odd in (math.nan, math.inf, -math.inf))


TINY = "experiments/sasrec.py:tiny"


@pytest.mark.parametrize(
  "changes, sentence",
  [
    ({"train.batch_size": 0}, "config.train.batch_size is at least 1 and below 2**31, not 0."),
    ({"train.batch_size": "many"}, "config.train.batch_size is of type int, not 'many'."),
    ({"train.epochs": "nan"}, "config.train.epochs is at least 0 and finite, not 'nan'."),
    ({"model.dropout": 1}, "config.model.dropout is at least 0 and below 1, not 1."),
    ({"model.dropout": None}, "config.model.dropout is of type float, not None."),
    ({"optimizer.learning_rate": -1e-3}, "config.optimizer.learning_rate is at least 0"),
    ({"split.test_from": 2}, "config.split.test_from is between 0 and 1, not 2."),
    ({"seed": 2**40}, "config.seed is at least 0 and below 2**31"),
    ({"evaluate.full_ranking.cutoffs": (5, 0)}, "config.evaluate.full_ranking.cutoffs[1] is at least"),
    ({"evaluate": {}}, "config.evaluate names no evaluator; known: attribute_probe, case_values"),
    ({"evaluate": 5}, "config.evaluate holds keys and values, not 5."),
    ({"data": None}, "config.data holds keys and values, not None."),
    ({"model.name": ("sasrec",)}, "config.model.name is of type str, not ('sasrec',)."),
    ({"stages": {"base": 3}}, "config.stages['base'] is of type str, not 3."),
    ({"mesh.rules": (("(", ""),)}, "config.mesh.rules: '(' is no regular expression"),
    ({"mesh.rules": (("a", "model", ""),)}, "config.mesh.rules[0] is a tuple of 2 values"),
    ({5: 1}, "Unknown config key '5'."),
  ],
)
def test_sentences(changes, sentence):
  tree = configs.bases()["sasrec:tiny"]
  for key, value in changes.items():
    tree = configs.change(tree, tuple(key.split(".")) if isinstance(key, str) else (key,), value)
  with pytest.raises(ConfigError) as caught:
    resolve(tree)
  assert sentence in str(caught.value)


@pytest.mark.parametrize("tree", [None, 5, "x", [1]])
def test_what_is_no_config_at_all(tree):
  with pytest.raises(ConfigError, match="A config holds keys and values, not"):
    resolve(tree)


def test_more_steps_than_can_be_counted(tmp_path):
  config = resolve(
    configs.change(configs.bases()["din:tiny"], ("train",), {"epochs": 1e12, "batch_size": 1})
  )
  assert isinstance(config, Config)
  with pytest.raises(ConfigError, match=r"train.epochs=1000000000000.0 are \d+ steps, above 2\*\*31"):
    total_steps(config, 1000)


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("none.py", b"x = 1\n", "none.py has no function get_config"),
    ("text.md", b"# A page\nis no program\n", "text.md is no Python file"),
    ("binary.py", b"\0\xff\x80", "binary.py is no Python file"),
  ],
)
def test_files_that_are_no_configs(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=message):
    read_config_file(str(tmp_path / name))


@pytest.mark.parametrize(
  "path", sorted((configs.ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem
)
def test_every_arm_of_every_proof_is_in_range(path, monkeypatch):
  monkeypatch.chdir(configs.ROOT)
  config = read_config_file(str(path))
  worlds = config.proof.get("worlds", {}) if isinstance(config, Config) else {}
  for world in worlds.values():
    for name in world.get("arms") or config.proof["arms"]:
      assert prove.arm_config(config, world, config.proof["arms"][name]).proof == {}
