"""FairRec: numbers by hand, what each term reaches, the adversary's two forms, serving, padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.data.counts import TrainingCounts
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.ranking import fairrec
from recjax.models.ranking._fairrec_network import cosine, of_length
from recjax.nn.gradient_reversal import reverse_gradient
from recjax.nn.tables import init_rows

ITEMS, LENGTH, NEGATIVES, WIDTH = 20, 6, 4, 8
SMALL = fairrec.Config(
  width=WIDTH, heads=2, query=5, dropout=0.0, stddev=0.5, discriminator_hidden=3,
  lambda_predict=0.3, lambda_orthogonal=0.7, lambda_adversary=0.4,
)
SCHEMA = Schema(
  {
    "hist_item": Field("ids", (LENGTH,), "item"),
    "hist_mask": Field("mask", (LENGTH,)),
    "target_item": Field("ids", (1 + NEGATIVES,), "item"),
    "attribute": Field("id", (), "attribute"),
  },
  {"item": ITEMS + 1, "attribute": 3, "word": 8},
)


def make_batch(rows=7, seed=0):
  rng = np.random.default_rng(seed)
  mask = np.arange(LENGTH) >= LENGTH - rng.integers(1, LENGTH + 1, rows)[:, None]
  return {
    "hist_item": jnp.asarray(np.where(mask, rng.integers(1, ITEMS + 1, mask.shape), 0), jnp.int32),
    "hist_mask": jnp.asarray(mask),
    "target_item": jnp.asarray(rng.integers(1, ITEMS + 1, (rows, 1 + NEGATIVES)), jnp.int32),
    "attribute": jnp.asarray(np.arange(rows) % 2 + 1, jnp.int32),
  }


def made(counts=None, **changes):
  """A learner of compiled functions, its variables with tables, and a batch."""
  learner = fairrec.build(dataclasses.replace(SMALL, **changes), SCHEMA, counts)
  compiled = {name: jax.jit(function) for name, function in learner.predict.items()}
  learner = learner._replace(
    init=jax.jit(learner.init), loss=jax.jit(learner.loss), predict=compiled
  )
  tables = {
    name: init_rows(jax.random.key(1), spec, 0, SCHEMA.vocabularies[spec.vocabulary])
    for name, spec in learner.tables.items()
  }
  batch = make_batch()
  variables = learner.init(jax.random.key(0), tables, batch)
  # The state's collections hold the tables beside what init gives.
  assert "tables" not in variables
  return learner, {**variables, "tables": tables}, batch


@pytest.fixture(scope="module")
def full():
  learner, variables, batch = made()
  loss = lambda v, b: learner.loss(v, b, jax.random.key(2))
  trained = lambda v: {k: v[k] for k in ("params", "tables")}
  gradient = jax.jit(
    lambda v, b: jax.grad(lambda t: learner.loss({**v, **t}, b, jax.random.key(2)).loss)(trained(v))
  )
  return learner, variables, batch, loss, gradient


def test_cosines_by_hand():
  left = jnp.array([[1.0, 2, 2], [1, 2, 2], [0, 0, 0]])
  right = jnp.array([[2.0, -2, 1], [2, 1, 2], [1, 2, 3]])
  value, slope = jax.value_and_grad(lambda l: jnp.abs(cosine(l, right)).sum())(left)
  np.testing.assert_allclose(cosine(left, right), [0, 8 / 9, 0], atol=1e-6)
  assert float(jnp.abs(cosine(left, right))[:2].mean()) == pytest.approx(0.4444444, abs=1e-6)
  assert value == pytest.approx(8 / 9, abs=1e-6) and np.isfinite(slope).all() and not slope[2].any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(0.01, 100))
def test_cosine_is_symmetric_scale_free_and_bounded(seed, a, b):
  left, right = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 5, 4)), jnp.float32)
  value = np.asarray(cosine(left, right))
  np.testing.assert_allclose(cosine(right, left), value, atol=1e-6)
  np.testing.assert_allclose(cosine(a * left, b * right), value, atol=1e-5)
  assert (np.abs(value) <= 1 + 1e-6).all()


def test_of_length():
  vectors = jnp.array([[3.0, 4], [0, 0], [-0.03, 0.04]])
  np.testing.assert_allclose(of_length(vectors, 4.0), [[2.4, 3.2], [0, 0], [-2.4, 3.2]], rtol=1e-6)
  slope = jax.grad(lambda v: jnp.sum(of_length(v, 4.0) * jnp.array([[1.0, 2.0]])))(vectors)
  assert np.isfinite(slope).all() and not slope[1].any()
  # A longer vector gains the adversary nothing: the gradient has no part along the vector.
  np.testing.assert_allclose(jnp.sum(slope * vectors, axis=-1), 0, atol=1e-5)


def test_session_loss_by_hand():
  every = jnp.ones((1, 5), bool)
  scores = jnp.array([[0.3, 0.1, -0.2, 0.0, 0.5]])
  assert float(fairrec.session_loss(scores, every)[0]) == pytest.approx(1.4787556, abs=1e-6)
  assert float(fairrec.session_loss(0 * scores, every)[0]) == pytest.approx(np.log(5), abs=1e-6)
  # Candidates that are padding do not compete.
  some = jnp.array([[True, True, False, False, True]])
  expected = np.log(np.exp([0.3, 0.1, 0.5]).sum()) - 0.3
  assert float(fairrec.session_loss(scores, some)[0]) == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_the_sum_of_its_terms(full):
  _, variables, batch, loss, _ = full
  value, weight, metrics, _ = loss(variables, batch)
  part = lambda name: float(metrics[name][0])
  assert float(weight) == 7 and float(metrics["predictor_loss"][1]) == 7
  expected = (
    part("recommendation") + 0.3 * part("predictor_loss") + 0.7 * part("abs_cosine")
    - 0.4 * part("discriminator_loss")
  )
  assert float(value) == pytest.approx(expected, rel=1e-5)


def test_heads_of_zeros_know_nothing(full):
  learner, variables, batch, _, _ = full
  zero = lambda tree: jax.tree.map(jnp.zeros_like, tree)
  for adversary in fairrec.ADVERSARIES:
    own, start, _ = made(adversary=adversary, discriminator_rate=0.0)
    params = {**start["params"], "predictor": zero(start["params"]["predictor"])}
    if adversary == "alternating":
      start["adversary"] = {**start["adversary"], "params": zero(start["adversary"]["params"])}
    else:
      params["discriminator"] = zero(params["discriminator"])
    metrics = own.loss({**start, "params": params}, batch, jax.random.key(0)).metrics
    for name in ("predictor_loss", "discriminator_loss"):
      assert float(metrics[name][0] / metrics[name][1]) == pytest.approx(0.6931472, abs=1e-6)
  # Users of zeros score all candidates alike.
  empty = {**variables, "tables": zero(variables["tables"])}
  metrics = learner.loss(empty, batch, jax.random.key(0)).metrics
  assert float(metrics["recommendation"][0] / 7) == pytest.approx(1.6094379, abs=1e-6)


def test_main_step_leaves_the_discriminator_alone_and_turns_its_gradient_round(full):
  learner, variables, batch, *_ = full
  key = jax.random.key(2)

  def total(params):
    own = {**variables, "adversary": {**variables["adversary"], "params": params}}
    return learner.loss(own, batch, key).loss

  for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(variables["adversary"]["params"])):
    np.testing.assert_array_equal(leaf, 0.0)

  def gradient(**changes):
    own, start, _ = made(lambda_predict=0.0, lambda_orthogonal=0.0, **changes)
    params = {**variables["params"]}
    params.pop("predictor")
    if changes.get("adversary") == "reversal":
      params["discriminator"] = variables["adversary"]["params"]
    start = {**start, "params": params, "tables": variables["tables"]}
    if "adversary" in start:
      start["adversary"] = variables["adversary"]
    value = lambda p: own.loss({**start, "params": p}, batch, key).loss
    return jax.jit(jax.grad(value))(params)

  free = dict(discriminator_rate=0.0)
  plain = gradient(lambda_adversary=0.0)["bias_free"]
  once = gradient(lambda_adversary=0.4, **free)["bias_free"]
  twice = gradient(lambda_adversary=0.8, **free)["bias_free"]
  reversal = gradient(lambda_adversary=0.4, adversary="reversal")
  close = lambda a, b: jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), a, b)
  # Proportional to lambda, and the same by either way.
  close(jax.tree.map(lambda p, x: 2 * (x - p), plain, once), jax.tree.map(jnp.subtract, twice, plain))
  close(reversal["bias_free"], once)
  assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(
    jax.tree.leaves(plain), jax.tree.leaves(once), strict=True
  ))
  # With reversal the discriminator itself descends L_A, whatever lambda_A is.
  seen = of_length(learner.predict["bias_free"](variables, batch), 4.0)
  params = variables["adversary"]["params"]

  def guessed(params, seen):
    logits = jnp.tanh(seen @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    logits = logits @ params["output"]["kernel"] + params["output"]["bias"][None]
    label = jnp.maximum(batch["attribute"] - 1, 0)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).sum()

  close(reversal["discriminator"], jax.grad(guessed)(params, seen))


def test_reversal_by_finite_differences():
  x = jnp.array([0.3, -1.2])
  square = lambda x: jnp.sum(reverse_gradient(x, 0.5) ** 2)
  assert float(square(x)) == pytest.approx(1.53)
  slope = [(square(x.at[i].add(1e-2)) - square(x.at[i].add(-1e-2))) / 2e-2 for i in range(2)]
  np.testing.assert_allclose(jax.grad(square)(x), -0.5 * np.asarray(slope), rtol=1e-3)


def test_discriminator_steps_are_adam_by_hand(full):
  """Three updates on what u^d shows, written again plainly, for a linear discriminator."""
  learner, variables, batch = made(discriminator_hidden=0, discriminator_rate=0.01)
  batch = {**batch, "attribute": batch["attribute"].at[2].set(0)}
  seen = np.asarray(of_length(learner.predict["bias_free"](variables, batch), 4.0), np.float64)
  known = np.asarray(batch["attribute"]) > 0
  truth = np.eye(2)[np.maximum(np.asarray(batch["attribute"]) - 1, 0)]
  head = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["adversary"]["params"]["output"])
  mean = {n: np.zeros_like(p) for n, p in head.items()}
  square = {n: np.zeros_like(p) for n, p in head.items()}
  for step in range(1, 4):
    logits = seen @ head["kernel"] + head["bias"]
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (share - truth) * known[:, None] / known.sum()
    for name, slope in (("kernel", seen.T @ error), ("bias", error.sum(0))):
      mean[name] = 0.9 * mean[name] + 0.1 * slope
      square[name] = 0.999 * square[name] + 0.001 * slope**2
      corrected = mean[name] / (1 - 0.9**step), square[name] / (1 - 0.999**step)
      head[name] = head[name] - 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
  after = learner.loss(variables, batch, jax.random.key(2)).mutable["adversary"]
  assert after["count"] == 3
  for name in head:
    np.testing.assert_allclose(after["params"]["output"][name], head[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["mean"]["output"][name], mean[name], rtol=1e-3, atol=1e-7)


def test_serving_knows_neither_attribute_nor_the_bias_aware_user(full):
  learner, variables, batch, *_ = full
  served = {name: batch[name] for name in ("hist_item", "hist_mask")}
  state = learner.predict["encode_user"](variables, served)
  noise = jax.tree.map(lambda a: a + 1.0, variables["params"]["bias_aware"])
  other = {**variables, "params": {**variables["params"], "bias_aware": noise}}
  np.testing.assert_array_equal(learner.predict["encode_user"](other, served), state)
  assert np.abs(
    learner.predict["bias_aware"](other, served) - learner.predict["bias_aware"](variables, served)
  ).max() > 0.1
  score = learner.predict["score"](variables, {**served, "target_item": batch["target_item"]})
  whole = learner.predict["score_items"](variables, state, jnp.arange(ITEMS + 1))
  np.testing.assert_allclose(
    score, jnp.take_along_axis(whole, batch["target_item"], axis=1), atol=1e-5
  )
  one = learner.predict["score"](variables, {**served, "target_item": batch["target_item"][:, 0]})
  np.testing.assert_allclose(one, score[:, 0], atol=1e-6)


def test_padding_and_order_change_nothing(full):
  learner, variables, batch, *_ = full
  order = np.random.default_rng(3).permutation(LENGTH)
  filled = jnp.where(batch["hist_mask"], batch["hist_item"], 7)
  for name in ("bias_free", "bias_aware"):
    encode = learner.predict[name]
    users = encode(variables, batch)
    np.testing.assert_allclose(encode(variables, {**batch, "hist_item": filled}), users, atol=1e-6)
    shuffled = {n: batch[n][:, order] for n in ("hist_item", "hist_mask")}
    np.testing.assert_allclose(encode(variables, shuffled), users, atol=1e-6)
    nothing = {**batch, "hist_mask": jnp.zeros_like(batch["hist_mask"])}
    np.testing.assert_array_equal(encode(variables, nothing), 0.0)


def test_empty_histories_and_candidates_have_finite_gradients(full):
  _, variables, batch, loss, gradient = full
  batch = {**batch, "hist_mask": batch["hist_mask"].at[0].set(False)}
  batch["target_item"] = batch["target_item"].at[1].set(0).at[2, 3:].set(0)
  value, weight, *_ = loss(variables, batch)
  assert float(weight) == 6 and np.isfinite(value)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(variables, batch)))


def test_without_fairness_it_is_nrms():
  none = dict(lambda_predict=0.0, lambda_orthogonal=0.0, lambda_adversary=0.0, user_output=True)
  nrms, own, batch = made(bias_aware=False, **none)
  both, two, _ = made(**none)
  assert set(own["params"]) == {"news", "bias_free"} and set(two["params"]) == {
    "news", "bias_free", "bias_aware"
  }
  # A bias-aware encoder whose output is 0.
  aware = two["params"]["bias_aware"]
  aware = {**aware, "output": jax.tree.map(jnp.zeros_like, aware["output"])}
  params = {**own["params"], "bias_aware": aware}
  gradient = lambda learner, params: jax.jit(jax.grad(
    lambda t: learner.loss({**own, **t}, batch, jax.random.key(0)).loss
  ))({"params": params, "tables": own["tables"]})
  one, other = gradient(nrms, own["params"]), gradient(both, params)
  other["params"].pop("bias_aware")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


def test_users_of_unknown_attribute_only_rank(full):
  _, variables, batch, loss, gradient = full
  unknown = {**batch, "attribute": jnp.zeros_like(batch["attribute"])}
  value, _, metrics, mutable = loss(variables, unknown)
  assert float(metrics["predictor_loss"][0]) == float(metrics["discriminator_loss"][0]) == 0.0
  assert float(metrics["predictor_loss"][1]) == 0.0
  expected = metrics["recommendation"][0] + 0.7 * metrics["abs_cosine"][0]
  assert float(value) == pytest.approx(float(expected), rel=1e-6)
  found = gradient(variables, unknown)["params"]
  assert not any(leaf.any() for leaf in jax.tree.leaves(found["predictor"]))
  assert any(leaf.any() for leaf in jax.tree.leaves(found["bias_aware"]))
  # The discriminator has seen nothing either.
  for a, b in zip(
    jax.tree.leaves(mutable["adversary"]["params"]),
    jax.tree.leaves(variables["adversary"]["params"]), strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  # One more user of unknown attribute leaves these two sums as they are.
  some = {**batch, "attribute": batch["attribute"].at[4].set(0)}
  known = {name: jnp.delete(column, 4, axis=0) for name, column in batch.items()}
  for name in ("predictor_loss", "discriminator_loss"):
    a, b = (loss(variables, each).metrics[name] for each in (some, known))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-5)
    assert a[1] == b[1] == 6


def test_titles_and_vectors():
  rng = np.random.default_rng(5)
  words = rng.integers(1, 8, (ITEMS + 1, 4)) * (np.arange(4) < rng.integers(0, 5, ITEMS + 1)[:, None])
  vectors = rng.normal(size=(ITEMS + 1, 3)).astype(np.float32)
  vectors[0] = np.nan  # of padding: never read
  counts = TrainingCounts({}, None, {"title_words": words, "vector": vectors})
  for news in ("words", "vectors"):
    learner, variables, batch = made(counts, news=news, word_width=6)
    value, _, _, _ = learner.loss(variables, batch, jax.random.key(0))
    assert np.isfinite(value)
    found = learner.predict["encode_items"](variables, jnp.arange(ITEMS + 1))
    empty = (words == 0).all(1) if news == "words" else np.arange(ITEMS + 1) == 0
    np.testing.assert_array_equal(found[empty], 0.0)
    assert np.abs(found[~empty]).min(1).max() > 0
  np.testing.assert_allclose(
    found[1:], vectors[1:] @ np.asarray(variables["params"]["news"]["map"]["kernel"]), atol=1e-5
  )
  assert made(counts, news="words")[0].whole_tables == ("word",)


def test_mistakes_are_explained():
  with pytest.raises(ConfigError, match="Unknown news 'item'. Did you mean 'items'"):
    made(news="item")
  with pytest.raises(ConfigError, match="Unknown adversary 'grl'"):
    made(adversary="grl")
  with pytest.raises(ConfigError, match="3 heads cannot share the width 8 evenly"):
    made(heads=3)
  with pytest.raises(ConfigError, match="attends among words: heads must be at least 1"):
    made(news="words", heads=0)
  with pytest.raises(ConfigError, match="Unknown item column for news='words'.*view.words"):
    made(news="words")
  numbers = {"vector": np.zeros(ITEMS + 1), "short": np.zeros((3, 2))}
  hole = np.zeros((ITEMS + 1, 2))
  hole[4] = np.nan
  counts = TrainingCounts({}, None, {**numbers, "hole": hole})
  for column in numbers:
    with pytest.raises(ConfigError, match=f"'{column}' holds no vector for each of 20 items"):
      made(counts, news="vectors", column=column)
  with pytest.raises(ConfigError, match="'hole' has no numbers for item 4"):
    made(counts, news="vectors", column="hole")
  fields = dict(SCHEMA.fields)
  del fields["attribute"]
  nameless = Schema(fields, SCHEMA.vocabularies)
  with pytest.raises(ConfigError, match="lacks 'attribute': name a user column in view.attribute"):
    fairrec.build(SMALL, nameless)
  plain = dataclasses.replace(SMALL, lambda_predict=0.0, lambda_adversary=0.0)
  assert fairrec.build(plain, nameless).loss is not None
  with pytest.raises(ConfigError, match="trains on sessions"):
    fairrec.build(SMALL, SCHEMA.extend(target_item=Field("id", (), "item")))
  del fields["target_item"]
  with pytest.raises(ConfigError, match="lacks 'target_item': take the view 'sessions'"):
    fairrec.build(plain, Schema(fields, SCHEMA.vocabularies))


def test_ids_may_be_compact(full):
  """Row-wise training renumbers the rows of the table; the loss is the same."""
  _, variables, batch, loss, _ = full
  place = np.concatenate([[0], 1 + np.random.default_rng(4).permutation(ITEMS)])
  table = jnp.zeros_like(variables["tables"]["item"]).at[place].set(variables["tables"]["item"])
  renamed = {n: jnp.asarray(place, jnp.int32)[batch[n]] for n in ("hist_item", "target_item")}
  value = loss({**variables, "tables": {"item": table}}, {**batch, **renamed}).loss
  np.testing.assert_allclose(value, loss(variables, batch).loss, rtol=1e-5)


def test_parts_of_a_batch_add_up():
  learner, variables, _ = made(adversary="reversal", heads=0)
  batch = make_batch(rows=8)
  batch["attribute"] = batch["attribute"].at[1:3].set(0)
  key = jax.random.key(0)
  whole = learner.loss(variables, batch, key)
  halves = [
    learner.loss(variables, {n: c[part] for n, c in batch.items()}, key)
    for part in (slice(0, 4), slice(4, 8))
  ]
  sums = lambda o: {"loss": (o.loss, o.weight), **o.metrics}
  total = jax.tree.map(jnp.add, sums(halves[0]), sums(halves[1]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sums(whole), total)
