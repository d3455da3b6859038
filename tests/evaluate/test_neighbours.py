"""Neighbours of encoded items: numbers by hand, every case once, errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.config import Mesh
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import neighbours
from recjax.train.mesh import make_mesh

VECTORS = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.8, 0.3]], np.float32)
ANSWER = np.array([1, 1, 2, 2, 2])


def cases(vectors=VECTORS, answer=ANSWER):
  gather = lambda xp, columns, index: {"first_vector": columns["v"][index]}
  rows = Rows(len(vectors), {"v": vectors}, gather, Schema({"first_vector": Field("vector", (2,))}, {}))
  return Cases(rows, np.arange(1, len(vectors) + 1), answer[:, None], lambda i: i[:, None] * 0)


def evaluate(predict, k=2, **settings):
  config = neighbours.Config(k=k, **settings)
  return neighbours.build(config, predict, cases(), mesh=make_mesh(Mesh()))


def test_by_hand():
  np.testing.assert_allclose(
    neighbours.precision_at(VECTORS, ANSWER, 2), [0.5, 0.5, 0.5 + 0.5, 0.5 + 0.5, 0.0]
  )
  encode = {"encode": lambda variables, batch: batch["first_vector"] * variables}
  for batch_size in (2, 1024):
    found = evaluate(encode, batch_size=batch_size)(jnp.float32(2))
    assert found.values["precision@2"] == pytest.approx(0.6)
    assert found.values["chance@2"] == pytest.approx((2 * 1 / 4 + 3 * 2 / 4) / 5)
    np.testing.assert_allclose(found.per_case["precision@2"], [0.5, 0.5, 1, 1, 0])
    assert found.case_user.tolist() == [1, 2, 3, 4, 5] and found.facts == {"cases": 5}


def test_blocks_make_no_difference():
  rng = np.random.default_rng(0)
  vectors, answer = rng.normal(size=(700, 3)), rng.integers(5, size=700)
  got = neighbours.precision_at(vectors, answer, 4)
  for i in (0, 511, 512, 699):
    near = vectors @ vectors[i]
    near[i] = -np.inf
    best = np.argsort(-near)[:4]
    assert got[i] == pytest.approx((answer[best] == answer[i]).mean())


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="'neighbours' needs the prediction function 'encode'"):
    evaluate({"score": None})
  with pytest.raises(DataError, match="5 cases have no 5 others"):
    evaluate({"encode": None}, k=5)
