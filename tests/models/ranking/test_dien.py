"""DIEN: the auxiliary loss by hand and as drawn, what sees what, variants, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import (
  CATEGORIES,
  ITEMS,
  LENGTH,
  category,
  compact,
  make_batch,
  random_variables,
  schema,
  with_target,
)

from recjax.errors import ConfigError
from recjax.models.ranking import dien
from recjax.nn.gru import EVOLUTIONS

SMALL = dien.Config(item_width=4, category_width=3, hidden=(6, 5), stddev=0.5)
CODE = dataclasses.replace(
  SMALL, attention="mlp", attention_hidden=(5, 4), evolution="augru_code", auxiliary_head="mlp",
  auxiliary_hidden=(5, 4), state_width=5, state_times_v=False, norm="affine",
)
KEY = jax.random.key(0)


class Compiled:
  """A learner of which each function is compiled once a shape, and random variables for it."""

  def __init__(self, config, spec=None):
    self.learner = dien.build(config, spec or schema())
    self.variables = random_variables(self.learner)
    self.predict = {name: jax.jit(f) for name, f in self.learner.predict.items()}
    self.loss = jax.jit(self.learner.loss)
    self.slope = jax.jit(jax.grad(lambda v, b: self.learner.loss(v, b, KEY).loss))

  def drawn(self, batch):
    """The batch with behaviours drawn for the auxiliary loss."""
    return self.learner.draw(self.variables, batch, KEY)


@pytest.fixture(scope="module")
def paper():
  return Compiled(SMALL)


def test_auxiliary_loss_by_hand():
  states = jnp.array([[[0.5, -1.0], [0.0, 2.0]]])
  positive = jnp.sum(states * jnp.array([[[1.0, 1.0], [1.0, 0.5]]]), -1)
  negative = jnp.sum(states * jnp.array([[[-1.0, 0.0], [2.0, 1.0]]]), -1)
  np.testing.assert_allclose(positive, [[-0.5, 1.0]])
  np.testing.assert_allclose(negative, [[-0.5, 2.0]])
  yes = jnp.ones((1, 2), bool)
  loss = lambda valid, rivals: dien.next_behaviour_loss(positive, negative, valid, rivals)
  np.testing.assert_allclose(loss(yes, yes), [1.944172], atol=1e-6)
  np.testing.assert_allclose(loss(yes.at[0, 1].set(False), yes), [1.448154], atol=1e-6)
  np.testing.assert_allclose(loss(yes & False, yes), [0.0])
  np.testing.assert_allclose(
    dien.next_behaviour_loss(0 * positive, 0 * negative, yes, yes), [2 * np.log(2)], rtol=1e-6
  )
  alone = loss(yes, yes & False)
  np.testing.assert_allclose(alone, [np.mean(np.log1p(np.exp([0.5, -1.0])))], rtol=1e-6)


def test_drawn_behaviours_are_those_of_counted_rows_as_often_as_there():
  rows = 500
  batch = make_batch(rows=rows)
  weight = jnp.arange(rows) % 2
  batch = {**batch, "weight": weight.astype(jnp.float32)}
  drawn = dien.draw_behaviours(batch, KEY, ("item", "cat"))
  item, mask = np.asarray(drawn["negative_item"]), np.asarray(batch["hist_mask"])
  assert (item[~mask] == 0).all() and (item != np.where(mask, batch["hist_item"], -1)).all()
  np.testing.assert_array_equal(drawn["negative_cat"], category(item))
  there = np.bincount(np.asarray(batch["hist_item"])[mask & (weight[:, None] > 0)], minlength=31)
  assert not there[np.unique(item[item > 0])].min() == 0
  # Left out are those drawn for themselves: one in about 30.
  assert 0.9 < (item[mask] > 0).mean() < 1.0
  share = np.bincount(item[item > 0], minlength=31) / (item > 0).sum()
  np.testing.assert_allclose(share, there / there.sum(), atol=0.02)
  nobody = dien.draw_behaviours({**batch, "weight": jnp.zeros(rows)}, KEY, ("item",))
  assert nobody["negative_item"].shape == mask.shape


@pytest.mark.parametrize("config", [SMALL, CODE], ids=["paper", "code"])
def test_objective_is_log_loss_and_alpha_times_the_auxiliary_loss(config):
  batch = make_batch(rows=5)
  batch = {**batch, "weight": jnp.array([1.0, 1.0, 0.5, 1.0, 0.0])}
  made = {}
  for weight in (0.0, 0.5, 2.0):
    case = Compiled(dataclasses.replace(config, auxiliary_weight=weight))
    assert (case.learner.draw is not None) == (weight > 0)
    made[weight] = case.loss(case.variables, case.drawn(batch) if weight else batch, KEY)
  half, twice = made[0.5], made[2.0]
  part = half.metrics["auxiliary_loss"][0]
  assert half.weight == 3.5 and part > 0
  np.testing.assert_allclose(half.loss, half.metrics["log_loss"][0] + 0.5 * part, rtol=1e-6)
  np.testing.assert_allclose(twice.loss - half.loss, 1.5 * part, rtol=1e-5)
  if config is SMALL:  # the head of the other draws its weights from the same sequence
    np.testing.assert_allclose(made[0.0].loss, half.metrics["log_loss"][0], rtol=1e-6)


def test_auxiliary_loss_equals_loops(paper):
  batch = paper.drawn(make_batch(rows=4))
  got = paper.loss(paper.variables, batch, KEY).metrics
  tables = {name: np.asarray(t) for name, t in paper.variables["tables"].items()}
  vector = lambda item: np.concatenate([tables["item"][item], tables["category"][category(item)]])
  params = jax.tree.map(np.asarray, paper.variables["params"]["extractor"])
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  total, ahead, count = 0.0, 0, 0
  for row in range(4):
    state, losses = np.zeros(7), []
    places = np.flatnonzero(batch["hist_mask"][row])
    for number, place in enumerate(places):
      x = vector(int(batch["hist_item"][row, place]))
      if number:
        drawn = int(batch["negative_item"][row, place])
        losses.append(np.log1p(np.exp(-state @ x)))
        if drawn:
          losses[-1] += np.log1p(np.exp(state @ vector(drawn)))
          ahead, count = ahead + (state @ x > state @ vector(drawn)), count + 1
      inputs = x @ params["input"]["kernel"] + params["input"]["bias"]
      within = state @ params["recurrent"]
      reset, keep = sigmoid(inputs[:7] + within[:7]), sigmoid(inputs[7:14] + within[7:14])
      new = np.tanh(inputs[14:] + reset * (within[14:] + params["candidate_bias"]))
      state = (1 - keep) * new + keep * state
    total += np.mean(losses) if losses else 0.0
  np.testing.assert_allclose(got["auxiliary_loss"][0], total, rtol=1e-4)
  assert got["next_told_apart"] == (ahead, count) and count


def test_scores_need_no_drawn_behaviours(paper):
  batch = make_batch()
  plain = paper.predict["score"](paper.variables, batch)
  np.testing.assert_array_equal(paper.predict["score"](paper.variables, paper.drawn(batch)), plain)


def test_the_order_of_the_history_matters_and_the_target_chooses(paper):
  batch = make_batch(rows=1)
  batch |= {"hist_mask": jnp.ones((1, LENGTH), bool), "hist_item": jnp.arange(1, 7)[None]}
  batch["hist_cat"] = category(batch["hist_item"])
  strong = {**paper.variables, "tables": jax.tree.map(lambda t: 5 * t, paper.variables["tables"])}
  score = lambda b: paper.predict["score"](strong, b)
  turned = {**batch, **{n: batch[n][:, ::-1] for n in ("hist_item", "hist_cat")}}
  assert abs(score(turned) - score(batch)) > 1e-4
  weights = paper.predict["explain"](paper.variables, batch)
  np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
  other = with_target(batch, batch["target_item"] % ITEMS + 1)
  assert np.abs(paper.predict["explain"](paper.variables, other) - weights).max() > 1e-3


def test_a_single_behaviour_has_all_the_attention_and_no_auxiliary_loss(paper):
  batch = make_batch(rows=2)
  batch["hist_mask"] = jnp.zeros((2, LENGTH), bool).at[:, -1].set(True)
  weights = paper.predict["explain"](paper.variables, batch)
  np.testing.assert_array_equal(weights, [[0, 0, 0, 0, 0, 1]] * 2)
  drawn = paper.drawn(batch)
  assert paper.loss(paper.variables, drawn, KEY).metrics["auxiliary_loss"][0] == 0
  slope = paper.slope(paper.variables, drawn)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("evolution", ("gru", *EVOLUTIONS))
def test_variants_differ(evolution, paper):
  case = Compiled(dataclasses.replace(SMALL, evolution=evolution))
  batch = make_batch()
  scores = case.predict["score"](case.variables, batch)
  same = np.allclose(scores, paper.predict["score"](paper.variables, batch), atol=1e-6)
  assert same == (evolution == SMALL.evolution)


def test_compact_ids_give_the_same_loss(paper):
  batch = paper.drawn(make_batch())
  small, rows = compact(paper.learner, batch)
  tables = {name: table[rows[name]] for name, table in paper.variables["tables"].items()}
  whole = paper.loss(paper.variables, batch, KEY)
  part = paper.loss({**paper.variables, "tables": tables}, small, KEY)
  np.testing.assert_allclose(part.loss, whole.loss, rtol=1e-6)


def test_parameter_counts_of_the_code_sizes():
  # Each unit 36 wide has 3 * 36 * (36 + 36 + 1) = 7,884 parameters, and the form with the reset gate
  # after the product one more bias of 36.
  config = dien.Config(item_width=18, category_width=18, attention="mlp", hidden=(200, 80))
  learner = dien.build(config, schema())
  tables = {"item": jnp.zeros((ITEMS + 1, 18)), "category": jnp.zeros((CATEGORIES + 1, 18))}
  params = jax.eval_shape(learner.init, KEY, tables, learner.schema.example())["params"]
  size = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}
  assert size["extractor"] == size["evolving"] == 7_884 + 36
  assert size["query"] + size["query_activation"] + size["unit"] == (
    36 * 36 + 36 + 36 + 144 * 80 + 80 + 80 * 40 + 40 + 41
  )


def test_mistakes_are_named():
  build = lambda **changes: dien.build(dataclasses.replace(SMALL, **changes), schema())
  with pytest.raises(ConfigError, match="Unknown attention 'mpl'. Did you mean 'mlp'"):
    build(attention="mpl")
  with pytest.raises(ConfigError, match="Unknown evolution 'augro'"):
    build(evolution="augro")
  with pytest.raises(ConfigError, match="Unknown auxiliary_head 'cosine'"):
    build(auxiliary_head="cosine")
  with pytest.raises(ConfigError, match="'dot' .* state_width must be 7, the width of an item, not 5"):
    build(state_width=5)
  with pytest.raises(ConfigError, match="state_times_v=True multiplies states with items"):
    build(state_width=5, auxiliary_head="mlp")
  with pytest.raises(ConfigError, match="attention_hidden must name"):
    build(attention="mlp", attention_hidden=())
  with pytest.raises(ConfigError, match="Unknown norm"):
    build(norm="lair")
