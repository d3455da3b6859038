"""Two stages: each predicts as it does alone, the loss is the retrieval's, and what cannot be one."""

import dataclasses

import jax
import numpy as np
import pytest
import running

from recjax.config import read_config_file
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.ranking import din
from recjax.models.retrieval import counts, sasrec, two_stage
from recjax.nn.tables import init_rows
from recjax.programs.train import train

ITEMS, LENGTH = 12, 5
SCHEMA = Schema(
  {
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("ids", (LENGTH,), "item"),
  },
  {"item": ITEMS + 1},
)
CONFIG = two_stage.Config(
  retrieval=sasrec.Config(width=8, stddev=0.5),
  ranking=din.Config(item_width=4, category_width=0, stddev=0.5, hidden=(8,), unit_hidden=(8,)),
)


@pytest.fixture(scope="module")
def made():
  """The learner, its variables and a batch."""
  learner = two_stage.build(CONFIG, SCHEMA)
  rng = np.random.default_rng(0)
  tables = {
    name: init_rows(jax.random.key(i), spec, 0, ITEMS + 1)
    for i, (name, spec) in enumerate(learner.tables.items())
  }
  variables = jax.jit(learner.init)(jax.random.key(9), tables, learner.schema.example(2))
  variables = {**variables, "tables": tables}
  history = rng.integers(1, ITEMS + 1, (3, LENGTH)).astype(np.int32)
  history[0, :2] = 0
  batch = {
    "hist_item": history, "hist_mask": history != 0,
    "target_item": np.where(history != 0, np.roll(history, -1, axis=1), 0),
  }
  return learner, variables, batch


def test_each_stage_predicts_as_it_does_alone(made):
  learner, variables, batch = made
  assert set(learner.tables) == {"retrieval_item", "ranking_item", "ranking_item_bias"}
  assert set(variables["params"]) == {"retrieval", "ranking"}
  alone = sasrec.build(CONFIG.retrieval, SCHEMA)
  table = variables["tables"]["retrieval_item"]
  own = {"params": variables["params"]["retrieval"], "tables": {"item": table}}
  ids = np.arange(1, ITEMS + 1)
  scores = [
    np.asarray(p["score_items"](v, p["encode_user"](v, batch), ids))
    for p, v in ((learner.predict, variables), (alone.predict, own))
  ]
  np.testing.assert_array_equal(*scores)
  assert np.ptp(scores[0]) > 0
  clicks = SCHEMA.extend(label=Field("float", (LENGTH,)), weight=Field("float", (LENGTH,)))
  ranker = din.build(CONFIG.ranking, clicks)
  own = {
    "params": variables["params"]["ranking"], "batch_stats": variables["batch_stats"]["ranking"],
    "tables": {name: variables["tables"][f"ranking_{name}"] for name in ("item", "item_bias")},
  }
  np.testing.assert_array_equal(
    learner.predict["score"](variables, batch), ranker.predict["score"](own, batch)
  )


def test_the_loss_is_that_of_the_retrieval(made):
  learner, variables, batch = made
  alone = sasrec.build(CONFIG.retrieval, SCHEMA)
  own, key = two_stage.part(variables, "retrieval"), jax.random.key(1)
  assert set(own["tables"]) == {"item"} and "batch_stats" not in own
  both = jax.jit(learner.loss)(variables, batch, key), jax.jit(alone.loss)(own, batch, key)
  assert float(both[0].loss) == pytest.approx(float(both[1].loss)) and float(both[0].loss) > 0
  assert float(both[0].weight) == float(both[1].weight) == (batch["target_item"] != 0).sum()


@pytest.mark.parametrize(("change", "message"), [
  ({"retrieval": din.Config(category_width=0)}, "lacks 'label', 'weight'"),
  ({"retrieval": counts.Config()}, "'counts' counts, so it has nothing to take over as stage 'retr"),
  ({"ranking": counts.Config()}, "'counts' counts, so it has nothing to take over as stage 'ranking'"),
  ({"ranking": din.Config()}, "Without categories set category_width=0"),
])
def test_what_cannot_be_a_stage_is_refused(change, message):
  with pytest.raises(ConfigError, match=message):
    two_stage.build(dataclasses.replace(CONFIG, **change), SCHEMA)


def test_a_batch_without_candidates_is_refused():
  fields = {name: field for name, field in SCHEMA.fields.items() if name != "target_item"}
  with pytest.raises(ConfigError, match="lacks 'target_item'"):
    two_stage.build(CONFIG, Schema(fields, SCHEMA.vocabularies))


def test_a_model_without_the_function_of_its_stage_is_refused(monkeypatch):
  built = sasrec.build(CONFIG.retrieval, SCHEMA)._replace(predict={"score": None})
  monkeypatch.setattr(sasrec, "build", lambda *_: built)
  with pytest.raises(ConfigError, match="cannot be the stage 'retrieval': it does not offer 'encode_u"):
    two_stage.build(CONFIG, SCHEMA)


@pytest.mark.slow
def test_stages_are_taken_over_as_they_are(tmp_path):
  train(read_config_file("experiments/fairness.py:tiny,rerank=din"), tmp_path)
  both = running.exported(tmp_path)
  for stage, name in (("sasrec", "retrieval"), ("din", "ranking")):
    for path, value in running.exported(tmp_path / "stages" / stage).items():
      collection, _, rest = path.partition("/")
      own = f"{collection}/{name}{'_' if collection == 'tables' else '/'}{rest}"
      np.testing.assert_array_equal(both[own], value, err_msg=own)
