"""The three evaluators on tiny tables: exactness, padding, devices, compilation."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy.special import expit

from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows
from recjax.errors import ConfigError, DataError
from recjax.evaluate import click, ctr, full_ranking, list_fairness, sampled_ranking
from recjax.evaluate.evaluation import Catalogue, batches, fit_batch_size
from recjax.registry import resolve

USERS, ITEMS, WIDTH, SEEN = 37, 60, 4, 6


def make_mesh(devices):
  return jax.make_mesh(
    (devices, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:devices]
  )


MESHES = sorted({1, len(jax.devices())})


def gather(xp, columns, index):
  return {name: xp.asarray(column)[index] for name, column in columns.items()}


def make_rows(columns, **fields):
  schema = Schema(fields, {"user": USERS + 1, "item": ITEMS + 1})
  return Rows(len(next(iter(columns.values()))), columns, gather, schema)


def encode_user(variables, batch):
  return variables["user"][batch["user_id"]]


def score_items(variables, state, ids):
  return state @ variables["item"][ids].T


def score(variables, batch):
  items = variables["item"][batch["target_item"]]
  return jnp.einsum("bd,b...d->b...", encode_user(variables, batch), items)


PREDICT = {"encode_user": encode_user, "score_items": score_items, "score": score}


@pytest.fixture
def variables():
  rng = np.random.default_rng(0)
  return {
    "user": jnp.asarray(rng.integers(-3, 4, (USERS + 1, WIDTH)), jnp.float32),
    "item": jnp.asarray(rng.integers(-3, 4, (ITEMS + 1, WIDTH)), jnp.float32),
  }


@pytest.fixture
def catalogue():
  rng = np.random.default_rng(1)
  counts = rng.integers(0, 20, ITEMS + 1)
  counts[0] = 0
  return Catalogue(ITEMS, counts, rng.integers(1, 5, ITEMS + 1))


def make_cases(width=1, without=(), impossible=()):
  """Cases of users 1..USERS; targets are unseen but for `impossible`, missing for `without`."""
  rng = np.random.default_rng(2)
  seen = np.zeros((USERS, SEEN), np.int32)
  targets = np.zeros((USERS, width), np.int32)
  for row in range(USERS):
    items = rng.permutation(ITEMS)[: SEEN + width] + 1
    seen[row], targets[row] = items[:SEEN], items[SEEN:]
  targets[list(without)] = 0
  targets[list(impossible)] = seen[list(impossible), :width]
  user = np.arange(1, USERS + 1, dtype=np.int32)
  rows = make_rows({"user_id": user}, user_id=Field("id", (), "user"))
  return Cases(rows, user, targets, lambda index: seen[index])


def naive_rank(variables, cases, row, target):
  scores = np.asarray(variables["item"]) @ np.asarray(variables["user"])[cases.user[row]]
  left_out = set(cases.seen(np.array([row]))[0]) | {0, target}
  return sum(scores[j] >= scores[target] for j in range(ITEMS + 1) if j not in left_out)


def test_names_are_registered():
  for name, module in (
    ("full_ranking", full_ranking),
    ("sampled_ranking", sampled_ranking),
    ("ctr", ctr),
  ):
    assert resolve("evaluator", name) is module


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24])
def test_batches_have_one_shape_and_every_row_once(count):
  found = list(batches(count, 8))
  assert {index.shape for index, _ in found} == {valid.shape for _, valid in found} == {(8,)}
  np.testing.assert_array_equal(np.concatenate([i[v] for i, v in found]), np.arange(count))
  assert all((index < count).all() and index.dtype == np.int32 for index, _ in found)


def test_batch_size_fills_the_data_axis():
  devices = MESHES[-1]
  mesh = make_mesh(devices)
  assert fit_batch_size(100, 5, mesh) == -(-5 // devices) * devices
  assert fit_batch_size(3, 1000, mesh) == -(-3 // devices) * devices


@pytest.mark.parametrize("devices", MESHES)
@pytest.mark.parametrize(("batch_size", "block_size"), [(256, 16384), (5, 7), (16, 60)])
def test_full_ranking_is_exact(variables, catalogue, devices, batch_size, block_size):
  cases = make_cases(without=[3, 36], impossible=[5])
  config = full_ranking.Config(batch_size=batch_size, block_size=block_size)
  run = full_ranking.build(config, PREDICT, cases, mesh=make_mesh(devices), catalogue=catalogue)
  result = run(variables)

  counted = [row for row in range(USERS) if row not in (3, 36)]
  ranks = [naive_rank(variables, cases, row, cases.targets[row, 0]) for row in counted]
  ranks[counted.index(5)] = ITEMS
  ranks = np.array(ranks)
  for k in config.cutoffs:
    np.testing.assert_array_equal(result.per_case[f"hr@{k}"], ranks < k)
    np.testing.assert_allclose(
      result.per_case[f"ndcg@{k}"], np.where(ranks < k, 1 / np.log2(ranks + 2), 0)
    )
    assert result.values[f"hr@{k}"] == pytest.approx((ranks < k).mean())
  np.testing.assert_array_equal(result.case_user, cases.user[counted])
  assert result.facts == {
    "cases": 35,
    "cases_without_targets": 2,
    "cases_impossible": 1,
    "candidates": ITEMS,
  }
  assert result.lists.shape == (35, 20)
  for row, items in zip(counted, result.lists, strict=True):
    assert not set(items) & (set(cases.seen(np.array([row]))[0]) | {0})


def test_full_ranking_does_not_depend_on_batches_or_devices(variables, catalogue):
  results = [
    full_ranking.build(
      full_ranking.Config(batch_size=batch_size, block_size=block_size),
      PREDICT,
      make_cases(width=3),
      mesh=make_mesh(devices),
      catalogue=catalogue,
    )(variables)
    for devices in MESHES
    for batch_size, block_size in ((256, 100), (8, 11), (1, 60))
  ]
  for other in results[1:]:
    assert other.values == results[0].values and other.facts == results[0].facts
    np.testing.assert_array_equal(other.lists, results[0].lists)


SHARED = PREDICT | {
  "encode_user": lambda v, batch: v["user"][(batch["user_id"][:, None] + jnp.arange(2)[None]) % USERS],
  "shares": lambda state: (
    state.reshape(-1, WIDTH), jnp.tile(jnp.array([[3.0, 1.0]]), (len(state), 1))
  ),
  "encode_items": lambda v, ids: v["item"][ids],
}


@pytest.mark.parametrize("devices", MESHES)
def test_lists_in_shares(variables, catalogue, devices):
  cases = make_cases(width=3)
  config = full_ranking.Config(cutoffs=(4, 20), spread=True)
  run = full_ranking.build(config, SHARED, cases, mesh=make_mesh(devices), catalogue=catalogue)
  result = run(variables)
  item = np.asarray(variables["item"], np.float64)
  for row, items in enumerate(result.lists):
    taken, seen = [], set(cases.seen(np.array([row]))[0]) | {0}
    for number, quota in ((0, 15), (1, 5)):  # of 20, not of 21
      query = np.asarray(variables["user"])[(row + 1 + number) % USERS]
      order = sorted(range(ITEMS + 1), key=lambda i: (-(item[i] @ query), i))
      taken += [i for i in order if i not in seen and i not in taken][:quota]
    assert set(items) == set(taken) and len(set(items)) == 20
    hits = len(set(items) & set(cases.targets[row]))
    assert result.per_case["recall@20"][row] == pytest.approx(hits / 3)
  pairs = [
    1 - item[a] @ item[b] / np.linalg.norm(item[a]) / np.linalg.norm(item[b])
    for items in result.lists for a, b in itertools.combinations(items, 2)
  ]
  assert result.values["spread@20"] == pytest.approx(np.mean(pairs), nan_ok=True)


def test_shares_give_no_score_of_every_item(catalogue):
  greedy = list_fairness.Config(rerank="greedy")
  with pytest.raises(ConfigError, match="wants a score of every item, and this model fills lists in"):
    list_fairness.build(greedy, SHARED, make_cases(), mesh=make_mesh(1), catalogue=catalogue)
  with pytest.raises(ConfigError, match="needs the prediction function 'encode_items'"):
    full_ranking.build(
      full_ranking.Config(spread=True), PREDICT, make_cases(), mesh=make_mesh(1), catalogue=catalogue
    )


@pytest.mark.skipif(len(jax.devices()) % 2, reason="needs an even number of devices")
def test_full_ranking_with_item_rows_split_over_the_model_axis(variables, catalogue):
  shape = (len(jax.devices()) // 2, 2)
  mesh = jax.make_mesh(shape, ("data", "model"), (AxisType.Auto,) * 2)
  item = jnp.pad(variables["item"], ((0, 1), (0, 0)))  # an even number of rows
  split = {
    "user": jax.device_put(variables["user"], NamedSharding(mesh, PartitionSpec())),
    "item": jax.device_put(item, NamedSharding(mesh, PartitionSpec("model"))),
  }
  config, cases = full_ranking.Config(batch_size=8, block_size=16), make_cases()
  alone = full_ranking.build(config, PREDICT, cases, mesh=make_mesh(1), catalogue=catalogue)
  together = full_ranking.build(config, PREDICT, cases, mesh=mesh, catalogue=catalogue)
  assert together(split).values == alone(variables).values


def test_a_constant_scorer_gets_zero(variables, catalogue):
  constant = {**PREDICT, "score_items": lambda v, s, ids: jnp.ones((s.shape[0], len(ids)))}
  constant["score"] = lambda v, b: jnp.ones(b["target_item"].shape)
  mesh = make_mesh(MESHES[-1])
  for module in (full_ranking, sampled_ranking):
    config = dataclasses.replace(module.Config(), cutoffs=(1, 10))
    if module is sampled_ranking:
      config = dataclasses.replace(config, negatives=20)
    result = module.build(config, constant, make_cases(), mesh=mesh, catalogue=catalogue)(variables)
    for name, value in result.values.items():
      if any(metric in name for metric in ("hr@", "ndcg@", "mrr@", "recall@", "map@")):
        assert value == 0, name


def test_lists_are_described_on_request(variables, catalogue):
  mesh = make_mesh(1)

  def names(config, items):
    run = full_ranking.build(config, PREDICT, make_cases(), mesh=mesh, catalogue=items)
    return {name for name in run(variables).values if name.endswith("@20")}

  described = {"coverage@20", "gini@20", "popularity@20", "novelty@20", "diversity@20"}
  assert described <= names(full_ranking.Config(), catalogue)
  plain = catalogue._replace(categories=None)
  assert described - names(full_ranking.Config(), plain) == {"diversity@20"}
  assert not described & names(full_ranking.Config(beyond_accuracy=False), catalogue)


@pytest.mark.parametrize("devices", MESHES)
def test_evaluators_compile_once(variables, catalogue, devices):
  traces = []

  def counted(function):
    def traced(*args):
      traces.append(function.__name__)
      return function(*args)

    return traced

  predict = {name: counted(function) for name, function in PREDICT.items()}
  mesh = make_mesh(devices)
  for module, config in (
    (full_ranking, full_ranking.Config(batch_size=8)),
    (sampled_ranking, sampled_ranking.Config(negatives=20, batch_size=8)),
  ):
    run = module.build(config, predict, make_cases(), mesh=mesh, catalogue=catalogue)
    run(variables)
    run(jax.tree.map(lambda x: x + 1, variables))
  run = ctr.build(ctr.Config(batch_size=8), predict, click_cases()[0], mesh=mesh)
  run(variables)
  run(variables)
  assert sorted(traces) == ["encode_user", "score", "score", "score_items"]


def test_evaluators_run_under_a_transfer_guard(variables, catalogue):
  mesh = make_mesh(MESHES[-1])
  runs = [
    full_ranking.build(
      full_ranking.Config(), PREDICT, make_cases(), mesh=mesh, catalogue=catalogue
    ),
    sampled_ranking.build(
      sampled_ranking.Config(negatives=20), PREDICT, make_cases(), mesh=mesh, catalogue=catalogue
    ),
    ctr.build(ctr.Config(), PREDICT, click_cases()[0], mesh=mesh),
  ]
  variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  for run in runs:
    free = run(variables).values
    with jax.transfer_guard("disallow"):
      guarded = run(variables).values
    assert guarded == free


def test_a_diverged_model_is_refused(variables, catalogue):
  diverged = {**variables, "item": variables["item"] * jnp.nan}
  mesh = make_mesh(1)
  for module in (full_ranking, sampled_ranking):
    config = module.Config() if module is full_ranking else module.Config(negatives=20)
    run = module.build(config, PREDICT, make_cases(), mesh=mesh, catalogue=catalogue)
    with pytest.raises(DataError, match="NaN"):
      run(diverged)
  with pytest.raises(DataError, match="NaN"):
    ctr.build(ctr.Config(), PREDICT, click_cases()[0], mesh=mesh)(diverged)


def test_missing_predictions_and_cases_are_named(catalogue):
  mesh = make_mesh(1)
  with pytest.raises(ConfigError, match="needs the prediction function 'encode_user'.* score"):
    full_ranking.build(
      full_ranking.Config(), {"score": score}, make_cases(), mesh=mesh, catalogue=catalogue
    )
  with pytest.raises(DataError, match="None of the cases has a target"):
    full_ranking.build(
      full_ranking.Config(),
      PREDICT,
      make_cases(without=range(USERS)),
      mesh=mesh,
      catalogue=catalogue,
    )
  empty = make_cases()
  empty = empty._replace(rows=empty.rows._replace(count=0))
  with pytest.raises(DataError, match="no cases"):
    ctr.build(ctr.Config(), PREDICT, empty, mesh=mesh)
  with pytest.raises(DataError, match="one target"):
    sampled_ranking.build(
      sampled_ranking.Config(), PREDICT, make_cases(width=2), mesh=mesh, catalogue=catalogue
    )
  cases = make_cases()
  category = Field("id", (), "item")
  schema = cases.rows.schema.extend(target_category=category)
  with pytest.raises(ConfigError, match="target_category"):
    sampled_ranking.build(
      sampled_ranking.Config(),
      PREDICT,
      cases._replace(rows=cases.rows._replace(schema=schema)),
      mesh=mesh,
      catalogue=catalogue,
    )


@pytest.mark.parametrize(
  "make",
  [
    lambda: full_ranking.Config(cutoffs=()),
    lambda: full_ranking.Config(ideal="best"),
    lambda: sampled_ranking.Config(sampling="popular"),
    lambda: sampled_ranking.Config(negatives=5),
    lambda: ctr.Config(ties="right"),
    lambda: ctr.Config(negative_keep_rate=0.0),
  ],
)
def test_impossible_settings_are_refused(make):
  with pytest.raises(ConfigError):
    make()


class FixedLists:
  """Scores that put given items first, whoever asks."""

  def __init__(self, best):
    self.scores = np.zeros(ITEMS + 1, np.float32)
    self.scores[best] = np.arange(len(best), 0, -1)
    self.predict = {
      "encode_user": lambda variables, batch: batch["user_id"],
      "score_items": lambda variables, state, ids: jnp.broadcast_to(
        jnp.asarray(self.scores)[ids][None], (len(state), len(ids))
      ),
    }


def test_several_targets_by_hand_with_both_ideals(catalogue):
  """Hits at places 2 and 4 of 10 lists, of 12 answers: one report holds both forms of NDCG."""
  targets = np.array([[12, 14, *range(31, 41)]], np.int32)
  rows = make_rows({"user_id": np.array([1], np.int32)}, user_id=Field("id", (), "user"))
  nothing = lambda index: np.zeros((len(index), 1), np.int32)
  cases = Cases(rows, np.array([1], np.int32), targets, nothing)
  fixed = FixedLists(list(range(11, 30)))
  config = full_ranking.Config(cutoffs=(10,), ideal="both")
  run = full_ranking.build(config, fixed.predict, cases, mesh=make_mesh(1), catalogue=catalogue)
  values = run({}).values
  expected = {
    "hr": 1, "precision": 0.2, "recall": 2 / 12, "mrr": 0.5,
    "ndcg": 0.2336508, "ndcg_retrieved": 0.6509209,
  }
  for name, value in expected.items():
    assert values[f"{name}@10"] == pytest.approx(value, abs=1e-7), name


def test_seen_items_are_ranked_on_request(catalogue):
  seen = np.array([[7, 9]], np.int32)
  rows = make_rows({"user_id": np.array([1], np.int32)}, user_id=Field("id", (), "user"))
  cases = Cases(rows, np.array([1], np.int32), np.array([[7]], np.int32), lambda index: seen[index])
  results = {}
  for keep_seen in (False, True):
    config = full_ranking.Config(cutoffs=(1,), keep_seen=keep_seen)
    run = full_ranking.build(
      config, FixedLists([7, 9]).predict, cases, mesh=make_mesh(1), catalogue=catalogue
    )
    result = run({})
    results[keep_seen] = result.values["hr@1"], result.facts["cases_impossible"]
  assert results == {False: (0.0, 1), True: (1.0, 0)}


# Sampled ranking.


def sampled(config, cases, variables, catalogue, devices=1):
  run = sampled_ranking.build(config, PREDICT, cases, mesh=make_mesh(devices), catalogue=catalogue)
  return run(variables)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_sampled_ranking_ranks_against_its_negatives(variables, catalogue, sampling):
  cases = make_cases(without=[4])
  config = sampled_ranking.Config(negatives=20, sampling=sampling, batch_size=8)
  results = [sampled(config, cases, variables, catalogue, devices) for devices in MESHES]
  results.append(sampled(dataclasses.replace(config, batch_size=50), cases, variables, catalogue))
  prefix = "sampled20_" + {"uniform": "", "popularity": "popularity_"}[sampling]
  for result in results:
    assert all(name.startswith(prefix) for name in result.values)
    assert result.values == results[0].values
    assert result.facts == {"cases": 36, "cases_without_targets": 1, "candidates": 21}

  weights = np.ones(ITEMS + 1, int) if sampling == "uniform" else catalogue.train_counts.copy()
  weights[0] = 0
  counted = np.delete(np.arange(USERS), 4)
  excluded = np.concatenate([cases.seen(counted), cases.targets[counted]], axis=1)
  negatives = sampled_ranking.draw_negatives(cases.user[counted], excluded, weights, 20, 0)
  user = np.asarray(variables["user"])[cases.user[counted]]
  item = np.asarray(variables["item"])
  target = (user * item[cases.targets[counted, 0]]).sum(-1)
  ranks = (np.einsum("bd,bnd->bn", user, item[negatives]) >= target[:, None]).sum(1)
  np.testing.assert_array_equal(results[0].per_case[prefix + "hr@5"], ranks < 5)


def test_negatives_are_distinct_unseen_and_a_function_of_the_user():
  rng = np.random.default_rng(0)
  user = np.arange(1, 51)
  excluded = rng.integers(0, ITEMS + 1, (50, 8))
  weights = np.r_[0, np.ones(ITEMS, int)]
  drawn = sampled_ranking.draw_negatives(user, excluded, weights, 40, seed=1)
  assert drawn.shape == (50, 40) and drawn.min() >= 1 and drawn.max() <= ITEMS
  for row, left_out in zip(drawn, excluded, strict=True):
    assert len(set(row)) == 40 and not set(row) & set(left_out)
  order = rng.permutation(50)
  again = sampled_ranking.draw_negatives(user[order], excluded[order], weights, 40, seed=1)
  np.testing.assert_array_equal(again, drawn[order])
  other = sampled_ranking.draw_negatives(user, excluded, weights, 40, seed=2)
  assert (other != drawn).any()


def test_negatives_follow_the_weights():
  user = np.arange(4000)
  weights = np.array([0, 1, 2, 0, 5])
  drawn = sampled_ranking.draw_negatives(user, np.zeros((4000, 1), int), weights, 1, seed=0)
  share = np.bincount(drawn[:, 0], minlength=5) / 4000
  np.testing.assert_allclose(share, weights / 8, atol=0.03)
  assert share[0] == share[3] == 0


def test_users_without_enough_unseen_items_are_named():
  seen = np.arange(1, 9)[None, :]
  with pytest.raises(DataError, match="fewer than 3 unseen items to draw for user 7"):
    sampled_ranking.draw_negatives(np.array([7]), seen, np.r_[0, np.ones(10, int)], 3, seed=0)
  drawn = sampled_ranking.draw_negatives(np.array([7]), seen, np.r_[0, np.ones(10, int)], 2, 0)
  assert sorted(drawn[0]) == [9, 10]


# Click evaluation.


def click_cases(rows=101, candidates=None, weight=False):
  rng = np.random.default_rng(3)
  shape = (rows,) if candidates is None else (rows, candidates)
  columns = {
    "user_id": rng.integers(1, USERS + 1, rows).astype(np.int32),
    "target_item": rng.integers(1, ITEMS + 1, shape).astype(np.int32),
    "label": rng.integers(0, 2, shape).astype(np.float32),
  }
  columns["group_id"] = columns["user_id"]
  fields = {
    "user_id": Field("id", (), "user"),
    "target_item": Field("id", shape[1:], "item"),
    "label": Field("label", shape[1:]),
    "group_id": Field("id", (), "user"),
  }
  if weight:
    columns["weight"] = (np.arange(rows) % 3 > 0).astype(np.float32)
    fields["weight"] = Field("float")
  made = make_rows(columns, **fields)
  return Cases(made, columns["user_id"], np.zeros((rows, 1), np.int32), lambda i: None), columns


def scored(variables, columns):
  user = np.asarray(variables["user"])[columns["user_id"]]
  item = np.asarray(variables["item"])[columns["target_item"]]
  return np.einsum("bd,b...d->b...", user, item)


@pytest.mark.parametrize("devices", MESHES)
@pytest.mark.parametrize("candidates", [None, 3])
@pytest.mark.parametrize("batch_size", [16, 1000])
def test_click_evaluation(variables, devices, candidates, batch_size):
  cases, columns = click_cases(candidates=candidates)
  config = ctr.Config(batch_size=batch_size, ties="wrong")
  result = ctr.build(config, PREDICT, cases, mesh=make_mesh(devices))(variables)
  logit, label = scored(variables, columns).ravel(), columns["label"].ravel()
  group = np.repeat(columns["group_id"], candidates or 1)
  grouped = click.grouped_auc(group, label, logit, "wrong")
  assert result.values == pytest.approx(
    {
      "auc": click.auc(label, logit),
      "gauc": grouped.gauc,
      "avg_auc": grouped.avg_auc,
      "logloss": click.logloss(label, logit),
      "calibration": click.calibration_ratio(label, expit(logit)),
      "calibration_error": click.calibration_error(label, expit(logit)),
    }
  )
  np.testing.assert_array_equal(result.case_user, grouped.group)
  np.testing.assert_allclose(result.per_case["gauc"], grouped.auc)
  assert result.facts["rows"] == len(label)
  assert result.facts["groups_of_one_class"] == grouped.dropped


def test_click_rows_of_weight_zero_count_for_nothing(variables):
  cases, columns = click_cases(weight=True)
  result = ctr.build(ctr.Config(), PREDICT, cases, mesh=make_mesh(1))(variables)
  kept = columns["weight"] == 1
  logit = scored(variables, columns)
  assert result.values["auc"] == pytest.approx(click.auc(columns["label"][kept], logit[kept]))
  assert result.facts["rows"] == kept.sum()
  columns["weight"][0] = 0.5
  with pytest.raises(DataError, match="weight 1"):
    ctr.build(ctr.Config(), PREDICT, cases, mesh=make_mesh(1))(variables)


def test_click_probabilities_are_corrected_for_thinned_negatives(variables):
  cases, columns = click_cases()
  config = ctr.Config(negative_keep_rate=0.25)
  values = ctr.build(config, PREDICT, cases, mesh=make_mesh(1))(variables).values
  logit, label = scored(variables, columns).astype(np.float64), columns["label"]
  probability = click.undo_negative_sampling(expit(logit), 0.25)
  assert values["auc"] == pytest.approx(click.auc(label, logit))
  assert values["calibration"] == pytest.approx(click.calibration_ratio(label, probability))
  clipped = np.clip(probability, 1e-7, 1 - 1e-7)
  loss = -np.mean(np.where(label == 1, np.log(clipped), np.log(1 - clipped)))
  assert values["logloss"] == pytest.approx(loss)


def test_click_rows_need_no_groups_and_hide_the_label(variables):
  cases, columns = click_cases()
  ungrouped = {name: value for name, value in columns.items() if name != "group_id"}
  cases = cases._replace(rows=cases.rows._replace(columns=ungrouped))

  def honest(variables, batch):
    assert "label" not in batch and "weight" not in batch
    return score(variables, batch)

  result = ctr.build(ctr.Config(), {"score": honest}, cases, mesh=make_mesh(1))(variables)
  assert set(result.values) == {"auc", "logloss", "calibration", "calibration_error"}
  assert result.per_case == {} and len(result.case_user) == 0


def test_click_scores_must_pair_up_with_labels(variables):
  wrong = {"score": lambda v, b: jnp.zeros((len(b["user_id"]), 2))}
  with pytest.raises(DataError, match="do not pair up"):
    ctr.build(ctr.Config(), wrong, click_cases()[0], mesh=make_mesh(1))(variables)
