"""kNN-Embed: mixtures by hand and by a slow twin, lists in shares, strangers, the base, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest
import scipy.sparse

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import prefixes
from recjax.errors import ConfigError
from recjax.evaluate.topk import top_items
from recjax.models.retrieval import bpr_mf, knn_embed, sasrec
from recjax.models.retrieval.knn_embed import Held, queries, smoothed
from recjax.nn.sparse import sparse_rows
from recjax.nn.tables import init_rows

USERS, ITEMS, WIDTH = 9, 31, 4
PLAIN = {
  "encode_user": lambda v, batch: v["user"][batch["user_id"]],
  "encode_items": lambda v, ids: v["item"][ids],
}
CONFIG = knn_embed.Config(
  base=None, clusters=6, iterations=3, kept=6, queries=3, neighbours=2, own=0.4
)
RNG = np.random.default_rng(3)
# User 8 has no vector worth a name and no items, user 9 no items.
HAD = {u: RNG.choice(ITEMS, 5 + u % 3, replace=False) + 1 for u in range(1, 8)}
NOBODY = {"hist_item": np.zeros((1, 3), np.int32), "hist_mask": np.zeros((1, 3), bool)}


def batch_of(users, history=()):
  hist = np.zeros((len(users), 3), np.int32)
  hist[:, 3 - len(history):] = history
  return {"user_id": np.array(users, np.int32), "hist_item": hist, "hist_mask": hist != 0}


@pytest.fixture(scope="module")
def variables():
  had = [(u, i) for u, items in HAD.items() for i in items]
  rows, columns = np.array(had).T
  pairs = scipy.sparse.coo_array(
    (np.ones(len(had)), (rows, columns)), (USERS + 1, ITEMS + 1)
  ).tocsr()
  return {
    "user": jnp.asarray(RNG.normal(size=(USERS + 1, WIDTH)), jnp.float32),
    "item": jnp.asarray(RNG.normal(size=(ITEMS + 1, WIDTH)), jnp.float32).at[0].set(0.0),
    "statistics": {"engaged": jax.tree.map(jnp.asarray, sparse_rows(pairs))},
  }


def predictions(**changes):
  return knn_embed.mixture(
    dataclasses.replace(CONFIG, **changes), PLAIN, num_users=USERS, num_items=ITEMS
  )


@pytest.fixture(scope="module")
def ready(variables):
  predict = predictions()
  prepared = jax.jit(predict["prepare"])(variables)
  return predict, prepared, jax.jit(predict["encode_user"])


def slow_mixture(ready, user_vector, had, leave_out, neighbours=2, own=0.4, wanted=3):
  """(clusters, weights, queries), by loops; ready are prepared variables, had a set of items."""
  item, cluster = (np.asarray(ready["mixture"][n]) for n in ("item", "cluster"))
  vectors = np.asarray(ready["user"], np.float64)
  cosine = lambda v: v @ user_vector / np.linalg.norm(v) / np.linalg.norm(user_vector)
  near = sorted((u for u in HAD if u != leave_out), key=lambda u: -cosine(vectors[u]))[:neighbours]
  share = np.zeros(6)
  for items, weight in [(had, own if near else 1.0), *((HAD[v], (1 - own) / len(near)) for v in near)]:
    for i in items:
      share[cluster[i]] += weight / len(items)
  kept = np.argsort(-share, kind="stable")[:wanted]
  kept = kept[share[kept] > 0]
  pool = [i for items in (had, *(HAD[v] for v in near)) for i in items]
  found = [np.mean([item[i] for i in pool if cluster[i] == c], axis=0) for c in kept]
  return kept, share[kept] / share[kept].sum(), np.array(found)


def test_states_equal_a_slow_twin(ready):
  _, prepared, encode = ready
  state = encode(prepared, batch_of([1, 2, 5, 7]))
  for row, user in enumerate((1, 2, 5, 7)):
    _, weights, found = slow_mixture(prepared, np.asarray(prepared["user"][user]), HAD[user], user)
    np.testing.assert_allclose(state["weight"][row], weights, atol=1e-5)
    np.testing.assert_allclose(state["query"][row], found, atol=1e-5)


def test_people_without_training_events(ready):
  _, prepared, encode = ready
  cold = encode(prepared, batch_of([9]))  # neighbours alone
  _, weights, found = slow_mixture(prepared, np.asarray(prepared["user"][9]), [], 9)
  np.testing.assert_allclose(cold["weight"][0], weights, atol=1e-5)
  np.testing.assert_allclose(cold["query"][0], found, atol=1e-5)
  history = [int(i) for i in HAD[3][:2]]
  stranger = encode(prepared, batch_of([0], history))  # the history, and the neighbours of row 0
  _, weights, found = slow_mixture(prepared, np.asarray(prepared["user"][0]), history, 0)
  np.testing.assert_allclose(stranger["query"][0], found, atol=1e-5)
  np.testing.assert_allclose(stranger["weight"][0], weights, atol=1e-5)


def test_shares_by_hand():
  # u0 = [.5, .5, 0], neighbours [0, .5, .5] and [1, 0, 0], own = .5; one unit vector a cluster.
  count = jnp.array([[[1.0, 1, 0], [1, 1, 0], [3, 0, 0]]])
  cluster = jnp.array([[[0, 1, 2], [1, 2, 0], [0, 1, 2]]])
  vector = count[..., None] * jnp.eye(3)[cluster]
  pool = Held(cluster, count, jnp.array([[2.0, 2, 3]]), vector)
  weight = jnp.array([[0.5, 0.25, 0.25]])
  np.testing.assert_allclose(smoothed(pool, weight, 3), [[0.5, 0.375, 0.125]], rtol=1e-6)
  run = jax.jit(queries, static_argnums=(3, 4))
  state = run(pool, weight, jnp.ones((1, 3)), 3, 2)
  np.testing.assert_allclose(state["weight"], [[4 / 7, 3 / 7]], rtol=1e-6)
  np.testing.assert_allclose(state["query"], [[[1, 0, 0], [0, 1, 0]]], rtol=1e-6)
  # The centroid of [1, 0] and [0, 1] is [.5, .5].
  both = Held(*(jnp.array(x) for x in ([[[0]]], [[[2.0]]], [[2.0]], [[[[1.0, 1.0]]]])))
  np.testing.assert_allclose(
    run(both, jnp.ones((1, 1)), jnp.zeros((1, 2)), 1, 1)["query"], [[[0.5, 0.5]]]
  )


def test_without_neighbours_and_with_own_of_one(variables, ready):
  _, prepared, _ = ready
  alone = jax.jit(predictions(neighbours=0)["encode_user"])(prepared, batch_of([2, 4, 9]))
  own = jax.jit(predictions(own=1.0)["encode_user"])(prepared, batch_of([2, 4, 9]))
  # The weights are equal; queries pool the neighbours' items with own=1, too.
  np.testing.assert_allclose(alone["weight"][:2], own["weight"][:2], atol=1e-6)
  for row, user in enumerate((2, 4)):
    item, cluster = (np.asarray(prepared["mixture"][n]) for n in ("item", "cluster"))
    groups = [cluster[i] for i in HAD[user]]
    counts = np.sort(np.bincount(groups))[::-1][:3]
    np.testing.assert_allclose(alone["weight"][row], counts / counts.sum(), atol=1e-6)
    heaviest = np.argmax(np.bincount(groups))
    mean = item[[i for i in HAD[user] if cluster[i] == heaviest]].mean(0)
    np.testing.assert_allclose(alone["query"][row, 0], mean, atol=1e-5)
  # Whom nothing is known of, and nobody is asked about, has the single query.
  for state in (alone, own):
    np.testing.assert_array_equal(state["query"][2], np.tile(prepared["user"][9], (3, 1)))
    np.testing.assert_array_equal(state["weight"][2], [1, 0, 0])


def test_all_shares_are_there_before_the_cut(ready):
  """Nothing is lost where `kept` holds all clusters: the shares of someone with items sum to 1."""
  _, prepared, _ = ready
  had = jax.tree.map(lambda x: x[jnp.array([[1, 4, 6], [2, 3, 5]])], prepared["mixture"]["held"])
  shares = smoothed(had, jnp.array([[0.4, 0.3, 0.3]] * 2), 6)
  np.testing.assert_allclose(np.asarray(shares).sum(1), 1, rtol=1e-6)


def test_one_cluster_is_a_single_query_at_the_mean(variables):
  predict = predictions(clusters=1, neighbours=0)
  prepared = jax.jit(predict["prepare"])(variables)
  state = jax.jit(predict["encode_user"])(prepared, batch_of([3]))
  np.testing.assert_allclose(state["query"][0, 0], prepared["item"][HAD[3]].mean(0), atol=1e-6)
  assert state["query"].shape == (1, 1, WIDTH) and state["weight"].tolist() == [[1.0]]


def test_lists_hold_each_item_once_and_nothing_seen(ready):
  predict, prepared, encode = ready
  users = [1, 2, 5, 9]
  seen = np.zeros((4, 8), np.int32)
  for row, user in enumerate(users):
    seen[row, : len(HAD.get(user, ()))] = HAD.get(user, ())
  ranked = jax.jit(
    lambda v, b, s: top_items(predict, v, b, s, num_items=ITEMS, block=7, k=20)
  )
  ids, scores = jax.tree.map(np.asarray, ranked(prepared, batch_of(users), seen))
  state = encode(prepared, batch_of(users))
  for row, user in enumerate(users):
    assert ids[row].all() and len(set(ids[row])) == 20  # 31 items, at most 7 of them seen
    assert not set(ids[row]) & set(HAD.get(user, ()))
    # The first is the best of the heaviest query.
    products = np.array(prepared["item"] @ state["query"][row, 0])
    products[[0, *HAD.get(user, ())]] = -np.inf
    assert ids[row, 0] == products.argmax()
  np.testing.assert_array_equal(scores, np.tile(np.arange(20, 0, -1), (4, 1)))
  # A model that has diverged is told from a good one.
  unseen = next(i for i in range(1, ITEMS) if i not in seen)
  broken = {**prepared, "item": prepared["item"].at[unseen].set(jnp.nan)}
  assert np.isposinf(ranked(broken, batch_of(users), seen)[1]).all()


def test_single_items_are_scored_by_the_best_query(ready):
  predict, prepared, encode = ready
  batch = batch_of([1, 6])
  state = encode(prepared, batch)
  expected = np.max(np.einsum("bmd,nd->bmn", state["query"], prepared["item"]), axis=1)
  np.testing.assert_allclose(
    predict["score_items"](prepared, state, np.arange(ITEMS + 1)), expected, atol=1e-5
  )
  scores = jax.jit(predict["score"])(prepared, {**batch, "target_item": jnp.array([4, 30])})
  np.testing.assert_allclose(scores, expected[[0, 1], [4, 30]], atol=1e-5)


LOG = logs.log([[1, 2, 3, 5, 6], [2, 3, 4, 6, 1], [5, 2], []], num_items=6)
VIEW = prefixes.build(prefixes.Config(length=4, shortest=0), LOG, make_split(LOG, Split()))
SCHEMA = VIEW.train.schema
OVER = dataclasses.replace(CONFIG, base=bpr_mf.Config(width=4, stddev=0.5), clusters=3, neighbours=1)


def test_the_base_trains_as_it_does_alone():
  alone = bpr_mf.build(OVER.base, SCHEMA, VIEW.counts)
  learner = knn_embed.build(OVER, SCHEMA, VIEW.counts)
  tables = {
    name: init_rows(jax.random.key(i), spec, 0, 8)
    for i, (name, spec) in enumerate(sorted(learner.tables.items()))
  }
  made = learner.init(jax.random.key(0), tables, learner.schema.example())
  engaged = made["statistics"]["engaged"]
  first = range(int(engaged["indptr"][1]), int(engaged["indptr"][2]))
  assert [int(engaged["neighbour"][i]) for i in first] == [1, 2, 3]  # of user 1, without the last two
  variables = {**made, "tables": tables}
  rows = VIEW.train.gather(np, VIEW.train.columns, np.arange(4, dtype=np.int32))
  drawn = {**rows, "negative_item": np.array([4, 5, 6, 1], np.int32)}
  assert learner.loss(variables, drawn, None).loss == alone.loss(variables, drawn, None).loss
  # Prepared or not, the answer is the same.
  encode = jax.jit(learner.predict["encode_user"])
  ready = jax.jit(learner.predict["prepare"])(variables)
  both = encode(ready, rows), encode(variables, rows)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *both)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="and 'sasrec' has no table of users: take a base such as"):
    following = SCHEMA.extend(target_item=SCHEMA.fields["hist_item"])
    knn_embed.build(dataclasses.replace(OVER, base=sasrec.Config()), following, VIEW.counts)
  with pytest.raises(ConfigError, match="6 items cannot make 7 clusters: lower model.clusters."):
    knn_embed.build(dataclasses.replace(OVER, clusters=7), SCHEMA, VIEW.counts)
  learner = knn_embed.build(OVER, SCHEMA, {"item": np.ones(7)})
  with pytest.raises(ConfigError, match="who had what in training, which the view 'prefixes' counts"):
    learner.init(jax.random.key(0), {}, {})
  fields = {n: f for n, f in SCHEMA.fields.items() if n != "user_id"}
  with pytest.raises(ConfigError, match="The batch lacks 'user_id'"):
    knn_embed.build(OVER, dataclasses.replace(SCHEMA, fields=fields), VIEW.counts)
