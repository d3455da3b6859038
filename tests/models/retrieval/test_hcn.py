"""After HCN: competition and co-attention by hand, levels, branches, losses, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.retrieval import _hcn_network as network
from recjax.models.retrieval import comirec, hcn
from recjax.nn.interests import SelfAttentiveInterests
from recjax.nn.tables import init_rows

ITEMS, LENGTH = 12, 6
SCHEMA = Schema(
  {
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("id", (), "item"),
  },
  {"item": ITEMS + 1},
)
SMALL = {
  "width": 8, "interests": 3, "short": 2, "levels": 2, "dropout": 0.0, "stddev": 0.5,
  "loss": "full_softmax",
}
# Both branches, the newest alone, all of them, nothing.
ROWS = [[0, 4, 3, 7, 1, 9], [0, 0, 0, 0, 8, 2], [5, 6, 7, 8, 9, 10], [0, 0, 0, 0, 0, 0]]
KEY = jax.random.key(5)
CENTRES = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
HISTORY = jnp.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
ALL = jnp.ones((1, 3), bool)


def update(mask, competition=True):
  return network.shares(CENTRES, HISTORY, mask, competition) @ HISTORY


def test_competition_by_hand():
  np.testing.assert_allclose(
    network.shares(CENTRES, HISTORY, ALL)[0, 0], [0.446508, 0.220159, 0.333333], atol=1e-6
  )
  found = update(ALL)
  np.testing.assert_allclose(found[0], [[0.779841, 0.553492], [0.553492, 0.779841]], atol=1e-6)
  np.testing.assert_allclose(network.square_cosines(found), [0.891092], atol=1e-5)
  plain = update(ALL, competition=False)
  np.testing.assert_allclose(plain[0, 0], [0.802224, 0.598888], atol=1e-6)
  cosines = [float(jnp.sqrt(network.square_cosines(v))[0]) for v in (found, plain)]
  np.testing.assert_allclose(cosines, [0.943977, 0.958746], atol=1e-5)
  masked = update(jnp.array([[True, True, False]]))
  np.testing.assert_allclose(masked[0], [[0.669762, 0.330238], [0.330238, 0.669762]], atol=1e-6)


def test_behaviours_are_shared_out_with_loops():
  rng = np.random.default_rng(0)
  centres, keys = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))
  mask = np.array([[True, False, True, True, False], [False] * 5])
  given = [jnp.asarray(a, jnp.float32) for a in (centres, keys)]
  found = network.shares(*given, jnp.asarray(mask))
  for b in range(2):
    share = np.zeros((3, 5))
    for l in range(5):  # noqa: E741
      if mask[b, l]:
        scores = np.exp([centres[b, k] @ keys[b, l] / 2 for k in range(3)])
        share[:, l] = scores / scores.sum()  # all of a behaviour is given away
    expected = share / np.maximum(share.sum(1, keepdims=True), 1e-8)
    np.testing.assert_allclose(found[b], expected, atol=1e-6)
  np.testing.assert_allclose(found[0].sum(1), 1, rtol=1e-6)
  np.testing.assert_array_equal(found[1], 0)
  plain = network.shares(*given, jnp.asarray(mask), competition=False)
  np.testing.assert_allclose(plain[0].sum(1), 1, rtol=1e-6)
  np.testing.assert_array_equal(plain[1], 0)


def test_co_attention_by_hand():
  long = jnp.array([[[2.0, 0.0], [0.0, 0.0]]])
  affinity, from_long, from_short = network.co_attention(jnp.eye(2)[None], long, jnp.eye(2))
  np.testing.assert_allclose(affinity[0], [[0.964028, 0], [0, 0]], atol=1e-6)
  np.testing.assert_allclose(from_long[0], [[1.447855, 0], [1, 0]], atol=1e-5)
  np.testing.assert_allclose(from_short[0], [[0.723927, 0.276073], [0.5, 0.5]], atol=1e-6)
  _, swapped, _ = network.co_attention(jnp.eye(2)[None], long[:, ::-1], jnp.eye(2))
  np.testing.assert_allclose(swapped, from_long, atol=1e-6)


def test_alikeness_of_centres():
  np.testing.assert_allclose(network.square_cosines(CENTRES), [0], atol=1e-6)
  np.testing.assert_allclose(network.square_cosines(jnp.ones((2, 3, 4))), [1, 1], rtol=1e-5)
  assert network.square_cosines(jnp.ones((1, 1, 4))) == 0
  slope = jax.grad(lambda c: network.square_cosines(c).sum())(jnp.zeros((1, 2, 3)))
  np.testing.assert_array_equal(slope, 0)


def test_without_levels_or_with_closed_gates_a_branch_is_comirec():
  history = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 8)), jnp.float32)
  mask = jnp.arange(5)[None] >= jnp.array([[0], [3]])
  flat = network.Branch(3, 2, 0, positions=5)
  variables = flat.init(jax.random.key(0), history, mask)
  extract = SelfAttentiveInterests(3, 16, 5)
  expected = extract.apply({"params": variables["params"]["attention"]}, history, mask)
  np.testing.assert_array_equal(flat.apply(variables, history, mask), expected)
  deep = network.Branch(3, 2, 2, positions=5)
  params = dict(deep.init(jax.random.key(0), history, mask)["params"])
  params["attention"] = variables["params"]["attention"]
  moved = deep.apply({"params": params}, history, mask)
  assert np.abs(moved - expected).max() > 0.01
  level = dict(params["level"])
  level["gate"] = {**level["gate"], "bias": jnp.full(8, 1e4)}
  closed = deep.apply({"params": {**params, "level": level}}, history, mask)
  np.testing.assert_allclose(closed, expected, atol=1e-6)
  own = network.Branch(3, 2, 2, share_levels=False).init(jax.random.key(0), history, mask)["params"]
  assert own.keys() == {"attention", "level_1", "level_2", "mix"}
  assert "position" not in own["attention"]


def batch(rows=ROWS):
  hist = jnp.asarray(rows, jnp.int32)
  targets = jnp.arange(5, 5 + len(rows), dtype=jnp.int32)
  return {"hist_item": hist, "hist_mask": hist != 0, "target_item": targets}


def start(**changes):
  learner = hcn.build(hcn.Config(**{**SMALL, **changes}), SCHEMA)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1)}
  return learner, {**jax.jit(learner.init)(key, tables, learner.schema.example()), "tables": tables}


@pytest.fixture(scope="module")
def system():
  learner, variables = start()
  encode = jax.jit(learner.predict["encode_user"])
  return learner, variables, encode, encode(variables, batch())


def test_branches_and_padding(system):
  _, variables, encode, state = system
  assert state.shape == (4, 6, 8)
  np.testing.assert_array_equal(state[3], 0)
  # One branch alone stands for both; two differ.
  np.testing.assert_array_equal(state[1, :3], state[1, 3:])
  assert np.abs(state[2, :3] - state[2, 3:]).max() > 1e-3
  clean = batch()
  dirty = {**clean, "hist_item": jnp.where(clean["hist_mask"], clean["hist_item"], 5)}
  np.testing.assert_array_equal(encode(variables, dirty), state)
  # What is long ago has no order; what is new has, and where the branches part matters.
  older = [[*row[:4][::-1], *row[4:]] for row in ROWS]
  np.testing.assert_allclose(encode(variables, batch(older))[2], state[2], atol=1e-5)
  newer = [[*row[:4], *row[4:][::-1]] for row in ROWS]
  assert np.abs(encode(variables, batch(newer))[2] - state[2]).max() > 1e-6
  across = [row[:3] + [row[4], row[3], row[5]] for row in ROWS]
  assert np.abs(encode(variables, batch(across))[2] - state[2]).max() > 1e-3
  # Fewer positions than the short branch takes are all new.
  few = {n: a[:2, 4:] if a.ndim == 2 else a[:2] for n, a in clean.items()}
  np.testing.assert_allclose(encode(variables, few)[1], state[1], atol=1e-6)


def test_an_empty_branch_scores_as_the_other_alone(system):
  learner, variables, _, state = system
  scores = learner.predict["score_items"](variables, state, jnp.arange(1, ITEMS + 1))
  table = variables["tables"]["item"][1:]
  np.testing.assert_allclose(scores[1], (state[1, :3] @ table.T).max(axis=0), atol=1e-5)
  assert (scores[1] < 0).any()  # which zero vectors would hide
  np.testing.assert_array_equal(scores[3], 0)


def test_the_loss_is_a_softmax_of_the_soft_read_out_and_what_is_alike(system):
  learner, variables, _, state = system
  table = np.asarray(variables["tables"]["item"], np.float64)
  state = np.asarray(state, np.float64)
  expected = 0.0
  for row, target in ((0, 5), (1, 6), (2, 7)):
    weights = np.exp(2.0 * state[row] @ table[target])
    logits = table[1:] @ (weights / weights.sum() @ state[row])
    expected += np.log(np.exp(logits).sum()) - logits[target - 1]
  def value(trained, diversity):
    own = hcn.build(hcn.Config(**{**SMALL, "diversity": diversity}), SCHEMA)
    objective = own.loss({**variables, **trained}, batch(), KEY)
    return objective.loss, objective.weight

  trained = {name: variables[name] for name in ("params", "tables")}
  slope = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)
  (plain, weight), _ = slope(trained, 0.0)
  assert weight == 3
  np.testing.assert_allclose(plain, expected, rtol=1e-4)
  (alike, _), slopes = slope(trained, 0.5)
  for leaf in jax.tree.leaves(slopes["params"]):
    assert np.isfinite(leaf).all()
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(slopes["params"]["co_interest"]))
  # Half the mean over branches, of which the second row has one.
  assert 0 < float(alike - plain) < 0.5 * 3
  assert "penalties" not in variables


@pytest.mark.parametrize(
  "changes, count",
  [({"fuse": "pair"}, 3), ({"short": 0, "share_levels": False}, 3),
   ({"co_interest": False, "competition": False, "levels": 1}, 6)],
)
def test_other_ways_keep_empty_histories_at_zero(changes, count):
  learner, variables = start(**changes)
  state = jax.jit(learner.predict["encode_user"])(variables, batch())
  assert state.shape == (4, count, 8) and np.isfinite(state).all()
  np.testing.assert_array_equal(state[3], 0)
  assert np.abs(state[:3]).max(axis=-1).min() > 0


def test_dropout_is_for_training_alone():
  learner, variables = start(dropout=0.5, short=0, levels=0)
  loss = jax.jit(learner.loss)
  first, second = (loss(variables, batch(), jax.random.key(seed)).loss for seed in (0, 1))
  assert first != second


def test_without_levels_and_branches_it_is_comirec():
  learner, variables = start(short=0, levels=0, diversity=0.0, sharpness=0.0)
  twin = comirec.build(comirec.Config(width=8, interests=3, loss="full_softmax"), SCHEMA)
  params = {"attention": {
    **variables["params"]["long"]["attention"], "position": jnp.zeros((LENGTH, 8)),
  }}
  expected = jax.jit(twin.loss)({**variables, "params": params}, batch(), KEY)
  np.testing.assert_allclose(jax.jit(learner.loss)(variables, batch(), KEY).loss, expected.loss, 1e-6)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown fusion 'sum'. Known: .*both"):
    start(fuse="sum")
  with pytest.raises(ConfigError, match="takes 6 behaviours and the view's histories hold 6"):
    start(short=6)
  with pytest.raises(ConfigError, match="Unknown loss 'bce'"):
    start(loss="bce")
