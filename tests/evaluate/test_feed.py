"""Lists of a feed, retrieval of words and the health of vectors, by hand and by loops."""

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from recjax.config import Mesh
from recjax.data.sources import planted_feed
from recjax.data.views import feed as view
from recjax.errors import ConfigError, DataError
from recjax.evaluate import feed, word_retrieval
from recjax.evaluate.vector_health import effective_rank, mean_cosine
from recjax.train.mesh import make_mesh


@pytest.fixture(scope="module")
def cases():
  config = planted_feed.Config(num_products=30, num_videos=40, new_videos=12, num_users=50)
  return view.build(view.Config(), planted_feed.open_source(config), None).test


@pytest.fixture(scope="module")
def mesh():
  return make_mesh(Mesh())


def test_vectors_that_collapse():
  assert effective_rank(np.eye(5)) == pytest.approx(5)
  assert effective_rank(np.ones((5, 3))) == pytest.approx(1)
  assert np.isnan(effective_rank(np.zeros((2, 2)))) and np.isnan(mean_cosine(np.ones((1, 2))))
  assert mean_cosine(np.eye(4) * 3) == pytest.approx(0)
  assert mean_cosine(np.ones((4, 2))) == pytest.approx(1)
  vectors = np.random.default_rng(0).normal(size=(6, 3))
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  pairs = [unit[i] @ unit[j] for i in range(6) for j in range(6) if i != j]
  assert mean_cosine(vectors) == pytest.approx(np.mean(pairs))


def test_graded_lists_by_hand():
  gains = np.array([[0.1, 0.9, 0.5]])
  assert feed.graded_ndcg(np.array([[0.0, 2.0, 1.0]]), gains, 2)[0] == pytest.approx(1)
  found = feed.graded_ndcg(np.array([[3.0, 1.0, 2.0]]), gains, 2)[0]
  second = 1 / np.log2(3)
  assert found == pytest.approx((0.1 + 0.5 * second) / (0.9 + 0.5 * second))


def test_rank_correlations_are_spearmans():
  rng = np.random.default_rng(1)
  scores, other = rng.integers(0, 5, (4, 30)).astype(float), rng.normal(size=30)
  expected = [spearmanr(row, other).statistic for row in scores]
  np.testing.assert_allclose(feed.rank_correlations(scores, other), expected)
  np.testing.assert_array_equal(feed.rank_correlations(np.ones((1, 30)), other), 0)


def test_the_truth_gets_everything_right_and_duration_is_seen(cases, mesh):
  """A model that knows the truth, and one that knows durations alone."""
  truth = np.concatenate([np.zeros((1, 41)), cases.truth(np.arange(1, 51))])
  predict = {
    "encode_videos": lambda v, batch: {"duration": batch["duration"]},
    "score_feed": lambda v, users, videos, products=None: v[0][users["user_id"]]
    + v[1] * videos["duration"][None],
  }
  run = feed.build(feed.Config(batch_size=16), predict, cases, mesh=mesh)
  right = run((jax.numpy.asarray(truth, "float32"), np.float32(0))).values
  assert right["ndcg@10 known"] == pytest.approx(1) and right["ndcg@10 new"] == pytest.approx(1)
  assert right["slot_gap"] == pytest.approx(0, abs=1e-9) and "effective_rank" not in right
  found = run((jax.numpy.zeros((51, 41)), np.float32(1)))
  assert found.values["duration"] == pytest.approx(1)
  duration = cases.duration[1:]
  longest = np.argsort(-duration)[:10]
  longer = duration[longest].mean() / duration.mean()
  assert found.values["length@10"] == pytest.approx(longer, rel=1e-5)
  assert found.values["new@10"] == pytest.approx((~cases.known[1:])[longest].mean())
  assert found.values["liked@10"] == pytest.approx(truth[cases.user][:, 1 + longest].mean())
  seen = np.isfinite(cases.slot)
  lean = [
    spearmanr(duration[seen[1:]], cases.slot[seen]).statistic
    - spearmanr(truth[user][seen], cases.slot[seen]).statistic for user in cases.user
  ]
  assert found.values["slot_gap"] == pytest.approx(abs(np.mean(lean)), abs=1e-6)
  assert found.lists.min() >= 1 and found.facts["cases"] == len(cases.user) == 40
  with pytest.raises(DataError, match="scores that are not finite"):
    run((jax.numpy.asarray(truth, "float32") * np.nan, np.float32(0)))


def test_own_words_must_be_nearest_but_for_equal_ones():
  queries, keys = np.eye(3), np.array([[1.0, 0, 0], [1.0, 0.5, 0], [0, 0, 1.0]])
  words = np.array([[1, 2], [3, 4], [5, 6]])
  assert word_retrieval.first_hits(queries, keys, words).tolist() == [0, 1, 1]
  words[1] = [2, 1]  # the same words in another order
  assert word_retrieval.first_hits(queries, keys, words).tolist() == [1, 1, 1]


def test_mistakes_are_named(cases, mesh):
  given = {"encode_videos": None, "score_feed": None, "encode_pairs": None}
  with pytest.raises(ConfigError, match="Evaluator 'feed' needs the prediction function 'encode_vid"):
    feed.build(feed.Config(), {}, cases, mesh=mesh)
  with pytest.raises(ConfigError, match="Evaluator 'feed' ranks the videos of a feed"):
    feed.build(feed.Config(), given, None, mesh=mesh)
  with pytest.raises(DataError, match="Lists of 20 cannot be made of 12 new videos"):
    feed.build(feed.Config(k=20), given, cases, mesh=mesh)
  with pytest.raises(ConfigError, match="'word_retrieval' needs pairs"):
    word_retrieval.build(word_retrieval.Config(), given, None, mesh=mesh)
