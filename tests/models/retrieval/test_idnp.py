"""IDNP: sets that leak nothing, paths, times, switches, predictions, rows, micro-batches, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import logs
import numpy as np
import optax
import pytest
import toys

from recjax.config import Optimizer, Split, Tables, Train
from recjax.data.schema import Field, Schema
from recjax.data.splits import make_split
from recjax.data.views import interest_functions
from recjax.errors import ConfigError
from recjax.models.retrieval import idnp
from recjax.models.retrieval._function_sets import allowed_pairs, draw_sets, newest_contexts
from recjax.models.retrieval._idnp_network import windows
from recjax.nn.tables import init_rows
from recjax.train.mesh import make_mesh
from recjax.train.state import step_key
from recjax.train.step import Updater

ITEMS, LENGTH, USERS = 12, 6, 5
SMALL = idnp.Config(
  width=8, latent_width=3, window=3, heads=2, targets=3, contexts_max=4, dropout=0.0, warmup_rows=0
)


def schema(length=LENGTH, items=ITEMS):
  return Schema(
    {
      "user_id": Field("id", (), "user"),
      "hist_item": Field("ids", (length,), "item"),
      "hist_time": Field("float", (length,)),
      "hist_mask": Field("mask", (length,)),
      "hist_asked": Field("mask", (length,)),
    },
    {"item": items + 1, "user": USERS},
  )


def batch(rows, length=LENGTH):
  items = jnp.asarray(rows, jnp.int32)
  mask = items != 0
  times = jnp.where(mask, (jnp.arange(length)[None] / length) ** 2, 0.0)
  user = jnp.arange(len(rows), dtype=jnp.int32) % USERS
  return {"user_id": user, "hist_item": items, "hist_time": times, "hist_mask": mask,
          "hist_asked": mask}


ROWS = [[0, 0, 3, 7, 1, 4], [2, 4, 6, 8, 10, 12], [0, 0, 0, 0, 0, 5], [0, 0, 0, 0, 0, 0]]


def start(config=SMALL, spec=None, seed=0, scale=5.0):
  """A learner, and variables whose tables are large enough for everything to matter."""
  learner = idnp.build(config, spec or schema())
  key = jax.random.key(seed)
  sizes = learner.schema.vocabularies
  tables = {
    name: init_rows(jax.random.fold_in(key, i), table, 0, sizes[table.vocabulary]) * scale
    for i, (name, table) in enumerate(learner.tables.items())
  }
  variables = jax.jit(learner.init)(key, tables, learner.schema.example())
  return learner, {**variables, "tables": tables}


@pytest.fixture(scope="module")
def small():
  learner, variables = start()
  predict = {name: jax.jit(learner.predict[name]) for name in ("encode_user", "score")}
  value = lambda v, rows, key: learner.loss(v, rows, key).loss
  return learner, variables, predict, jax.jit(jax.value_and_grad(value))


# Sets.


def test_pairs_by_hand():
  """For target n and L = 5 the contexts n + 1 .. n + 5 hold the answer; causal bars all from n on."""
  target = jnp.array([[8]])
  free = allowed_pairs(target, 20, 5, causal=False)[0, 0]
  np.testing.assert_array_equal(np.flatnonzero(~free), [8, 9, 10, 11, 12, 13])
  causal = allowed_pairs(target, 20, 5, causal=True)[0, 0]
  np.testing.assert_array_equal(np.flatnonzero(causal), range(8))


def test_no_allowed_window_holds_the_answer():
  items = jnp.arange(1, 13)[None]
  shown = np.asarray(windows(items, 4))[0]  # [13, 4]; of event n the items before it
  np.testing.assert_array_equal(shown[0], 0)
  np.testing.assert_array_equal(shown[2], [0, 0, 1, 2])
  np.testing.assert_array_equal(shown[12], [9, 10, 11, 12])
  pairs = np.asarray(allowed_pairs(jnp.arange(12)[None], 12, 4, causal=False))[0]
  for q, c in np.argwhere(pairs):
    assert q + 1 not in shown[c] and q != c
  for q, c in np.argwhere(~pairs):
    assert q + 1 in shown[c] or q == c


@pytest.mark.parametrize("causal", [True, False])
def test_drawn_sets(causal):
  rows = batch([*ROWS, [1, 2, 3, 4, 5, 6]] * 40)
  asked = rows["hist_asked"].at[:, -1].set(False)
  draw = jax.jit(lambda key: draw_sets(
    key, rows["hist_mask"], asked, targets=3, contexts=(1, 2), least_before=2, window=2, causal=causal
  ))
  sets = jax.tree.map(np.asarray, draw(jax.random.key(0)))
  other = draw(jax.random.key(1))
  assert (sets["target_index"] != other["target_index"]).any()
  mask, sizes = np.asarray(rows["hist_mask"]), set()
  for row in range(len(mask)):
    first = LENGTH - mask[row].sum()
    targets = sets["target_index"][row][sets["target_mask"][row]]
    assert len(set(targets)) == len(targets) == min(3, max(LENGTH - 1 - first - 2, 0))
    assert all(first + 2 <= q < LENGTH - 1 for q in targets)
    contexts = np.flatnonzero(sets["pair_mask"][row].any(0))
    assert all(c > first for c in contexts) and len(contexts) <= 2
    sizes.add(len(contexts))
    for q, c in np.argwhere(sets["pair_mask"][row]):
      q = sets["target_index"][row][q]
      assert q in targets and c != q and (c < q if causal else not c - 2 <= q < c)
  assert sizes == {0, 1, 2}


def test_newest_contexts_by_hand():
  mask = jnp.array([[False, False, True, True, True, True], [False] * 5 + [True]])
  found = newest_contexts(mask, 2)[:, 0]
  np.testing.assert_array_equal(found, [[False] * 4 + [True, True], [False] * 6])
  found = newest_contexts(mask, 6)[:, 0]
  np.testing.assert_array_equal(found[0], [False] * 3 + [True] * 3)  # the first has no window


# The network.


def test_an_empty_history_is_finite_and_padding_never_matters(small):
  _, variables, predict, _ = small
  clean = batch(ROWS)
  dirty = {
    **clean,
    "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 9),
    "hist_time": jnp.where(clean["hist_mask"], clean["hist_time"], 7.0),
  }
  states = predict["encode_user"](variables, clean)
  assert np.isfinite(states).all() and states.shape == (4, 2 * 8 + 1)
  np.testing.assert_allclose(predict["encode_user"](variables, dirty), states, atol=1e-6)


def test_only_differences_of_times_matter(small):
  learner, variables, predict, _ = small
  rows = {**batch(ROWS), "query_time": jnp.full((4,), 1.5)}
  later = {**rows, "hist_time": rows["hist_time"] + 3.0, "query_time": rows["query_time"] + 3.0}
  state = predict["encode_user"](variables, rows)
  np.testing.assert_allclose(predict["encode_user"](variables, later), state, atol=1e-4)
  ahead = predict["encode_user"](variables, {**rows, "query_time": jnp.full((4,), 1.7)})
  assert np.abs(ahead - state)[:2].max(1).min() > 1e-4
  blind, _ = start(dataclasses.replace(SMALL, time="none"))
  encode = jax.jit(blind.predict["encode_user"])
  scaled = {**rows, "hist_time": rows["hist_time"] * 2, "query_time": rows["query_time"] * 3}
  np.testing.assert_array_equal(encode(variables, rows), encode(variables, scaled))
  absolute, _ = start(dataclasses.replace(SMALL, time="absolute"))
  moved = jax.jit(absolute.predict["encode_user"])
  assert np.abs(moved(variables, later) - moved(variables, rows)).max() > 1e-3


def test_a_history_without_times_has_them_evenly(small):
  _, variables, predict, _ = small
  rows = batch([ROWS[0]])
  bare = {name: rows[name] for name in ("user_id", "hist_item", "hist_mask")}
  times = jnp.array([[0, 0, 0, 1, 2, 3]]) / LENGTH
  timed = {**bare, "hist_time": times, "query_time": jnp.array([4 / LENGTH])}
  np.testing.assert_allclose(
    predict["encode_user"](variables, bare), predict["encode_user"](variables, timed), atol=1e-6
  )


def test_predictions_agree(small):
  learner, variables, predict, _ = small
  rows = batch(ROWS)
  state, ids = predict["encode_user"](variables, rows), jnp.arange(1, ITEMS + 1)
  table = learner.predict["score_items"](variables, state, ids)
  candidates = jnp.broadcast_to(ids, (4, ITEMS))
  score = predict["score"](variables, {**rows, "target_item": candidates})
  np.testing.assert_allclose(score, table, rtol=1e-4, atol=1e-5)
  one = predict["score"](variables, {**rows, "target_item": candidates[:, 3]})
  np.testing.assert_allclose(one, table[:, 3], rtol=1e-4, atol=1e-5)


def test_uncertainty_is_that_of_drawn_latents(small):
  learner, variables, _, _ = small
  rows, ids = batch(ROWS[:2]), jnp.arange(1, ITEMS + 1)
  mean, deviation = jax.jit(learner.predict["uncertainty"])(variables, rows, ids, jax.random.key(3))
  assert mean.shape == deviation.shape == (2, ITEMS)
  assert (deviation > 1e-4).all() and np.isfinite(mean).all()
  alone, _ = start(dataclasses.replace(SMALL, latent=False))
  with pytest.raises(ConfigError, match="latent=False"):
    alone.predict["uncertainty"](variables, rows, ids, jax.random.key(3))


# The objective.


def test_loss_of_a_plain_twin(small):
  learner, variables, _, _ = small
  rows = learner.draw(variables, batch(ROWS), jax.random.key(4))
  blank = {**variables["tables"], "output": jnp.zeros_like(variables["tables"]["output"]),
           "bias": jnp.zeros_like(variables["tables"]["bias"])}
  found = learner.loss({**variables, "tables": blank}, rows, jax.random.key(0))
  targets = int(rows["target_mask"].sum())
  assert found.weight == targets == 2 + 3  # 4 - 2 of the first row, 3 of the second
  likelihood, _ = found.metrics["likelihood_loss"]
  np.testing.assert_allclose(likelihood, targets * np.log(ITEMS), rtol=1e-5)
  np.testing.assert_allclose(found.loss, likelihood + 0.1 * found.metrics["w2"][0], rtol=1e-5)
  assert found.metrics["w2"][0] > 0 and found.metrics["kl"][0] > 0
  assert 0.1 < found.metrics["prior_deviation"][0] / targets < 1
  empty = (rows["target_mask"] & ~rows["pair_mask"].any(-1)).sum()
  assert found.metrics["empty_contexts"] == (empty, targets)
  assert found.mutable["schedule"]["rows"] == 4


def test_items_that_score_as_they_encode(small):
  """Scores of d_q + e_u against E are those of [d_q, e_u] against [E, E]."""
  learner, variables, _, _ = small
  tables = dict(variables["tables"])
  both = jnp.concatenate([tables["item"], tables["item"]], axis=-1)
  twin = {**variables, "tables": {**tables, "output": both}}
  del tables["output"]
  tied, _ = start(dataclasses.replace(SMALL, output="items"))
  assert sorted(tied.tables) == sorted(tables) and "item" in tied.whole_tables
  rows = learner.draw(variables, batch(ROWS), jax.random.key(4))
  one = learner.loss(twin, rows, jax.random.key(0))
  other = tied.loss({**variables, "tables": tables}, rows, jax.random.key(0))
  np.testing.assert_allclose(one.loss, other.loss, rtol=1e-6)


def test_bce_at_zero_logits_by_hand():
  config = dataclasses.replace(SMALL, loss="bce", distance_weight=0.0)
  learner, variables = start(config, scale=0.0)
  rows = learner.draw(variables, batch(ROWS), jax.random.key(4))
  negative = rows["negative_item"]
  own = (negative[..., None] == rows["hist_item"][:, None, None]).any(-1)
  assert not (own & (negative != 0)).any() and (negative == 0).any()
  rows["negative_item"] = jnp.full_like(negative, 11)
  found = learner.loss(variables, rows, jax.random.key(0))
  assert found.loss / found.weight == pytest.approx(2.7725887, abs=1e-5)


def test_gradients_reach_what_they_should(small):
  learner, variables, _, slope = small
  rows = learner.draw(variables, batch(ROWS), jax.random.key(4))
  key = jax.random.key(0)
  gradient = slope(variables, rows, key)[1]
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  for name, part in gradient["params"].items():
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(part)) > 0, name
  # Without distance, and z taken as nothing, the latent path is out of the game.
  kernel = variables["params"]["decoder_in"]["kernel"]
  assert kernel.shape[0] == 3 * 8 + 3  # r_q, code, r_d, z
  silent = {**variables["params"]["decoder_in"], "kernel": kernel.at[-3:].set(0.0)}
  muted = {**variables, "params": {**variables["params"], "decoder_in": silent}}
  free = {**rows, "distance_weight": jnp.zeros_like(rows["distance_weight"])}
  gradient = slope(muted, free, key)[1]["params"]
  for name in ("latent", "latent_token"):
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient[name]))
  gradient = slope(muted, rows, key)[1]["params"]
  assert any(leaf.any() for leaf in jax.tree.leaves(gradient["latent"]))


def test_the_weight_of_the_distance_grows_with_the_rows_seen():
  learner, variables = start(dataclasses.replace(SMALL, warmup_rows=8))
  for seen, weight in ((0, 0.0), (2, 0.025), (8, 0.1), (80, 0.1)):
    variables["schedule"] = {"rows": jnp.float32(seen)}
    drawn = learner.draw(variables, batch(ROWS), jax.random.key(0))
    np.testing.assert_allclose(drawn["distance_weight"], weight, rtol=1e-6)


SWITCHES = [
  {"latent": False, "distance": "function", "user_embedding": "zero", "query_aware": False},
  {"deterministic": False, "distance": "kl", "latent_source": "posterior", "causal": False},
  {"deterministic": False, "latent": False, "attention": False, "dilated": False},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s))
def test_switches(switches):
  """What is off is not there; what is on has finite gradients that are not all zero."""
  config = dataclasses.replace(SMALL, dropout=0.1, **switches)
  learner, variables = start(config)

  @jax.jit
  def run(variables):
    rows = learner.draw(variables, batch(ROWS), jax.random.key(1))
    value = lambda v: (lambda o: (o.loss, o.metrics))(learner.loss(v, rows, jax.random.key(2)))
    return jax.value_and_grad(value, has_aux=True)(variables)

  (loss, metrics), slope = run(variables)
  assert np.isfinite(loss) and ("user" in slope["tables"]) == (config.user_embedding == "table")
  for name, part in slope["params"].items():
    assert np.isfinite(jax.tree.leaves(part)[0]).all()
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(part)) > 0, name
  names = slope["params"].keys()
  assert ("deterministic" in names) == config.deterministic == ("context_entropy" in metrics)
  assert ("latent" in names) == config.latent == ("w2" in metrics)
  assert ("scale" in slope["params"]["encoder"]) == config.attention
  assert ("function" in metrics) == (config.distance == "function")


def updater(config, **changes):
  spec = schema()
  learner = idnp.build(config, spec)
  settings = toys.config(mesh=toys.Mesh(data=8), optimizer=Optimizer(name="sgd", learning_rate=0.1))
  settings = dataclasses.replace(settings, **changes)
  return Updater(learner, settings, spec, make_mesh(settings.mesh), 10)


def test_micro_batches_give_the_step_of_the_whole_batch():
  rows = batch([*ROWS, *ROWS[::-1]] * 2)
  states = []
  for parts in (1, 2):
    config = dataclasses.replace(SMALL, loss="bce")
    made = updater(config, train=Train(batch_size=16, steps=10, micro_batches=parts))
    state = jax.jit(made.create)(np.uint32(3))
    states.append(jax.jit(made.update)(state, rows))
  left, right = (state.variables for state in states)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), left, right)
  assert left["schedule"]["rows"] == 16


def test_rows_are_the_dense_step_by_another_rule():
  """With bce only named rows move, and the loss is that of whole tables."""
  config = dataclasses.replace(SMALL, loss="bce")
  found, given = {}, batch(ROWS * 2)
  for training in ("dense", "rows"):
    made = updater(
      config, train=Train(batch_size=8, steps=10), tables=Tables(training=training)
    )
    before = jax.jit(made.create)(np.uint32(3))
    after = jax.jit(made.update)(before, given)
    found[training] = made, before, after
  dense, rows = (found[name][2].window["loss"] for name in ("dense", "rows"))
  np.testing.assert_allclose(dense, rows, rtol=1e-5)
  made, before, after = found["rows"]
  draw_key, _ = jax.random.split(step_key(before.seed, before.step))
  drawn = made.learner.draw(before.variables, given, draw_key)
  named = np.union1d(np.ravel(drawn["hist_item"]), np.ravel(drawn["negative_item"]))
  for name in ("item", "output", "bias"):
    was, now = before.variables["tables"][name], after.variables["tables"][name]
    moved = np.flatnonzero(np.any(was != now, axis=1))
    assert len(moved) and 0 not in moved and np.isin(moved, named).all(), name


# Learning.


def train(config, length, items, make, steps=200, rate=5e-3):
  """Mean likelihood loss of the last 40 of `steps` steps on rows from make(key) [64, length]."""
  spec = schema(length, items)
  learner, variables = start(config, spec, scale=1.0)
  optimizer = optax.adam(rate)
  trained = {name: variables[name] for name in ("params", "tables")}

  def step(carry, key):
    trained, state = carry
    rows = batch(make(key), length)
    now = {**variables, **trained}
    rows = learner.draw(now, rows, key)

    def mean(trained):
      found = learner.loss({**now, **trained}, rows, key)
      value, weight = found.metrics["likelihood_loss"]
      return found.loss / found.weight, value / weight

    slope, value = jax.grad(mean, has_aux=True)(trained)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
      update, state = optimizer.update(slope, state)
    return (optax.apply_updates(trained, update), state), value

  keys = jax.random.split(jax.random.key(1), steps)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[1])
  return float(np.mean(run((trained, optimizer.init(trained)))[-40:]))


@pytest.mark.parametrize("causal", [True, False])
def test_nothing_is_learnt_where_there_is_nothing_to_learn(causal, monkeypatch):
  """Items drawn independently: the loss stays at ln N. Without the mask the random split leaks."""
  items, length = 8, 8
  config = dataclasses.replace(
    SMALL, width=16, window=2, causal=causal, targets=4, contexts_max=8, user_embedding="zero",
    contexts_min=8, attention=False,
  )
  make = lambda key: jax.random.randint(key, (64, length), 1, items + 1)
  assert train(config, length, items, make) >= np.log(items) - 0.01
  if not causal:
    bare = lambda targets, length, window, causal: jnp.ones((*targets.shape, length), bool)
    monkeypatch.setattr("recjax.models.retrieval._function_sets.allowed_pairs", bare)
    assert train(config, length, items, make) < np.log(items) - 0.2


def test_the_encoder_alone_follows_two_interests_that_take_turns():
  """What follows depends on the item before the last one: a window of one cannot know it."""
  items, length = 8, 8
  alone = dataclasses.replace(
    SMALL, width=16, window=4, kernel=2, dilations=(1,), deterministic=False, latent=False,
    time="none", user_embedding="zero", targets=4,
  )

  def make(key):
    # Interest A walks on items 1 .. 4, B on 5 .. 8; they take turns.
    start = jax.random.randint(key, (64, 2), 0, 4)
    turn = jnp.arange(length)
    own = start[:, turn % 2]
    return 1 + (own + turn[None] // 2) % 4 + 4 * (turn % 2)[None]

  assert train(alone, length, items, make) < 0.2
  assert train(dataclasses.replace(alone, window=1), length, items, make) > np.log(4) - 0.05


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"loss": "softmax"}, "Unknown loss 'softmax'"),
    ({"distance": "w1"}, "Unknown distance 'w1'"),
    ({"time": "relativ"}, "Did you mean 'relative'"),
    ({"user_embedding": "none"}, "Unknown user_embedding 'none'"),
    ({"output": "item"}, "Did you mean 'items'"),
    ({"latent_source": "post"}, "Did you mean 'posterior'"),
    ({"contexts_min": 9}, "contexts_min <= contexts_max, not 9 and 4"),
    ({"targets": 7}, "Of rows of 6 events, 1 to 6 are targets, not 7"),
    ({"dilations": ()}, "needs dilations"),
    ({"heads": 3}, "3 heads cannot share the width 8 evenly"),
  ],
)
def test_mistakes_are_named(changes, message):
  with pytest.raises(ConfigError, match=message):
    idnp.build(dataclasses.replace(SMALL, **changes), schema())


def test_another_view_is_refused():
  fields = {"user_id": Field("id", (), "user"), "hist_item": Field("ids", (5,), "item")}
  with pytest.raises(ConfigError, match="lacks 'hist_time', 'hist_mask', 'hist_asked'"):
    idnp.build(SMALL, Schema(fields, {"item": 5, "user": 3}))


def test_rows_of_the_view_fit():
  """These tests speak of the batches that the view gives."""
  log = logs.log([[1, 2, 3, 4, 5], [3, 4, 5, 6, 7]], num_items=ITEMS)
  view = interest_functions.build(
    interest_functions.Config(length=LENGTH), log, make_split(log, Split())
  )
  assert view.train.schema.fields == schema().fields
