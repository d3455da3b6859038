"""The evaluator of interests: by hand and by loops; what is not defined is NaN with a reason."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import dependence, interests
from recjax.evaluate.evaluation import Catalogue

MESH = jax.make_mesh((1, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:1])
# Items 1 and 2 of category 1, 3 and 4 of 2, 5 of 3; nothing is of category 4.
CATEGORIES = np.array([0, 1, 1, 2, 2, 3])
VECTORS = np.array([[0, 0], [1, 0], [3, 0], [0, 1], [0, 3], [-1, -1]], np.float32)
HISTORY = np.array([[1, 2, 3], [0, 3, 5], [0, 0, 0], [1, 3, 5]], np.int32)
USERS = np.array(
  [[[1, 0], [0, 1]], [[1, 0], [1, 0]], [[0, 0], [0, 0]], [[-1, -1], [0, 2]]], np.float32
)


def cases(history=HISTORY):
  gather = lambda xp, columns, index: {
    "row": columns["row"][index], "hist_item": columns["hist"][index],
    "hist_mask": columns["hist"][index] != 0,
  }
  schema = Schema(
    {"hist_item": Field("ids", (3,), "item"), "hist_mask": Field("mask", (3,))}, {"item": 6}
  )
  rows = Rows(len(history), {"hist": history, "row": np.arange(len(history))}, gather, schema)
  column = lambda name: np.array(["x", "y", "x", "y"])
  return Cases(rows, np.arange(1, 5), np.ones((4, 1), np.int32), None, column)


PREDICT = {
  "encode_user": lambda variables, batch: variables["users"][batch["row"]],
  "encode_items": lambda variables, ids: variables["items"][ids],
}


def run(users=USERS, predict=PREDICT, categories=CATEGORIES, given=None, **options):
  catalogue = Catalogue(5, np.ones(6, np.int64), categories)
  evaluate = interests.build(
    interests.Config(**options), predict, given or cases(), mesh=MESH, catalogue=catalogue
  )
  return evaluate({"users": jax.numpy.asarray(users), "items": jax.numpy.asarray(VECTORS)})


def test_by_hand():
  found = run(by_column="z")
  assert found.facts == {"cases": 3, "cases z x": 1, "cases z y": 2}
  assert found.case_user.tolist() == [1, 2, 4] and found.lists is None
  # Cosines 0, 1 and that of (-1, -1) and (0, 1).
  np.testing.assert_allclose(found.per_case["redundancy"], [0, 1, -(0.5**0.5)], atol=1e-6)
  # Nearest: 1 and 2 of the wanted 1, 2; 1 of 2, 3; 3 and 2 of 1, 2, 3.
  np.testing.assert_allclose(found.per_case["interest_coverage"], [1, 0, 2 / 3])
  assert found.values["redundancy"] == pytest.approx((1 - 0.5**0.5) / 3)
  assert found.values["interest_coverage z y"] == pytest.approx(1 / 3)
  assert found.values["dependence"] == pytest.approx(
    dependence.gaussian_hsic(USERS[[0, 1, 3], 0].astype(float), USERS[[0, 1, 3], 1].astype(float))
  )
  assert np.isnan(found.values["dependence z x"])  # one user
  # A category of one in three behaviours is not often there, if half of them are asked for.
  few = run(often=0.5)
  np.testing.assert_allclose(few.per_case["interest_coverage"], [1, 0, np.nan])
  assert few.values["interest_coverage"] == 0.5


def test_parts_with_loops():
  rng = np.random.default_rng(0)
  users, held = rng.normal(size=(7, 4, 3)), rng.integers(0, 6, (7, 10))
  often = interests.frequent(held, (held > 0).sum(1), 6, 0.2)
  for row, column in np.ndindex(7, 6):
    count = (held[row] == column + 1).sum()
    assert often[row, column] == (count >= max(0.2 * (held[row] > 0).sum(), 1))
  centres = rng.normal(size=(6, 3))
  centres[4] = np.nan
  found = interests.coverage(users, often, centres)
  for row in range(7):
    near = {max(set(range(6)) - {4}, key=lambda c: users[row, k] @ centres[c]) for k in range(4)}
    wanted = set(np.flatnonzero(often[row]))
    assert found[row] == pytest.approx(len(near & wanted) / len(wanted))
  cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  mean = np.mean([cosine(users[2, a], users[2, b]) for a in range(4) for b in range(a)])
  assert interests.redundancy(users)[2] == pytest.approx(mean)
  vectors = interests.category_vectors(VECTORS, CATEGORIES)
  np.testing.assert_allclose(vectors, [[2, 0], [0, 2], [-1, -1]])
  several = np.stack([CATEGORIES, [0, 2, 0, 0, 0, 0]], axis=1)  # item 1 is of 1 and 2
  np.testing.assert_allclose(interests.category_vectors(VECTORS, several)[1], [1 / 3, 4 / 3])
  # Of many users evenly spaced ones are looked at.
  assert interests.mean_dependence(users, 4) == interests.mean_dependence(users[::2], 7)


def test_what_is_not_defined_has_a_reason():
  single = run(users=USERS[:, 0], by_column="z")
  assert all(np.isnan(v) for v in single.values.values())
  assert {"redundancy", "dependence z x"} < single.values.keys()
  assert "several vectors" in single.facts["not_defined"] and not single.per_case
  several = lambda *a: {"vectors": PREDICT["encode_user"](*a), "items": a[1]["hist_item"]}
  mixed = run(predict={**PREDICT, "encode_user": several})
  assert "several vectors" in mixed.facts["not_defined"]
  assert np.isnan(run(users=USERS[:, :1]).values["redundancy"])
  plain = run(categories=None)
  assert np.isnan(plain.values["interest_coverage"]) and plain.values["redundancy"] > 0
  assert plain.facts["no_coverage"] == "the items have no categories"
  blind = run(predict={"encode_user": PREDICT["encode_user"]})
  assert "encode_items" in blind.facts["no_coverage"]


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="needs the prediction function 'encode_user'"):
    run(predict={})
  with pytest.raises(ConfigError, match="often=0 would ask for every category"):
    interests.Config(often=0.0)
  with pytest.raises(DataError, match="None of the cases has a history"):
    run(given=cases(np.zeros((4, 3), np.int32)))
  with pytest.raises(DataError, match="Some interests are NaN or infinite"):
    run(users=USERS + np.inf)
