"""BPR-MF and LightGCN: the loss by hand, negatives, strangers, dense twins, mistakes."""

import math

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest

from recjax.config import Split, read_config_file, to_json
from recjax.data.schema import Schema
from recjax.data.splits import make_split
from recjax.data.views import prefixes
from recjax.errors import ConfigError
from recjax.models.retrieval import bpr_mf, lightgcn
from recjax.nn.tables import init_rows
from recjax.serve.export import write_export
from recjax.serve.recommender import Recommender

# Trains on all but the last two events of users 1 and 2, on all of user 3; user 4 has nothing.
LOG = logs.log([[1, 2, 3, 5, 6], [2, 3, 4, 6, 1], [5, 2], []], num_items=6)
PAIRS = {1: {1, 2, 3}, 2: {2, 3, 4}, 3: {5, 2}, 4: set()}
VIEW = prefixes.build(
  prefixes.Config(length=4, shortest=0), LOG, make_split(LOG, Split())
)
SCHEMA = VIEW.train.schema
CONFIGS = {
  "bpr_mf": bpr_mf.Config(width=4, stddev=0.5, decay=0.1),
  "lightgcn": lightgcn.Config(width=4, stddev=0.5, decay=0.1, layers=2),
}
MODULES = {"bpr_mf": bpr_mf, "lightgcn": lightgcn}


def start(config):
  learner = MODULES[config.name].build(config, SCHEMA, VIEW.counts)
  key = jax.random.key(0)
  tables = {
    name: init_rows(jax.random.fold_in(key, i), spec, 0, 8)
    for i, (name, spec) in enumerate(sorted(learner.tables.items()))
  }
  return learner, {**learner.init(key, tables, learner.schema.example()), "tables": tables}


def vectors(config, variables):
  """Users [5, D] and items [7, D] by dense matrices."""
  users, items = (np.asarray(variables["tables"][n], np.float64) for n in ("user", "item"))
  users, items = users[:5], items[:7]
  if config.name == "bpr_mf":
    return users, items
  edges = np.array([[i in PAIRS.get(u, ()) for i in range(7)] for u in range(5)], float)
  root = [1 / np.sqrt(np.maximum(edges.sum(axis=axis), 1)) for axis in (1, 0)]
  edges = root[0][:, None] * edges * root[1][None]
  found = [(users, items)]
  for _ in range(config.layers):
    users, items = edges @ items, edges.T @ users
    found.append((users, items))
  return tuple(np.mean(layers, axis=0) for layers in zip(*found, strict=True))


@pytest.fixture(scope="module", params=CONFIGS)
def system(request):
  config = CONFIGS[request.param]
  return config, *start(config)


def batch(count=8):
  rows = VIEW.train
  return {
    n: jnp.asarray(x)
    for n, x in rows.gather(np, rows.columns, np.arange(count, dtype=np.int32)).items()
  }


def test_loss_by_hand(system):
  config, learner, variables = system
  drawn = {**batch(), "negative_item": jnp.array([4, 5, 6, 1, 5, 0, 1, 3])}
  users, items = vectors(config, variables)
  ego = [np.asarray(variables["tables"][n], np.float64) for n in ("user", "item", "item")]
  expected, margins = 0.0, []
  pairs = zip(*(np.asarray(drawn[f]) for f in ("user_id", "target_item", "negative_item")), strict=True)
  for u, p, n in pairs:
    if n:  # the sixth pair found no negative
      margins.append(users[u] @ (items[p] - items[n]))
      expected += math.log1p(math.exp(-margins[-1]))
      rows = (table[i] for table, i in zip(ego, (u, p, n), strict=True))
      expected += 0.05 * sum(np.sum(row**2) for row in rows)
  objective = learner.loss(variables, drawn, jax.random.key(0))
  assert objective.weight == 7
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-5)
  np.testing.assert_allclose(objective.metrics["accuracy"][0], np.sum(np.array(margins) > 0))
  zero = {**variables, "tables": jax.tree.map(jnp.zeros_like, variables["tables"])}
  objective = learner.loss(zero, drawn, jax.random.key(0))
  np.testing.assert_allclose(objective.loss / objective.weight, math.log(2), rtol=1e-6)


def test_negatives_are_what_the_user_did_not_have(system):
  _, learner, variables = system
  draw = jax.jit(learner.draw)
  found: dict[int, set] = {1: set(), 2: set(), 3: set()}
  for seed in range(30):
    drawn = draw(variables, batch(), jax.random.key(seed))
    for user, item in zip(drawn["user_id"], drawn["negative_item"], strict=True):
      found[int(user)].add(int(item))
  for user, items in found.items():
    assert items - {0} == set(range(1, 7)) - PAIRS[user]


def test_scores_of_known_users_and_of_strangers(system):
  config, learner, variables = system
  users, items = vectors(config, variables)
  hist = jnp.array([[0, 0, 0, 1], [0, 0, 5, 2], [0, 4, 3, 2], [0, 0, 0, 0]])
  rows = {"user_id": jnp.array([1, 0, 4, 0]), "hist_item": hist, "hist_mask": hist != 0}
  rows = {**rows, "hist_item": jnp.where(hist != 0, hist, 3)}  # what stands at padding is nothing
  predict, ids = learner.predict, jnp.arange(7)
  state = predict["encode_user"](variables, rows)
  scores = predict["score_items"](variables, state, ids)
  np.testing.assert_allclose(scores[0], users[1] @ items.T, atol=1e-5)
  np.testing.assert_array_equal(scores[3], 0)
  # A user without training events is a stranger like one without an id.
  same = {**rows, "user_id": jnp.zeros(4, jnp.int32)}
  np.testing.assert_array_equal(predict["encode_user"](variables, same)[1:], state[1:])
  given = {**rows, "target_item": jnp.array([[1, 6], [4, 3], [1, 2], [1, 5]])}
  np.testing.assert_allclose(
    predict["score"](variables, given),
    np.take_along_axis(np.asarray(scores), np.asarray(given["target_item"]), 1), atol=1e-5,
  )
  if config.name == "bpr_mf":
    np.testing.assert_allclose(state[1], (items[5] + items[2]) / math.sqrt(2), atol=1e-5)
    return
  # By one more user of an empty row, in a graph whose items keep their degrees.
  edges = np.array([[i in PAIRS.get(u, ()) for i in range(7)] for u in range(5)], float)
  degree = np.maximum(edges.sum(axis=0), 1)
  ego = [np.asarray(variables["tables"][n], np.float64)[:c] for n, c in (("user", 5), ("item", 7))]
  root = 1 / np.sqrt(np.maximum(edges.sum(axis=1), 1))
  first = (root[:, None] * edges / np.sqrt(degree)).T @ ego[0]
  layers = sum(
    sum(layer[i] / math.sqrt(degree[i]) for i in (5, 2)) / math.sqrt(2) for layer in (ego[1], first)
  )
  np.testing.assert_allclose(state[1], layers / 3, atol=1e-5)


def test_preparing_changes_no_answer():
  learner, variables = start(CONFIGS["lightgcn"])
  ready = learner.predict["prepare"](variables)
  assert "propagated" not in variables
  rows = batch()
  for name in ("encode_user", "score"):
    np.testing.assert_allclose(
      learner.predict[name](ready, rows), learner.predict[name](variables, rows), atol=1e-6
    )
  assert "prepare" not in start(CONFIGS["bpr_mf"])[0].predict


def test_without_layers_the_graph_changes_nothing():
  plain, variables = start(CONFIGS["bpr_mf"])
  flat, others = start(lightgcn.Config(width=4, stddev=0.5, decay=0.1, layers=0))
  drawn = plain.draw(variables, batch(), jax.random.key(3))
  value = lambda learner, variables: learner.loss(variables, drawn, jax.random.key(0)).loss
  assert value(plain, variables) == value(flat, others)
  assert flat.whole_tables == () and start(CONFIGS["lightgcn"])[0].whole_tables == ("item", "user")


def test_gradients_reach_rows_of_the_batch_or_their_neighbourhood(system):
  config, learner, variables = system
  drawn = learner.draw(variables, batch(2), jax.random.key(1))  # user 1 with items 1 and 2
  slope = jax.jit(jax.grad(lambda t: learner.loss({**variables, "tables": t}, drawn, None).loss))(
    variables["tables"]
  )
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  np.testing.assert_array_equal(slope["item"][0], 0)
  touched = set(np.flatnonzero(np.abs(slope["user"]).max(axis=1)))
  assert touched == ({1} if config.name == "bpr_mf" else {1, 2, 3})


@pytest.mark.parametrize("name", CONFIGS)
def test_the_recommender_answers_strangers(name, tmp_path):
  learner, variables = start(CONFIGS[name])
  config = to_json(read_config_file(f"experiments/{name}.py:tiny"))
  config["model"] |= {"width": 4}
  layers = CONFIGS[name].layers if name == "lightgcn" else None
  if layers:
    config["model"] |= {"layers": layers}
  write_export(tmp_path / "export", variables, config, SCHEMA, {})
  answers = Recommender.load(tmp_path).recommend([[5, 2]], k=3)[0]
  hist = jnp.array([[0, 0, 5, 2]])
  rows = {"user_id": jnp.array([0]), "hist_item": hist, "hist_mask": hist != 0}
  state = learner.predict["encode_user"](variables, rows)
  scores = np.array(learner.predict["score_items"](variables, state, jnp.arange(7)))[0]
  scores[[0, 5, 2]] = -np.inf
  assert [a.item for a in answers] == np.argsort(-scores)[:3].tolist()


def test_mistakes_are_named():
  for name, module in MODULES.items():
    learner = module.build(CONFIGS[name], SCHEMA, {"item": np.ones(7)})
    with pytest.raises(ConfigError, match="who had what in training, which the view 'prefixes' counts"):
      learner.init(jax.random.key(0), {}, {})
    fields = {n: f for n, f in SCHEMA.fields.items() if n != "user_id"}
    with pytest.raises(ConfigError, match="The batch lacks 'user_id'"):
      module.build(CONFIGS[name], Schema(fields, SCHEMA.vocabularies), VIEW.counts)
