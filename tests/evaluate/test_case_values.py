"""Means of what a model says of each case: by hand, whatever the batch, without any, mistakes."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.config import Mesh
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import case_values
from recjax.train.mesh import make_mesh

VALUES = np.arange(5, dtype=np.float32)
TARGETS = np.array([[1, 9], [0, 0], [3, 9], [4, 9], [2, 9]], np.int32)


def double(variables, batch):
  """Twice the value of each case, where its first target is odd."""
  return variables * batch["v"], jnp.float32(batch["target_item"] % 2)


def evaluate(name="double", count=5, **settings):
  gather = lambda xp, columns, index: {"v": columns["v"][index]}
  rows = Rows(count, {"v": VALUES}, gather, Schema({"v": Field("float")}, {}))
  cases = Cases(rows, np.arange(11, 16), TARGETS, lambda index: TARGETS[index])
  config = case_values.Config(function=name, **settings)
  run = case_values.build(config, {"double": double}, cases, mesh=make_mesh(Mesh()), catalogue=None)
  return run(jnp.float32(2))


def test_means_by_hand():
  for batch_size in (2, 256):
    found = evaluate(batch_size=batch_size)
    assert found.values == {"double": pytest.approx((0 + 4) / 2)}
    assert found.per_case["double"].tolist() == [0, 4] and found.case_user.tolist() == [11, 13]
    assert found.facts == {"cases of double": 2}


def test_without_a_case_it_is_not_defined(monkeypatch):
  monkeypatch.setitem(globals(), "TARGETS", np.zeros((5, 1), np.int32))
  found = evaluate()
  assert np.isnan(found.values["double"]) and found.facts == {"cases of double": 0}


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="names a prediction function"):
    case_values.Config()
  with pytest.raises(ConfigError, match="'case_values' needs the prediction function 'triple'"):
    evaluate("triple")
  with pytest.raises(DataError, match="no cases"):
    evaluate(count=0)
