"""MQSA-TED: the window mean by hand, both branches, the loss's parts, groups of rows, mistakes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest

from recjax.config import Split
from recjax.data.splits import make_split
from recjax.data.views import next_item
from recjax.errors import ConfigError
from recjax.losses.softmax import full_softmax
from recjax.models.retrieval import mqsa_ted
from recjax.nn.by_length import by_length
from recjax.nn.tables import init_rows

LENGTH, ITEMS = 6, 12
CONFIG = mqsa_ted.Config(width=8, dropout=0.0, stddev=0.3)
HISTORIES = [[3, 7, 1, 4, 5], [2, 4, 6, 8, 10, 11, 12], [3, 7, 9, 1, 2], [5, 3, 7, 2, 12]]


@pytest.fixture(scope="module")
def view():
  log = logs.log(HISTORIES, num_items=ITEMS)
  return next_item.build(next_item.Config(length=LENGTH), log, make_split(log, Split()))


@functools.cache
def initial(config, padding=3):
  log = logs.log(HISTORIES, num_items=ITEMS)
  view = next_item.build(next_item.Config(length=LENGTH), log, make_split(log, Split()))
  learner = mqsa_ted.build(config, view.train.schema, view.counts)
  key = jax.random.key(0)
  tables = {"item": init_rows(key, learner.tables["item"], 0, ITEMS + 1 + padding)}
  made = jax.jit(learner.init)(key, tables, learner.schema.example())
  return learner, {**made, "tables": tables}


def batch(rows):
  hist = jnp.asarray(rows, jnp.int32)
  target = jnp.where(hist != 0, jnp.roll(hist, -1, axis=1) % ITEMS + 1, 0)
  return {"hist_item": hist, "hist_mask": hist != 0, "target_item": target}


ROWS = [[0, 0, 0, 3, 7, 1], [2, 4, 6, 8, 10, 11], [0, 0, 0, 0, 0, 3], [0, 0, 5, 3, 7, 2]]
BATCH = batch(ROWS)


@functools.partial(jax.jit, static_argnums=0)
def encode(config, variables, rows):
  """States [B, L, D] without dropout."""
  module = mqsa_ted.MQSA(config, LENGTH)
  return module.apply({"params": variables["params"]}, variables["tables"], rows, train=False)


def gradient(learner, variables, rows, key=0):
  """(loss, gradient) of the mean loss in params and tables."""

  def mean(trained):
    objective = learner.loss({**variables, **trained}, rows, jax.random.key(key))
    return objective.loss / objective.weight

  return jax.jit(jax.value_and_grad(mean))({n: variables[n] for n in ("params", "tables")})


def test_window_mean_by_hand():
  x = jnp.asarray([0.0, 0, 1, 2, 4])[None, :, None]
  mask = jnp.asarray([False, False, True, True, True])[None]
  mean = mqsa_ted.window_mean(x, mask, 3)[0, :, 0]
  np.testing.assert_allclose(mean, [0, 0, 1, 1.5, 7 / 3], rtol=1e-6)
  np.testing.assert_array_equal(mqsa_ted.window_mean(x, mask, 1), x)
  long = mqsa_ted.window_mean(x, mask, 99)[0, :, 0]
  np.testing.assert_allclose(long, [0, 0, 1, 1.5, 7 / 3], rtol=1e-6)


def test_number_of_parameters():
  """Those of the paper's code on Beauty: positions 3,200 and 21,184 a branch."""
  module = mqsa_ted.MQSA(mqsa_ted.Config(), 50)
  rows = {"hist_item": np.zeros((1, 50), np.int32), "hist_mask": np.zeros((1, 50), bool)}
  made = jax.eval_shape(
    lambda: module.init(jax.random.key(0), {"item": jnp.zeros((2, 64))}, rows, train=False)
  )["params"]
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert (size(made["position"]), size(made["short"]), size(made["long"])) == (3_200, 21_184, 21_184)


def test_equals_a_plain_numpy_forward():
  _, variables = initial(CONFIG)
  params, table = jax.tree.map(np.asarray, (variables["params"], variables["tables"]["item"]))

  def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-8)
    return centred / scale * p["scale"] + p["bias"]

  def dense(x, p):
    return x @ p["kernel"] + p["bias"]

  def branch(x, p, window):
    query = np.stack([x[max(0, t - window + 1) : t + 1].mean(0) for t in range(len(x))])
    query = norm(query, p["query_norm_0"])
    attention = p["attention_0"]
    q, k, v = dense(query, attention["query"]), *(dense(x, attention[n]) for n in ("key", "value"))
    rows = []
    for t in range(len(x)):
      weight = np.exp(q[t] @ k[: t + 1].T / np.sqrt(8))
      rows.append(weight / weight.sum() @ v[: t + 1])
    z = norm(np.stack(rows) + query, p["ffn_norm_0"])
    return norm(z + dense(np.maximum(dense(z, p["ffn_in_0"]), 0), p["ffn_out_0"]), p["norm"])

  states = encode(CONFIG, variables, BATCH)
  for row, ids in enumerate(ROWS):
    real = [i for i in ids if i]
    x = np.sqrt(8) * table[real] + params["position"][-len(real) :]
    blend = 0.5 * branch(x, params["short"], 1) + 0.5 * branch(x, params["long"], 3)
    np.testing.assert_allclose(states[row, -len(real) :], blend, atol=2e-5)
    assert not np.any(states[row, : -len(real)])


def test_a_later_item_never_changes_an_earlier_state_in_either_branch():
  _, variables = initial(CONFIG)
  for alpha in (0.0, 1.0):
    config = dataclasses.replace(CONFIG, alpha=alpha)
    before = encode(config, variables, BATCH)
    changed = np.array(ROWS)
    changed[1, 3] = 9
    after = encode(config, variables, batch(changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (np.abs(before - after)[1, 3:].max(axis=-1) > 1e-5).all()


def test_a_window_of_one_item_makes_the_branches_alike():
  config = dataclasses.replace(CONFIG, query_window=1)
  _, variables = initial(CONFIG)
  same = {**variables["params"], "long": variables["params"]["short"]}
  alike = encode(config, {**variables, "params": same}, BATCH)
  short = encode(dataclasses.replace(CONFIG, alpha=1.0), variables, BATCH)
  np.testing.assert_allclose(alike, short, atol=1e-6)
  # The parameters are separate.
  assert np.abs(encode(config, variables, BATCH) - short).max() > 1e-2


def test_blending_vectors_is_blending_logits():
  _, variables = initial(CONFIG)
  items = variables["tables"]["item"].T
  short, long, blend = (
    encode(dataclasses.replace(CONFIG, alpha=alpha), variables, BATCH) @ items
    for alpha in (1.0, 0.0, 0.5)
  )
  np.testing.assert_allclose(blend, 0.5 * short + 0.5 * long, atol=1e-5)


def test_without_the_long_branch_its_gradient_is_zero_and_without_ted_transitions_have_no_effect(view):
  config = dataclasses.replace(CONFIG, alpha=1.0, lambda_kd=0.0, l2=0.0)
  learner, variables = initial(config)
  assert "statistics" not in variables
  _, slope = gradient(learner, variables, BATCH)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(slope["params"]["long"]))
  assert any(np.any(leaf) for leaf in jax.tree.leaves(slope["params"]["short"]))
  plain = mqsa_ted.build(config, view.train.schema, dict(view.counts))
  assert gradient(plain, variables, BATCH)[0] == gradient(learner, variables, BATCH)[0]


def test_loss_is_the_sum_of_its_parts():
  learner, variables = initial(CONFIG)
  loss = lambda v: learner.loss(v, BATCH, jax.random.key(0))
  objective = jax.jit(loss)(variables)
  hidden = encode(CONFIG, variables, BATCH)
  table = variables["tables"]["item"][: ITEMS + 1]
  # Padding is a class with the logit 0.
  logits = (hidden @ table.T).reshape(-1, ITEMS + 1)
  np.testing.assert_array_equal(logits[:, 0], 0)
  target, real = BATCH["target_item"].reshape(-1), BATCH["hist_mask"].reshape(-1)
  each = jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, target[:, None], 1)[:, 0]
  recommendation = jnp.sum(each * real)
  # The teacher's softmax over all items, for every real input, repeated ones repeatedly.
  counts = np.zeros((ITEMS + 1, ITEMS + 1))
  for history in HISTORIES:
    np.add.at(counts, (history[:-3], history[1:-2]), 1)
  teacher = np.exp(counts[:, 1:] / np.maximum(counts.max(1, keepdims=True), 1e-24) / 0.1)
  teacher = teacher / teacher.sum(1, keepdims=True)
  student = jax.nn.log_softmax(np.sqrt(8) * table @ table[1:].T / 0.1, axis=1)
  heads = BATCH["hist_item"].reshape(-1)
  distillation = -jnp.sum(jnp.sum(teacher[heads] * student[heads], axis=1) * real)
  squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves((variables["params"], table)))
  weight = real.sum()
  expected = recommendation + 0.1 * distillation + weight * 0.5e-4 * squares
  np.testing.assert_allclose(objective.loss, expected, rtol=1e-5)
  assert objective.weight == weight
  np.testing.assert_allclose(objective.metrics["distillation"][0], distillation, rtol=1e-5)
  np.testing.assert_allclose(objective.metrics["recommendation"][0], recommendation, rtol=1e-5)


def test_parts_of_a_batch_add_up():
  """Micro-batches: with equal parts of positions the sums give the whole batch's gradient."""
  learner, variables = initial(CONFIG)
  half = lambda rows: {n: x[rows] for n, x in BATCH.items()}

  @jax.jit
  def sums(rows):
    def value(trained):
      objective = learner.loss({**variables, **trained}, rows, jax.random.key(0))
      return objective.loss, objective.weight

    trained = {n: variables[n] for n in ("params", "tables")}
    (loss, weight), slope = jax.value_and_grad(value, has_aux=True)(trained)
    return loss, weight, slope

  first, second, whole = sums(half(slice(0, 2))), sums(half(slice(2, 4))), sums(BATCH)
  for a, b, c in zip(*map(jax.tree.leaves, (first, second, whole)), strict=True):
    np.testing.assert_allclose(a + b, c, rtol=1e-4, atol=1e-4)


def test_initial_loss_is_the_log_of_the_classes():
  size = 12_101
  zero, table = jnp.zeros((2, 3)), jnp.zeros((size + 1, 3))
  arguments = (zero, table, jnp.asarray([1, 5]), jnp.ones(2))
  loss, hits = full_softmax(*arguments, num_items=size, padding=True)
  np.testing.assert_allclose(loss / 2, 9.4011260, rtol=1e-6)
  assert hits == 0


def test_an_empty_history_scores_everything_zero():
  learner, variables = initial(CONFIG)
  rows = batch([[0] * LENGTH])
  state = learner.predict["encode_user"](variables, rows)
  scores = learner.predict["score_items"](variables, state, jnp.arange(ITEMS + 1))
  np.testing.assert_array_equal(scores, 0)


def test_groups_of_rows_change_nothing():
  one, variables = initial(CONFIG)
  many, _ = initial(dataclasses.replace(CONFIG, groups=2))
  value, slope = gradient(one, variables, BATCH)
  got, got_slope = gradient(many, variables, BATCH)
  np.testing.assert_allclose(got, value, rtol=1e-6)
  for a, b in zip(jax.tree.leaves(got_slope), jax.tree.leaves(slope), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_groups_mapped_over_seeds_switch_once():
  """Seeds agree on lengths: the mapped program has a switch, not a choice among all results."""
  mask = jnp.asarray([[[False] * 14 + [True] * 2] * 2, [[False] * 9 + [True] * 7] * 2])
  vectors = jnp.where(mask[..., None], jax.random.normal(jax.random.key(0), (2, 2, 16, 3)), 0.0)

  def value(scale, vectors, mask):
    running = lambda v, m, k: scale * jnp.cumsum(v, axis=1) * m[..., None]
    states = by_length(running, vectors, mask, jax.random.key(1), 2)
    return jnp.sum(states**2), states

  run = jax.vmap(jax.value_and_grad(value, has_aux=True))
  scale = jnp.asarray([1.0, 2.0])
  (total, states), slope = jax.jit(run)(scale, vectors, mask)
  expected = scale[:, None, None, None] * jnp.cumsum(vectors, axis=2) * mask[..., None]
  np.testing.assert_allclose(states, expected, atol=1e-5)
  np.testing.assert_allclose(slope, 2 * total / scale, rtol=1e-5)
  assert str(jax.make_jaxpr(run)(scale, vectors, mask)).count("cond[") == 2  # and its gradient


def test_dropout_draws_one_mask_an_item_or_one_an_occurrence():
  config = dataclasses.replace(CONFIG, dropout=0.5, l2=0.0)
  rows = batch([[0, 0, 3, 3, 3, 3]])
  found = {}
  for unique in (True, False):
    learner, variables = initial(dataclasses.replace(config, kd_unique=unique))
    loss = jax.jit(lambda k, l=learner, v=variables: l.loss(v, rows, jax.random.key(k)).metrics)
    found[unique] = np.array([float(loss(k)["distillation"][0]) for k in range(40)])
  # The mean is the same, but the average of four masks varies less than one mask.
  assert found[True].std() > 1.3 * found[False].std()
  pooled = np.sqrt((found[True].var() + found[False].var()) / 40)
  assert abs(found[True].mean() - found[False].mean()) < 4 * pooled


def test_learns_more_of_the_transitions_with_ted():
  """After the same steps the heads' best student is the teacher's more often."""
  share = {}
  for lambda_kd in (0.0, 1.0):
    learner, variables = initial(dataclasses.replace(CONFIG, lambda_kd=lambda_kd, l2=0.0))
    judge, judged = initial(CONFIG)

    @jax.jit
    def descend(trained, learner=learner, variables=variables):
      value = lambda t: learner.loss({**variables, **t}, BATCH, jax.random.key(0)).loss
      step = lambda t, _: (jax.tree.map(lambda x, g: x - 3e-3 * g, t, jax.grad(value)(t)), None)
      return jax.lax.scan(step, trained, None, 60)[0]

    trained = descend({n: variables[n] for n in ("params", "tables")})
    metrics = judge.loss({**judged, **trained}, BATCH, jax.random.key(0)).metrics
    hits, weight = metrics["agreement"]
    share[lambda_kd] = float(hits / weight)
  assert share[1.0] > share[0.0] + 0.2


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"heads": 3}, "3 heads cannot share the width 8 evenly"),
    ({"groups": 0}, "at least one group of rows, not 0"),
  ],
)
def test_settings_that_cannot_work(options, message, view):
  with pytest.raises(ConfigError, match=message):
    mqsa_ted.build(dataclasses.replace(CONFIG, **options), view.train.schema, view.counts)


def test_mistakes_that_show_later(view):
  plain = mqsa_ted.build(CONFIG, view.train.schema, dict(view.counts))
  key, tables = jax.random.key(0), {"item": jnp.zeros((ITEMS + 1, 8))}
  with pytest.raises(ConfigError, match="needs the transitions of the training events"):
    plain.init(key, tables, plain.schema.example())
  with pytest.raises(ConfigError, match="Unknown norm of the teacher 'mean'"):
    initial(dataclasses.replace(CONFIG, teacher_norm="mean"))
  with pytest.raises(ConfigError, match="span at least one event, not 0"):
    initial(dataclasses.replace(CONFIG, span=0))
  learner, variables = initial(dataclasses.replace(CONFIG, groups=3))
  with pytest.raises(ConfigError, match="4 rows of a batch cannot be cut into 3 groups"):
    learner.loss(variables, BATCH, key)
