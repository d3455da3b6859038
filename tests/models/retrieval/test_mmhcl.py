"""MMHCL: a dense twin of the forward pass, LightGCN without its sides, strangers, vectors, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest
import running

from recjax.config import Split, read_config_file
from recjax.data.frozen import write_frozen
from recjax.data.splits import make_split
from recjax.data.views import prefixes
from recjax.errors import ConfigError, DataError
from recjax.losses.node_contrast import node_contrast
from recjax.models.retrieval import lightgcn, mmhcl
from recjax.nn.tables import init_rows

RNG = np.random.default_rng(0)
PICTURE = np.concatenate([np.zeros((1, 3)), RNG.normal(size=(6, 3))]).astype(np.float32)
SOUND = np.concatenate([np.zeros((1, 2)), RNG.normal(size=(6, 2))]).astype(np.float32)
PICTURE[4] = np.nan  # an item without a row
MADE = logs.log([[1, 2, 3, 5, 6], [2, 3, 4, 6, 1], [5, 2], [4, 6, 3]], num_items=6)
LOG = dataclasses.replace(MADE, items={**MADE.items, "picture": PICTURE, "sound": SOUND})
# Trains on all but the last two events of users 1 and 2 and of user 4, and on all of user 3.
PAIRS = {1: {1, 2, 3}, 2: {2, 3, 4}, 3: {5, 2}, 4: {4}}
VIEW = prefixes.build(prefixes.Config(length=4, shortest=0), LOG, make_split(LOG, Split()))
CONFIG = mmhcl.Config(
  columns=("picture", "sound"), width=4, stddev=0.5, decay=0.1, neighbours=3, user_weight=0.2,
  item_weight=0.3, user_layers=2, item_layers=2,
)


def start(config, module=mmhcl, rows=8):
  learner = module.build(config, VIEW.train.schema, VIEW.counts)
  tables = {
    name: init_rows(jax.random.fold_in(jax.random.key(0), sum(map(ord, name))), spec, 0, rows)
    for name, spec in learner.tables.items()
  }
  init = learner.init(jax.random.key(0), tables, learner.schema.example())
  return learner, {**init, "tables": tables}


def batch():
  rows = VIEW.train
  gathered = rows.gather(np, rows.columns, np.arange(6, dtype=np.int32))
  return {**gathered, "negative_item": np.array([4, 5, 6, 1, 5, 1], np.int32)}


@pytest.fixture(scope="module")
def system():
  return start(CONFIG)


def dense(variables):
  """Fused users [5, D] and items [7, D] and their second-order parts, by whole matrices in float64."""
  table = {n: np.asarray(t, np.float64) for n, t in variables["tables"].items()}
  had = np.array([[i in PAIRS.get(u, ()) for i in range(7)] for u in range(5)], float)
  root = [1 / np.sqrt(np.maximum(had.sum(axis=axis), 1)) for axis in (1, 0)]
  edges = root[0][:, None] * had * root[1][None]
  layers = [(table["user"][:5], table["item"][:7])]
  for _ in range(2):
    users, items = layers[-1]
    layers.append((edges @ items, edges.T @ users))
  shared = had @ had.T
  np.fill_diagonal(shared, 0.0)
  users = shared / np.maximum(shared.sum(1, keepdims=True), 1.0)
  marks = []
  for vectors in (np.nan_to_num(PICTURE), SOUND):
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    marks.append(np.zeros((7, 7)))
    for item in range(7):
      for other in np.argsort(-cosine[item])[:3]:
        marks[-1][item, other] = cosine[item, other] > 0
  both = np.concatenate(marks, axis=1)
  counts = both @ both.T
  scale = np.array([value**-0.5 if value else 0.0 for value in counts.sum(1)])
  items = scale[:, None] * counts * scale
  hyper = {
    "user": users @ users @ table["user_hyper"][:5], "item": items @ items @ table["item_hyper"][:7],
  }
  means = (np.mean(found, axis=0) for found in zip(*layers, strict=True))
  first = dict(zip(("user", "item"), means, strict=True))
  length = lambda x: np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
  return {side: first[side] + hyper[side] / length(hyper[side]) for side in first}, hyper


def test_vectors_and_loss_of_the_dense_twin(system):
  learner, variables = system
  fused, hyper = dense(variables)
  rows = batch()
  users = {**rows, "user_id": np.array([1, 2, 3, 1, 2, 3], np.int32)}
  np.testing.assert_allclose(
    learner.predict["encode_user"](variables, users), fused["user"][users["user_id"]], atol=1e-5
  )
  np.testing.assert_allclose(
    learner.predict["encode_items"](variables, jnp.arange(1, 7)), fused["item"][1:], atol=1e-5
  )
  user = fused["user"][rows["user_id"]]
  positive, negative = (fused["item"][rows[f"{name}_item"]] for name in ("target", "negative"))
  expected = np.log1p(np.exp(np.sum(user * (negative - positive), axis=1))).mean()
  expected += 0.05 * np.mean(sum(np.sum(x**2, axis=1) for x in (user, positive, negative)))
  for side, weight in (("user", 0.2), ("item", 0.3)):
    views, anchors = hyper[side][1:], fused[side][1:]
    expected += weight * node_contrast(
      jnp.asarray(anchors), jnp.asarray(views), np.ones(len(views), bool), 0.6
    )
  objective = jax.jit(learner.loss)(variables, rows, jax.random.key(0))
  assert objective.weight == 6
  np.testing.assert_allclose(objective.loss / objective.weight, expected, rtol=1e-5)
  assert {"user_contrast", "item_contrast"} <= objective.metrics.keys()


def test_without_its_sides_it_is_light_gcn():
  both = {"width": 4, "stddev": 0.5, "decay": 0.1, "layers": 2}
  ours, variables = start(mmhcl.Config(user_weight=0.0, item_weight=0.0, **both))
  theirs, others = start(lightgcn.Config(**both), lightgcn)
  assert ours.tables == theirs.tables and ours.whole_tables == theirs.whole_tables
  found = []
  for learner, own in ((ours, variables), (theirs, others)):
    loss = lambda tables, learner=learner, own=own: learner.loss(
      {**own, "tables": tables}, batch(), None
    ).loss
    found.append(jax.jit(jax.value_and_grad(loss))(own["tables"]))
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *found)))


def test_a_stranger_is_a_user_with_that_history(system):
  learner, variables = system
  # Item 4 is a hyperedge of users 2 and 4, and a stranger who had it is none of them.
  ids = np.array([[0, 0, 0, 4]], np.int32)
  rows = {"user_id": np.zeros(1, np.int32), "hist_item": ids, "hist_mask": ids != 0}
  found = np.asarray(learner.predict["encode_user"](variables, rows))[0]
  _, hyper = dense(variables)
  table = np.asarray(variables["tables"]["user_hyper"], np.float64)[:5]
  had = np.array([[i in PAIRS.get(u, ()) for i in range(7)] for u in range(5)], float)
  shared = had @ had.T
  np.fill_diagonal(shared, 0.0)
  once = shared / np.maximum(shared.sum(1, keepdims=True), 1.0) @ table
  edge = once[2] + once[4]
  plain = lightgcn.build(
    lightgcn.Config(width=4, stddev=0.5, decay=0.1, layers=2), VIEW.train.schema, VIEW.counts
  )
  first = np.asarray(plain.predict["encode_user"](variables, rows))[0]
  np.testing.assert_allclose(found - first, edge / np.linalg.norm(edge), atol=1e-5)


def test_whoever_shares_nothing_gets_nothing_and_no_nan():
  alone = logs.log([[1, 2, 3, 4], [5, 6, 5, 6]], num_items=6)
  alone = dataclasses.replace(alone, items={**alone.items, "picture": np.zeros((7, 3), np.float32)})
  view = prefixes.build(prefixes.Config(length=4, shortest=0), alone, make_split(alone, Split()))
  config = dataclasses.replace(CONFIG, columns=("picture",))
  learner = mmhcl.build(config, view.train.schema, view.counts)
  tables = {n: init_rows(jax.random.key(1), s, 0, 8) for n, s in learner.tables.items()}
  variables = {**learner.init(jax.random.key(0), tables, learner.schema.example()), "tables": tables}
  rows = view.train.gather(np, view.train.columns, np.arange(2, dtype=np.int32))
  rows["negative_item"] = np.array([6, 1], np.int32)
  plain = lightgcn.build(lightgcn.Config(width=4, layers=2), view.train.schema, view.counts)
  np.testing.assert_array_equal(
    learner.predict["encode_user"](variables, rows), plain.predict["encode_user"](variables, rows)
  )

  def loss(tables):
    return learner.loss({**variables, "tables": tables}, rows, jax.random.key(0)).loss

  for name, gradient in jax.jit(jax.grad(loss))(tables).items():
    assert np.isfinite(gradient).all(), name


def test_files_are_as_good_as_columns(system, tmp_path):
  learner, variables = system
  for name, vectors in (("picture", np.nan_to_num(PICTURE)), ("sound", SOUND)):
    write_frozen(tmp_path / f"{name}.npy", [vectors[1:]], 6, vectors.shape[1], "float32")
  files = tuple(str(tmp_path / f"{name}.npy") for name in ("picture", "sound"))
  _, others = start(dataclasses.replace(CONFIG, columns=(), files=files))
  same = jax.tree.map(np.array_equal, variables["statistics"], others["statistics"])
  assert all(jax.tree.leaves(same))
  write_frozen(tmp_path / "short.npy", [SOUND[2:]], 5, 2, "float32")
  with pytest.raises(DataError, match="6 rows, but there are 7 items"):
    start(dataclasses.replace(CONFIG, columns=(), files=(str(tmp_path / "short.npy"),)))


def test_a_contrast_of_some_nodes_is_near_that_of_all(system):
  _, variables = system
  few, _ = start(dataclasses.replace(CONFIG, contrast_nodes=4))
  whole, _ = system
  key = jax.random.split(jax.random.key(0), 200)
  contrast = lambda learner, key: learner.loss(variables, batch(), key).metrics["item_contrast"][0]
  sampled = jax.jit(jax.vmap(lambda key: contrast(few, key)))(key)
  exact = contrast(whole, key[0])
  assert len(np.unique(sampled)) > 5
  # The logarithm of a noisy sum is a little too small.
  assert exact - 0.15 < np.mean(sampled) < exact + 0.02


@pytest.mark.parametrize("change, message", [
  ({"columns": ()}, "give columns or files, or set item_weight=0"),
  ({"temperature": 0.0}, "temperature divides"),
  ({"columns": ("pictures",)}, "Did you mean 'picture'"),
  ({"columns": ("category",)}, "Unknown vectors of items"),
])
def test_mistakes(change, message):
  with pytest.raises(ConfigError, match=message):
    start(dataclasses.replace(CONFIG, **change))


def test_given_splits_have_the_users_side_alone_unless_there_are_vectors(monkeypatch):
  monkeypatch.chdir(running.ROOT)
  alone = read_config_file("experiments/mmhcl.py:given=sports")
  assert alone.data.name == "mmhcl_splits/sports.parquet" and alone.split.name == "given"
  assert (alone.model.files, alone.model.user_weight, alone.model.item_weight) == ((), 0.3, 0.0)
  both = read_config_file("experiments/mmhcl.py:given=sports,vectors=v.npy")
  assert (both.model.files, both.model.item_weight) == (("v.npy",), 0.7)
  with pytest.raises(ConfigError, match="Unknown given split 'sport'. Did you mean 'sports'"):
    read_config_file("experiments/mmhcl.py:given=sport")


def test_deviation_of_initial_values():
  learner, _ = start(dataclasses.replace(CONFIG, stddev=0.0))
  found = {name: spec.stddev for name, spec in learner.tables.items()}
  users, items = (2 / (5 + 4)) ** 0.5, (2 / (7 + 4)) ** 0.5
  assert found == {"user": users, "user_hyper": users, "item": items, "item_hyper": items}
