"""Counting baselines: small numbers by hand, equality with dense NumPy, ranges respected."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.config import Mesh, Split
from recjax.data.counts import TrainingCounts, count_transitions
from recjax.data.load import load
from recjax.data.log import EventLog
from recjax.data.schema import Field, Schema
from recjax.data.splits import make_split
from recjax.data.views import next_item
from recjax.errors import ConfigError
from recjax.evaluate import full_ranking
from recjax.evaluate.evaluation import Catalogue
from recjax.models.retrieval import counts
from recjax.train.mesh import make_mesh


def log_of(histories, num_items):
  lengths = [0] + [len(h) for h in histories]
  return EventLog(
    name="test",
    indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    item=np.asarray(sum(histories, []), np.int32),
    time=None,
    origin=0,
    ordered=True,
    columns={},
    items={},
    users={},
    vocabularies={"item": num_items + 1, "user": len(histories) + 1},
    facts={},
  )


def leave_one_out(log):
  return SimpleNamespace(train_begin=log.indptr[:-1], train_end=log.indptr[1:] - 1)


def everything(log):
  return SimpleNamespace(train_begin=log.indptr[:-1], train_end=log.indptr[1:])


def learner(kind, length=3, num_items=4, **options):
  schema = Schema(
    {"hist_item": Field("ids", (length,), "item"), "hist_mask": Field("mask", (length,))},
    {"item": num_items + 1},
  )
  return counts.build(counts.Config(kind=kind, **options), schema)


# The last event of each user is held out: it must count nowhere.
LOG = log_of([[1, 2, 3, 4], [2, 3, 2, 3, 4], [1, 2, 4]], 4)
ROWS = jnp.array([[0, 1, 2], [2, 2, 3], [0, 0, 0]])
BATCH = {"hist_item": ROWS, "hist_mask": ROWS != 0}
# Training pairs: 1-2 twice, 2-3 three times, 3-2 once. Popularity of 1 .. 4: 2, 4, 3, 0.
POPULARITY = np.array([2.0, 4, 3, 0])
COSINE_12, COSINE_23, COSINE_13 = 2 / 6**0.5, 2 / 6**0.5, 1 / 2
EXPECTED = {
  "popularity": np.tile(POPULARITY, (3, 1)),
  "transition": POPULARITY / 8 + np.array([[0, 0, 3, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
  "item_knn": np.array(
    [
      [COSINE_12, COSINE_12, COSINE_13 + COSINE_23, 0],
      [2 * COSINE_12 + COSINE_13, COSINE_23, 2 * COSINE_23, 0],
      [0, 0, 0, 0],
    ]
  ),
}


@pytest.mark.parametrize("kind", counts.KINDS)
def test_hand_numbers(kind):
  system = learner(kind)
  variables = system.fit(LOG, leave_one_out(LOG))
  state = system.predict["encode_user"](variables, BATCH)
  got = jax.jit(system.predict["score_items"])(variables, state, jnp.array([1, 2, 3, 4]))
  np.testing.assert_allclose(got, EXPECTED[kind], rtol=1e-6)


@pytest.mark.parametrize("kind", counts.KINDS)
def test_a_block_of_items_and_single_pairs_agree_with_all_items(kind):
  system = learner(kind)
  variables = system.fit(LOG, leave_one_out(LOG))
  state = system.predict["encode_user"](variables, BATCH)
  block = system.predict["score_items"](variables, state, jnp.array([4, 2, 0, 0]))
  np.testing.assert_allclose(block[:, :2], EXPECTED[kind][:, [3, 1]], rtol=1e-6)
  targets = jnp.array([[3, 1, 3], [2, 4, 1], [1, 2, 3]])
  many = system.predict["score"](variables, {**BATCH, "target_item": targets})
  np.testing.assert_allclose(
    many, np.take_along_axis(EXPECTED[kind], np.asarray(targets) - 1, 1), rtol=1e-6
  )
  one = system.predict["score"](variables, {**BATCH, "target_item": targets[:, 2]})
  np.testing.assert_array_equal(one, many[:, 2])


@pytest.mark.parametrize("kind", counts.KINDS)
def test_content_of_padding_is_irrelevant(kind):
  system = learner(kind)
  variables = system.fit(LOG, leave_one_out(LOG))
  dirty = {**BATCH, "hist_item": jnp.where(ROWS == 0, 3, ROWS)}
  encode = system.predict["encode_user"]
  np.testing.assert_array_equal(encode(variables, BATCH), encode(variables, dirty))


def random_log(seed=0, users=40, num_items=25):
  rng = np.random.default_rng(seed)
  return log_of(
    [rng.integers(1, num_items + 1, rng.integers(1, 12)).tolist() for _ in range(users)], num_items
  )


def test_transitions_by_hand():
  log = log_of([[1, 2, 3, 2, 4], [2, 3, 1]], 4)
  split = leave_one_out(log)  # trains on 1 2 3 2 and 2 3
  pairs = lambda **how: {
    (int(j), int(k)): int(n)
    for j, k, n in zip(*(lambda m: (m.row, m.col, m.data))(
      count_transitions(log, split, **how).tocoo()
    ), strict=True)
  }
  assert pairs() == {(1, 2): 1, (2, 3): 2, (3, 2): 1}
  assert pairs(span=2) == {(1, 2): 1, (2, 3): 2, (3, 2): 1, (1, 3): 1, (2, 2): 1}
  assert pairs(last=2) == {(3, 2): 1, (2, 3): 1}
  assert pairs(last=1) == {}
  with pytest.raises(ConfigError, match="span at least one event, not 0"):
    pairs(span=0)
  offered = TrainingCounts({"item": np.arange(5)}, lambda **how: how)
  assert dict(offered)["item"][4] == 4 and offered.transitions(span=2) == {"span": 2}


def test_transition_equals_a_dense_count():
  log = random_log()
  system = learner("transition", num_items=25)
  variables = system.fit(log, everything(log))
  dense = np.zeros((26, 26))
  for user in range(1, log.num_users + 1):
    items = log.item[log.indptr[user] : log.indptr[user + 1]]
    np.add.at(dense, (items[:-1], items[1:]), 1)
  popularity = np.bincount(log.item, minlength=26)
  state = jnp.arange(26, dtype=jnp.int32)[:, None]
  got = system.predict["score_items"](variables, state, jnp.arange(26))
  np.testing.assert_allclose(got, dense + 0.5 * popularity[None] / popularity.max(), rtol=1e-6)


@pytest.mark.parametrize("neighbours", [3, 100])
def test_item_knn_equals_dense_cosines(neighbours, monkeypatch):
  monkeypatch.setattr(counts, "_ROWS", 7)
  log = random_log(1)
  system = learner("item_knn", num_items=25, neighbours=neighbours)
  variables = system.fit(log, everything(log))
  seen = np.zeros((log.num_users + 1, 26))
  for user in range(1, log.num_users + 1):
    seen[user, log.item[log.indptr[user] : log.indptr[user + 1]]] = 1
  norm = np.linalg.norm(seen, axis=0)
  cosine = (seen.T @ seen) / np.where(norm > 0, norm, 1)[:, None] / np.where(norm > 0, norm, 1)
  np.fill_diagonal(cosine, 0)
  got = system.predict["score_items"](
    variables, jnp.arange(26, dtype=jnp.int32)[:, None], jnp.arange(26)
  )
  best = -np.sort(-cosine, axis=1)[:, :neighbours]
  np.testing.assert_allclose(-np.sort(-got, axis=1)[:, : best.shape[1]], best, rtol=1e-5)
  kept = np.asarray(got) > 0
  assert kept.sum(axis=1).max() <= neighbours
  np.testing.assert_allclose(got, np.where(kept, cosine, 0), rtol=1e-5)


@pytest.mark.slow
def test_the_transition_table_on_beauty(data_dir):
  """HR@5 .05116, NDCG@5 .03879, as dense counting gives; .0517, .0391 if ties are for the target."""
  if not (data_dir / "amazon14_beauty").is_dir():
    pytest.skip("no amazon14_beauty")
  log = load({"name": "amazon14_beauty", "folder": str(data_dir)})
  split = make_split(log, Split())
  view = next_item.build(next_item.Config(length=1), log, split)
  predict, rows = learner("transition", length=1, num_items=log.num_items), view.test.rows
  variables = predict.fit(log, split)
  mesh = make_mesh(Mesh())
  config = full_ranking.Config(cutoffs=(5,), beyond_accuracy=False, by_transitions=(0, 1, 2, 5))
  catalogue = Catalogue(log.num_items, view.counts["item"], None, view.counts.transitions)
  run = full_ranking.build(config, predict.predict, view.test, mesh=mesh, catalogue=catalogue)
  found = run(variables)
  assert rows.count == found.facts["cases"] == 22_363
  assert found.values["hr@5"] == pytest.approx(0.05116, abs=5e-5)
  assert found.values["ndcg@5"] == pytest.approx(0.03879, abs=5e-5)
  assert found.facts["cases transitions 0"] / 22_363 == pytest.approx(0.914, abs=1e-3)
  assert view.counts.transitions(last=50).sum() == 127_895
  assert view.counts.transitions(last=50).nnz == 112_191


def test_an_empty_training_range_is_refused_and_empty_users_are_skipped():
  system = learner("popularity")
  nothing = SimpleNamespace(train_begin=LOG.indptr[:-1], train_end=LOG.indptr[:-1])
  with pytest.raises(ConfigError, match="no training events"):
    system.fit(LOG, nothing)
  some = SimpleNamespace(train_begin=LOG.indptr[:-1], train_end=LOG.indptr[:-1].copy())
  some.train_end[2] += 2
  np.testing.assert_array_equal(system.fit(LOG, some)["statistics"]["popularity"], [0, 0, 1, 1, 0])


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown kind 'item_nn'. Did you mean 'item_knn'"):
    learner("item_nn")
  with pytest.raises(ConfigError, match="fit it on a log"):
    learner("popularity").init(None, {}, {})
