"""The command as people meet it: how fast it answers, what it recommends, how it takes typos."""

import ast
import dataclasses
import json
import resource
import statistics
import subprocess
import sys

import pytest
import running
from ml_collections import config_dict

from recjax import registry
from recjax.config import Config
from recjax.errors import ConfigError, RecjaxError
from recjax.programs.evaluate import evaluate
from recjax.programs.recommend import recommend
from recjax.programs.train import train
from recjax.serve.recommender import Recommender


def median_seconds(*arguments: str, times: int = 3) -> float:
  """Processor seconds of a command: wall time would measure the other tests, too."""
  def once():
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
      [sys.executable, *arguments], cwd=running.ROOT, check=False, capture_output=True, timeout=60
    )
    done = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.ru_utime + done.ru_stime - begun.ru_utime - begun.ru_stime

  return statistics.median(once() for _ in range(times))


def test_importing_recjax_costs_nothing():
  code = (
    "import sys, time; begun = time.process_time(); import recjax;"
    "print(time.process_time() - begun);"
    "print([m for m in ('jax', 'flax', 'numpy', 'orbax', 'tensorflow') if m in sys.modules])"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], cwd=running.ROOT, check=True, capture_output=True, text=True
  ).stdout.split("\n")
  assert float(out[0]) < 0.5
  assert out[1] == "[]"


def test_help_answers_at_once():
  assert median_seconds("-m", "recjax.main", "--help") < 3.0


def command(*arguments: str) -> tuple[int, str]:
  """Exit code of the command and what it says on standard error."""
  done = subprocess.run(
    [sys.executable, "-m", "recjax.main", *arguments],
    cwd=running.ROOT, capture_output=True, text=True, timeout=60,
  )
  assert "Traceback" not in done.stderr, done.stderr
  return done.returncode, done.stderr


@pytest.mark.parametrize(
  "arguments, sentence",
  [
    (("--config=experiments/sasrec.py:tiny", "--config.train.step=3"), "Did you mean 'steps'?"),
    (("--config=experiments/sasrec.py:tiny", "--wokdir=x"), "Did you mean: workdir"),
    (("--config=experiments/sasrec.py:tiny", "--mode=trian", "--workdir=x"), "--mode=trian"),
    (("--config=experiments/sasrec.py:tiny",), "Say where the run lives: --workdir=FOLDER."),
    (("--workdir=x",), "Say what to run: --config=experiments/NAME.py."),
    (("train",), "what is 'train'? Flags begin with '--'"),
    (("--config=experiments/sasrec.py:tinny", "--workdir=x"), "Did you mean 'tiny'?"),
    (("--config=experiments/sasrek.py", "--workdir=x"), "no config file 'experiments/sasrek.py'."),
    (
      ("--config=experiments/sasrek.py", "--config.seed=1", "--workdir=x"),
      "no config file 'experiments/sasrek.py'.",
    ),
    (("--config=experiments/sasrec.py:tiny", "--config.seed=one"), "--config.seed=one"),
  ],
)
def test_typos_are_answered_in_a_sentence(arguments, sentence):
  code, said = command(*arguments)
  assert code == 1
  assert said.startswith("recjax: ") and sentence in said


def settings_classes():
  """Every dataclass of settings that an experiment can hold."""
  parts = [f.default.__class__ for f in dataclasses.fields(Config)]
  yield from (cls for cls in parts if dataclasses.is_dataclass(cls))
  for kind in ("model", "source", "view", "evaluator"):
    for name in registry.MODULES[kind]:
      yield registry.resolve(kind, name).Config


def test_every_key_can_be_set_on_the_command_line():
  """A key that is also a method of ConfigDict cannot be reached by --config.key=value."""
  methods = set(dir(config_dict.ConfigDict))
  for cls in settings_classes():
    assert not methods & {f.name for f in dataclasses.fields(cls)}, cls


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A finished run whose items have labels."""
  folder = tmp_path_factory.mktemp("trained")
  train(running.short_config(), folder)
  names = folder / "export" / "items.json"
  items = json.loads(names.read_text())
  count = Recommender.load(folder).num_items
  items["label"] = [""] + [f"Film number {i}" for i in range(1, count + 1)]
  names.write_text(json.dumps(items))
  return folder


def test_labels_and_ids_give_the_same_recommendations(trained, capsys):
  by_id = recommend(trained, "3|17|8", 5)
  by_label = recommend(trained, " Film number 3 | Film number 17|8", 5)
  assert by_id == by_label
  assert len(by_id) == 5 and not {a.item for a in by_id} & {3, 17, 8}
  scores = [answer.score for answer in by_id]
  assert scores == sorted(scores, reverse=True)
  said = capsys.readouterr().out
  assert "history: Film number 3 | Film number 17 | Film number 8" in said
  assert f"  1. {by_id[0].label}  [item {by_id[0].item}]" in said


def test_recommendations_are_the_scores_of_the_model(trained):
  """Every item but the history is ranked, and a longer list begins with the shorter one."""
  recommender = Recommender.load(trained)
  every = recommender.recommend([[3, 17, 8]], 10_000)[0]
  assert {a.item for a in every} == set(range(1, recommender.num_items + 1)) - {3, 17, 8}
  assert [a.item for a in recommender.recommend([[3, 17, 8]], 5)[0]] == [a.item for a in every[:5]]


def test_nobody_is_told_what_to_say_instead(trained):
  with pytest.raises(RecjaxError, match="No item is called 'Film numbr 17'.*'Film number 17'"):
    recommend(trained, "3|Film numbr 17", 5)
  with pytest.raises(RecjaxError, match="Item 999999 is not in the catalogue of items 1 to"):
    recommend(trained, "999999", 5)
  for empty in ("", " ", "|", " | "):
    with pytest.raises(ConfigError, match="Say whose recommendations: --history="):
      recommend(trained, empty, 5)
  with pytest.raises(RecjaxError, match="is not an export: .* is missing. Has the run finished"):
    recommend(trained / "nothing", "3", 5)


def test_an_empty_history_has_recommendations_from_python(trained):
  recommender = Recommender.load(trained)
  (answers,) = recommender.recommend([[]], 4)
  assert len({a.item for a in answers}) == 4
  assert recommender.recommend([], 4) == []


def test_evaluating_again_reproduces_the_report(trained):
  report = running.report(trained)
  result = evaluate(None, trained)
  for part in ("validation", "test"):
    for name, value in report[part]["metrics"].items():
      assert result[part]["metrics"][name]["mean"] == value["mean"], name
    assert result[part]["facts"] == report[part]["facts"]
  with pytest.raises(RecjaxError, match="model is not the one"):
    evaluate(running.short_config("model.width=8"), trained)


@pytest.mark.parametrize(
  "path", sorted((running.ROOT / "experiments").glob("*.py")), ids=lambda p: p.stem
)
def test_every_experiment_states_a_command_that_parses(path):
  """The docstring's command runs up to the point where it would begin to work."""
  text = ast.get_docstring(ast.parse(path.read_text()))
  lines = [line.strip() for line in text.split("\n") if line.strip().startswith("python -m ")]
  assert lines, f"{path} has no command in its docstring"
  for line in lines:
    words = line.split()
    assert words[:3] == ["python", "-m", "recjax.main"]
    assert any(w.startswith(f"--config=experiments/{path.name}") for w in words)
    code, said = command(*words[3:], "--mode=train", "--workdir=", "--only_check_args")
    assert code == 0, said
