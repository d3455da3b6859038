"""What the command refuses: each time one sentence that names the cause, and nothing is spoilt."""

import shutil

import pytest
import running

from recjax.config import resolve, to_json
from recjax.errors import ConfigError, RecjaxError
from recjax.programs.train import train


@pytest.fixture
def workdir(finished, tmp_path):
  """A copy of a finished short run."""
  return shutil.copytree(finished, tmp_path / "run")


def test_another_config_is_refused_by_the_key_that_differs(workdir):
  before = running.tree(workdir)
  with pytest.raises(ConfigError, match=r"begun with optimizer\.learning_rate=0\.002, .* 0\.5;"):
    train(running.short_config("optimizer.learning_rate=0.5"), workdir)
  (workdir / "report.json").unlink()
  with pytest.raises(ConfigError, match=r"begun with model\.width=16, this config has 8"):
    train(running.short_config("model.width=8"), workdir)
  del before["report.json"]
  assert running.tree(workdir) == before


def test_keys_that_change_nothing_are_free(workdir, tmp_path):
  """A finished run stays finished under another cache, and a real difference is the one named."""
  other = f"data.cache={tmp_path / 'cache'}"
  assert train(running.short_config(other), workdir)["status"] == "finished"
  with pytest.raises(ConfigError, match="begun with model.width"):
    train(running.short_config(other, "model.width=8"), workdir)


def test_an_allowed_change_goes_on(workdir, tmp_path):
  """Ten steps more in the same workdir are the ten steps more of a longer run."""
  longer = ("train.steps=40",)
  report = train(running.short_config(*longer, "allow_config_change=True"), workdir)
  assert report["steps"] == 40
  assert [x["step"] for x in running.lines(workdir) if x["kind"] == "train"] == [10, 20, 30, 40]
  train(running.short_config(*longer), tmp_path / "unbroken")
  left, right = running.exported(workdir), running.exported(tmp_path / "unbroken")
  assert all((left[name] == right[name]).all() for name in left)
  # From now on the workdir is the longer run's.
  assert train(running.short_config(*longer), workdir) == report
  with pytest.raises(ConfigError, match="begun with train.steps=40, this config has 30"):
    train(running.short_config(), workdir)


@pytest.mark.parametrize(
  "settings, sentence",
  [
    (("train.epochs=1.0",), r"exactly one of train\.steps and train\.epochs"),
    (("train.steps=0",), r"exactly one of train\.steps and train\.epochs"),
    (("train.batch_size=30",), r"train\.batch_size=30 cannot be cut along mesh\.data=8"),
    (("train.micro_batches=5",), r"batch_size=32 is not divisible by train\.micro_batches=5"),
    (("mesh.model=3",), r"mesh\.model=3 does not cover 8 devices"),
    (("train.feed=resdent",), r"Unknown train\.feed 'resdent'\. Did you mean 'resident'\?"),
    (("tables.training=row",), r"tables\.training is dense or rows, not 'row'"),
    ((*running.ROWS, "tables.optimizer=adagrat"), r"Did you mean 'adagrad'\?"),
    (("optimizer.name=adan",), r"Unknown optimizer 'adan'\. Did you mean 'adam"),
    (("optimizer.schedule=cosin",), r"Did you mean 'cosine'\?"),
    (("split.name=leave_two_out",), r"Unknown split .* Did you mean 'leave_one_out'\?"),
  ],
)
def test_a_mistaken_config_leaves_the_workdir_free(settings, sentence, tmp_path):
  """The sentence comes before anything is begun, so the corrected command may use the folder."""
  with pytest.raises(ConfigError, match=sentence):
    train(running.short_config(*settings), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()


def test_an_unknown_metric_to_select_by_is_named_with_the_nearest(tmp_path):
  sentence = r"Unknown train\.select_metric 'ndgc@10'\. Did you mean 'ndcg@10'\?"
  with pytest.raises(ConfigError, match=sentence):
    train(running.short_config("train.select_metric=ndgc@10"), tmp_path)


@pytest.mark.parametrize(
  "part, key, name, sentence",
  [
    ("model", "name", "sasrek", r"Unknown model 'sasrek'\. Did you mean 'sasrec'\?"),
    ("view", "name", "next_itm", r"Unknown view 'next_itm'\. Did you mean 'next_item'\?"),
    ("model", "widht", 3, r"Unknown key of config\.model 'widht'\. Did you mean 'width'\?"),
    ("train", "step", 3, r"Unknown key of config\.train 'step'\. Did you mean 'steps'\?"),
    ("evaluate", "full_rankin", {}, r"Unknown evaluator .* Did you mean 'full_ranking'\?"),
  ],
)
def test_unknown_names_are_answered_with_the_nearest(part, key, name, sentence):
  plain = to_json(running.short_config())
  plain[part][key] = name
  with pytest.raises(ConfigError, match=sentence):
    resolve(plain)


def test_an_unknown_data_set_is_answered_with_the_nearest(tmp_path):
  plain = to_json(running.short_config())
  plain["data"] = {"name": "movielens_100", "folder": str(tmp_path)}
  with pytest.raises(ConfigError, match=r"'movielens_100'\. Did you mean 'movielens_100k'\?"):
    train(resolve(plain), tmp_path / "run")


@pytest.mark.parametrize("content", ["", '{"status": "fin', "\x00\x00\x00"])
@pytest.mark.parametrize("name", ["config.json", "report.json"])
def test_torn_files_are_named(name, content, workdir):
  (workdir / name).write_text(content)
  with pytest.raises(RecjaxError, match=rf"run/{name} is damaged \(.*\); delete it") as caught:
    train(running.short_config(), workdir)
  assert "\n" not in str(caught.value)
