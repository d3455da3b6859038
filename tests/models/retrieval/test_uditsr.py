"""UDITSR: the loss by hand and by loops, what depends on queries and words, strangers, mistakes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest

from recjax.config import Split
from recjax.data.schema import Schema
from recjax.data.splits import make_split
from recjax.data.views import prefixes, search_and_recommendation
from recjax.data.words import frequent_words
from recjax.errors import ConfigError
from recjax.models.retrieval import uditsr
from recjax.nn.tables import init_rows

D = 4
HISTORIES = [[1, 2, 3, 5, 6], [2, 3, 4, 6, 1], [5, 2], []]
# Two words of each event's query, user by user; the last two events of users 1 and 2 are held out.
WORDS = np.array([
  [1, 2], [0, 0], [1, 3], [2, 2], [0, 0],
  [0, 0], [4, 0], [2, 1], [0, 0], [3, 0],
  [0, 0], [2, 4],
])
TRAINED = (0, 1, 2, 5, 6, 7, 10, 11)
LOG = dataclasses.replace(
  logs.log(HISTORIES, num_items=6), columns={"a": WORDS[:, 0], "b": WORDS[:, 1]}
)
VIEW = search_and_recommendation.build(
  search_and_recommendation.Config(length=4, query=("a", "b")), LOG, make_split(LOG, Split())
)
SCHEMA = VIEW.train.schema
OWNER = np.repeat([1, 2, 3], [5, 5, 2])
EDGES = [(int(OWNER[e]), int(LOG.item[e]), WORDS[e]) for e in TRAINED]
CONFIG = uditsr.Config(width=D, stddev=0.5, user_words=2, item_words=3)


def start(config=CONFIG):
  learner = uditsr.build(config, SCHEMA, VIEW.counts)
  key = jax.random.key(0)
  tables = {
    name: init_rows(jax.random.fold_in(key, i), spec, 0, 8)
    for i, (name, spec) in enumerate(sorted(learner.tables.items()))
  }
  made = jax.jit(learner.init)(key, tables, learner.schema.example())
  noisy = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape)  # biases, too
  return learner, {**made, "params": jax.tree.map(noisy, made["params"]), "tables": tables}


class Twin:
  """The model by loops, from the joined equations."""

  def __init__(self, variables, config=CONFIG):
    read = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
    self.params, self.config = read(variables["params"]), config
    tables = read(variables["tables"])
    self.user, self.item, self.word = (tables[n] for n in ("user", "item", "word"))
    top = lambda owner, keep: {
      o: [int(w) for w in frequent_words(
        np.array([e[owner] for e in EDGES]), np.array([e[2] for e in EDGES]), 9, keep
      )[o]] for o in range(9)
    }
    self.user_words, self.item_words = top(0, config.user_words), top(1, config.item_words)
    self.final = self.propagate()

  def query(self, words):
    return sum((self.word[w] for w in words), np.zeros(D))

  def dense(self, name, x):
    p = self.params["generator"][name]
    return x @ p["kernel"] + p.get("bias", 0)

  def generated(self, u, i):
    words = [self.word[w] for w in self.user_words[u]]
    real = [self.word[w] for w in self.item_words[i] if w]
    pooled = np.zeros(D)
    if real and self.config.attention:
      key = self.dense("words_to_key", self.dense("key", np.concatenate([self.user[u], *words])))
      weights = np.exp([key @ w for w in real])
      pooled = weights / weights.sum() @ np.array(real)
    elif real:
      pooled = np.mean(real, axis=0)
    joined = np.concatenate([self.user[u], self.item[i], sum(words), pooled])
    hidden = np.tanh(self.dense("first", joined))
    return self.dense("last", np.tanh(self.dense("second", hidden)))

  def propagate(self):
    users, items = [self.user], [self.item]
    shift = [self.query(q) if q.any() else self.generated(u, i) for u, i, q in EDGES]
    for _ in range(self.config.layers):
      found = []
      for end, other, sign in ((0, items[-1], -1), (1, users[-1], 1)):
        rows = np.zeros_like(other)
        for node in range(len(rows)):
          pairs = zip(EDGES, shift, strict=True)
          mine = [other[e[1 - end]] + sign * r for e, r in pairs if e[end] == node]
          rows[node] = np.mean(mine, axis=0) if mine else 0
        found.append(rows)
      users.append(found[0])
      items.append(found[1])
    return tuple(sum(x / (l + 1) for l, x in enumerate(side)) for side in (users, items))

  def score(self, u, i, query):
    searched = bool(np.any(query))
    demand = self.query(query) if searched else self.generated(u, i)
    x = np.concatenate([self.final[0][u], self.final[1][i], demand])
    for name in ("first", "second", "last"):
      p = self.params["search" if searched else "recommend"][name]
      x = x @ p["kernel"] + p["bias"]
      x = np.where(x > 0, x, 0.01 * x)
    return x[0]

  def loss(self, u, p, n, query):
    demand = self.query(query) if query.any() else self.generated(u, p)
    value = np.logaddexp(0, self.score(u, n, query) - self.score(u, p, query))
    if query.any():
      value += 1.5 * np.mean((self.generated(u, p) - self.query(query)) ** 2)
    near = lambda j: np.mean((self.final[0][u] + demand - self.final[1][j]) ** 2)
    return value + 0.2 * np.logaddexp(0, near(p) - near(n))


@pytest.fixture(scope="module")
def drawn():
  rows = VIEW.train
  batch = rows.gather(np, rows.columns, np.arange(rows.count, dtype=np.int32))
  negative = np.array([4, 5, 6, 1, 0, 6, 1, 3], np.int32)  # the fifth pair found none
  return jax.tree.map(jnp.asarray, {**batch, "negative_item": negative})


class System:
  """Compiled functions of a learner, and of others that differ from it in a few settings."""

  def __init__(self):
    self.learner, self.variables = start()
    self.twin = Twin(self.variables)
    self.loss, self.predicted = self.compiled(self.learner)
    both = lambda learned, rest, batch: self.learner.loss({**rest, **learned}, batch, None).loss
    self._slopes = jax.jit(jax.grad(both))

  def compiled(self, learner):
    predict = learner.predict

    def everything(variables, rows, ids):
      ready = predict["prepare"](variables)
      state = predict["encode_user"](ready, rows)
      found = {
        "ready": ready["propagated"], "state": state,
        "silent": predict["encode_user"](ready, {n: x for n, x in rows.items() if n != "query_word"}),
        "catalogue": predict["score_items"](ready, state, ids),
        "score": predict["score"](variables, rows),
        "score_of_one": predict["score"](ready, {**rows, "target_item": rows["target_item"][:, 0]}),
      }
      if "demand_cosine" in predict:
        one = {**rows, "target_item": rows["target_item"][:, 0]}
        found["demand_cosine"] = predict["demand_cosine"](ready, one)
      return found

    return jax.jit(lambda variables, batch: learner.loss(variables, batch, None)), jax.jit(everything)

  def other(self, **changes):
    return self.compiled(uditsr.build(dataclasses.replace(CONFIG, **changes), SCHEMA, VIEW.counts))

  def slopes(self, batch):
    return self._slopes({n: self.variables[n] for n in ("params", "tables")}, self.variables, batch)


@pytest.fixture(scope="module")
def system():
  return System()


def test_the_view_gives_the_events(drawn):
  found = zip(*(np.asarray(drawn[n]) for n in ("user_id", "target_item", "query_word")), strict=True)
  assert [(u, i, q.tolist()) for u, i, q in found] == [(u, i, q.tolist()) for u, i, q in EDGES]


def test_loss_by_loops(system, drawn):
  names = ("user_id", "target_item", "negative_item", "query_word")
  pairs = zip(*(np.asarray(drawn[n]) for n in names), strict=True)
  expected = sum(system.twin.loss(*pair) for pair in pairs if pair[2])
  objective = system.loss(system.variables, drawn)
  assert objective.weight == 7
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-4)
  assert objective.metrics["supervision"][1] == 4  # searches among the seven


def test_equal_items_are_told_apart_by_chance(system, drawn):
  same = {**drawn, "negative_item": drawn["target_item"]}
  metrics = system.loss(system.variables, same).metrics
  np.testing.assert_allclose(metrics["bpr"][0] / 8, math.log(2), rtol=1e-6)
  np.testing.assert_allclose(0.2 * metrics["contrast"][0] / 8, 0.1386294, rtol=1e-6)


def test_contrast_by_hand():
  """One edge, e_u = [1, 0], e_i = [0, 1], q = [.5, .5]: u* and i* as read out of two layers."""
  user, item, query = (np.array(x) for x in ([[1.0, 0.0]], [[0.0, 1.0]], [0.5, 0.5]))
  read = lambda layers: sum(x / (l + 1) for l, x in enumerate(layers))
  users, items = [user], [item]
  for _ in range(2):
    users, items = [*users, items[-1] - query], [*items, users[-1] + query]
  np.testing.assert_allclose(read(users), [[1.0833333, 0.25]], rtol=1e-6)
  np.testing.assert_allclose(read(items), [[0.75, 1.5833333]], rtol=1e-6)
  # The same by the model: one search, whose word has the vector q; nobody had the negative [1, 1].
  log = dataclasses.replace(
    logs.log([[1]], num_items=3), columns={"a": np.array([1])}
  )
  split = make_split(logs.log([[1, 2, 3]], num_items=3), Split())
  view = search_and_recommendation.build(
    search_and_recommendation.Config(length=1, query=("a",)),
    log, split._replace(validation=_none(split), test=_none(split)),
  )
  learner = uditsr.build(uditsr.Config(width=2), view.train.schema, view.counts)
  tables = {
    "user": jnp.array([[0.0, 0.0], [1.0, 0.0]]), "word": jnp.array([[0.0, 0.0], [0.5, 0.5]]),
    "item": jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
  }
  made = jax.jit(learner.init)(jax.random.key(0), tables, {})
  variables = {**made, "tables": tables}
  batch = {
    "user_id": jnp.array([1]), "target_item": jnp.array([1]), "negative_item": jnp.array([2]),
    "query_word": jnp.array([[1]]),
  }
  metrics = jax.jit(lambda v: learner.loss(v, batch, None).metrics)(variables)
  np.testing.assert_allclose(np.mean((read(users) + query - read(items)) ** 2), 0.6944444, rtol=1e-6)
  np.testing.assert_allclose(0.2 * metrics["contrast"][0], 0.1939520, rtol=1e-6)


def _none(split):
  return type(split.test)(*(x[:0] for x in split.test))


def test_without_a_search_nothing_supervises(system, drawn):
  only = {**drawn, "query_word": jnp.zeros_like(drawn["query_word"])}
  for batch in (drawn, only):
    objective = system.loss(system.variables, batch)
    bpr, missed, near = (objective.metrics[n][0] for n in ("bpr", "supervision", "contrast"))
    np.testing.assert_allclose(objective.loss, bpr + 1.5 * missed + 0.2 * near, rtol=1e-5)
  assert system.loss(system.variables, drawn).metrics["supervision"][0] > 0
  assert objective.metrics["supervision"] == (0, 0)
  slopes = system.slopes(only)["params"]
  assert not np.abs(slopes["search"]["last"]["kernel"]).any()  # no row is for the search head
  assert np.abs(slopes["recommend"]["last"]["kernel"]).any()


# The last two are strangers: one with a history, one without.
ROWS = {
  "user_id": np.array([1, 2, 3, 0, 0], np.int32),
  "hist_item": np.array([[3, 1, 2, 3], [3, 3, 2, 3], [3, 3, 5, 2], [3, 3, 5, 2], [3] * 4], np.int32),
  "hist_mask": np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0] * 4], bool),
  "query_word": np.array([[1, 3], [0, 0], [2, 0], [0, 0], [0, 0]], np.int32),
  "target_item": np.array([[1, 6, 2], [4, 3, 3], [5, 1, 2], [1, 2, 3], [1, 2, 3]], np.int32),
}
IDS = np.arange(1, 7, dtype=np.int32)


@pytest.fixture(scope="module")
def predictions(system):
  return system.predicted(system.variables, ROWS, IDS)


def test_scores_of_pairs_and_of_the_catalogue(system, predictions):
  people = list(zip(ROWS["user_id"][:3], ROWS["query_word"], strict=False))
  expected = np.array([[system.twin.score(u, i, q) for i in IDS] for u, q in people])
  np.testing.assert_allclose(predictions["catalogue"][:3], expected, atol=1e-4)
  taken = np.take_along_axis(np.asarray(predictions["catalogue"]), ROWS["target_item"] - 1, 1)
  np.testing.assert_allclose(predictions["score"], taken, atol=1e-5)  # not prepared
  np.testing.assert_allclose(predictions["score_of_one"], taken[:, 0], atol=1e-5)
  cosine, weight = predictions["demand_cosine"]
  a, b = system.twin.generated(1, 1), system.twin.query(ROWS["query_word"][0])
  np.testing.assert_allclose(cosine[0], a @ b / np.linalg.norm(a) / np.linalg.norm(b), atol=1e-5)
  np.testing.assert_array_equal(weight, [1, 0, 1, 0, 0])


def test_strangers_are_made_of_their_history(system, predictions):
  """As one more user with those edges, e_u = 0 and no words would be, the items left as they are."""
  twin = system.twin
  shift = [twin.query(q) if q.any() else twin.generated(u, i) for u, i, q in EDGES]
  first = np.zeros_like(twin.item)
  for node in range(1, 7):
    mine = [twin.user[e[0]] + r for e, r in zip(EDGES, shift, strict=True) if e[1] == node]
    first[node] = np.mean(mine, axis=0) if mine else 0
  expected = sum(
    np.mean([layer[i] - twin.generated(0, i) for i in (5, 2)], axis=0) / (l + 2)
    for l, layer in enumerate((twin.item, first))
  )
  np.testing.assert_allclose(predictions["state"][3, :D], expected, atol=1e-5)
  np.testing.assert_array_equal(predictions["state"][4, :D], 0)
  # A batch without queries, as `Recommender` makes it, is one of recommendations.
  np.testing.assert_array_equal(predictions["silent"][3:], predictions["state"][3:])
  assert not predictions["silent"][:, D : 2 * D + 1].any() and predictions["state"][0, 2 * D] == 1


def test_gradients_are_finite_for_a_user_without_events(system, drawn, predictions):
  slopes = system.slopes({**drawn, "user_id": drawn["user_id"].at[0].set(4)})
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
  assert np.abs(slopes["tables"]["user"][4]).max() > 0
  np.testing.assert_array_equal(slopes["tables"]["word"][0], 0)
  own = system.variables["tables"]["user"][4]
  np.testing.assert_array_equal(predictions["ready"]["user"][4], own)


def test_the_order_of_words(system, drawn):
  """Of an item's words nothing depends on it; of a user's the key does, and only with attention."""
  variables = system.variables
  known = variables["statistics"]
  swap = lambda name: {
    **variables, "statistics": {**known, f"{name}_words": known[f"{name}_words"][:, ::-1]}
  }
  value = system.loss(variables, drawn).loss
  np.testing.assert_allclose(system.loss(swap("item"), drawn).loss, value, rtol=1e-5)
  assert abs(system.loss(swap("user"), drawn).loss - value) > 1e-4
  plain, _ = system.other(attention=False)
  flat = plain(variables, drawn).loss
  assert abs(flat - value) > 1e-4
  np.testing.assert_allclose(plain(swap("user"), drawn).loss, flat, rtol=1e-6)


def test_a_model_without_queries_does_not_look_at_them(system, drawn):
  learner = uditsr.build(dataclasses.replace(CONFIG, queries=False), SCHEMA, VIEW.counts)
  loss, predicted = system.compiled(learner)
  other = {**drawn, "query_word": drawn["query_word"][::-1]}
  assert loss(system.variables, drawn).loss == loss(system.variables, other).loss
  assert set(learner.tables) == {"user", "item"}
  shapes = jax.eval_shape(lambda key: learner.init(key, {}, {})["params"], jax.random.key(0))
  assert set(shapes) == {"recommend"}
  found = predicted(system.variables, ROWS, IDS)
  assert "demand_cosine" not in found
  taken = np.take_along_axis(np.asarray(found["catalogue"]), ROWS["target_item"] - 1, 1)
  np.testing.assert_allclose(found["score"], taken, atol=1e-5)


def test_without_translation_edges_carry_nothing(system):
  learner = uditsr.build(dataclasses.replace(CONFIG, translation=False), SCHEMA, VIEW.counts)
  ready = jax.jit(learner.predict["prepare"])(system.variables)["propagated"]
  users, items = system.twin.user, system.twin.item
  first = np.mean(items[[5, 2]], axis=0)  # user 3
  back = lambda i: np.mean([users[u] for u, j, _ in EDGES if j == i], axis=0)
  second = np.mean([back(5), back(2)], axis=0)
  np.testing.assert_allclose(ready["user"][3], users[3] + first / 2 + second / 3, atol=1e-5)


def test_the_published_width_has_as_many_weights():
  """303,802 by the authors' code; without the 100 of a bias that a softmax does not see."""
  learner = uditsr.build(uditsr.Config(), SCHEMA, VIEW.counts)
  shapes = jax.eval_shape(lambda key: learner.init(key, {}, {})["params"], jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 303_802 - 100


def test_mistakes_are_named():
  learner = uditsr.build(CONFIG, SCHEMA, {"item": np.ones(7)})
  with pytest.raises(ConfigError, match="with their queries, which the view 'search_and_recomm"):
    learner.init(jax.random.key(0), {}, {})
  plain = prefixes.build(prefixes.Config(length=4, shortest=0), LOG, make_split(LOG, Split()))
  with pytest.raises(ConfigError, match="The batch lacks 'query_word'"):
    uditsr.build(CONFIG, plain.train.schema, plain.counts)
  several = SCHEMA.extend(target_item=dataclasses.replace(SCHEMA.fields["target_item"], shape=(2,)))
  assert isinstance(several, Schema)
  with pytest.raises(ConfigError, match="several targets a row"):
    uditsr.build(CONFIG, several, VIEW.counts)
