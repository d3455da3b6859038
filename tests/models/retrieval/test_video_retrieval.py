"""Users and videos as means, and the encoder's loss on pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.info_nce import symmetric_info_nce
from recjax.models.retrieval import video_retrieval
from recjax.models.retrieval.video_retrieval import action_weights, weighted_mean

CONFIG = video_retrieval.Config(width=4, patch=2, states=8, layers=1, heads=2, hidden=8)
WEIGHTS = CONFIG.weights


def schema(numbers=48):
  fields = {"picture": Field("vector_int8", (numbers,)), "words": Field("tokens", (2,))}
  return Schema(fields, {"word": 9})


@pytest.fixture(scope="module")
def made():
  learner = video_retrieval.build(CONFIG, schema())
  rng = np.random.default_rng(0)
  batch = {
    "picture": jnp.asarray(rng.integers(-100, 100, (5, 48)), jnp.int8),
    "words": jnp.asarray(rng.integers(1, 9, (5, 2)), jnp.int32),
  }
  return learner, jax.jit(learner.init)(jax.random.key(0), {}, batch), batch


def test_means_by_hand():
  x = jnp.array([[[1.0, 0], [0, 1], [1, 0]]])
  user = weighted_mean(x, jnp.array([[1.0, 0.5, 0.25]]))
  np.testing.assert_allclose(user, [[0.9284767, 0.3713907]], atol=1e-6)
  frames = jnp.array([[[1.0, 0], [0.6, 0.8]]])
  video = weighted_mean(frames, jnp.ones((1, 2)))
  np.testing.assert_allclose(video, [[0.8944272, 0.4472136]], atol=1e-6)
  np.testing.assert_allclose(user @ video.T, [[0.9965457]], atol=1e-6)
  twice = weighted_mean(jnp.concatenate([frames, frames], axis=1), jnp.ones((1, 4)))
  np.testing.assert_allclose(twice, video, atol=1e-6)
  np.testing.assert_allclose(weighted_mean(x, jnp.array([[8.0, 4, 2]])), user, atol=1e-6)
  np.testing.assert_array_equal(weighted_mean(x, jnp.zeros((1, 3))), 0)


def test_weights_of_actions_halve_with_age():
  kind, age = jnp.array([[1, 2, 5, 1, 0]]), jnp.array([[0.0, 0, 0, 14, 0]])
  found = action_weights(kind, age, WEIGHTS, 14.0)
  np.testing.assert_allclose(found, [[4.0, 3, 1, 2, 0]], rtol=1e-6)


def test_loss_is_that_of_the_vectors(made):
  learner, variables, batch = made
  objective = jax.jit(learner.loss)(variables, batch, jax.random.key(0))
  seen, read = learner.predict["encode_pairs"](variables, batch)
  losses, hits = symmetric_info_nce(seen, read, jnp.ones(5, bool), 1 / 0.07)
  np.testing.assert_allclose(objective.loss, losses.sum(), rtol=1e-4)
  np.testing.assert_allclose(objective.metrics["hits"], (hits.sum(), 5.0))
  np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, rtol=1e-5)


def test_scores_by_hand_and_for_who_did_nothing(made):
  learner, variables, batch = made
  products = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)), jnp.float32)
  frames = jnp.stack([batch["picture"][:2], batch["picture"][2:4], batch["picture"][:2]])
  videos = learner.predict["encode_videos"](variables, {"frames": frames})
  encode = learner.predict["encode_products"]
  mean = np.asarray(encode(variables, batch))[:2].mean(axis=0)
  np.testing.assert_allclose(videos[0], mean / np.linalg.norm(mean), atol=1e-5)
  np.testing.assert_array_equal(videos[0], videos[2])
  users = {
    "action_product": jnp.array([[1, 3], [0, 0]]), "action_kind": jnp.array([[1, 5], [0, 0]]),
    "action_age": jnp.array([[14.0, 0], [0, 0]]),
  }
  scores = learner.predict["score_feed"](variables, users, videos, products)
  own = np.asarray(2 * products[1] + products[3])
  np.testing.assert_allclose(scores[0], videos @ (own / np.linalg.norm(own)), atol=1e-5)
  everybody = np.asarray(videos[1:]).mean(axis=0)
  expected = videos @ (everybody / np.linalg.norm(everybody))
  np.testing.assert_allclose(scores[1], expected, atol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="lacks 'picture', 'words'; take the view 'feed'"):
    video_retrieval.build(CONFIG, Schema({}, {}))
  with pytest.raises(ConfigError, match="in patches of 2 x 2, and there are 49 numbers"):
    video_retrieval.build(CONFIG, schema(49))
  with pytest.raises(ConfigError, match="weights are of purchase, cart, .*, not 1 numbers"):
    video_retrieval.build(video_retrieval.Config(weights=(1.0,), patch=2), schema())
  with pytest.raises(ConfigError, match="heads=3 must divide model.states=64"):
    video_retrieval.build(video_retrieval.Config(heads=3, patch=2), schema())
