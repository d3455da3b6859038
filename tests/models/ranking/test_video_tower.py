"""The supervised ranker of videos: logits by hand, slots in training alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.ranking import video_tower

FIELDS = {
  "user_id": Field("id", (), "user"), "video_id": Field("id", (), "video"), "slot": Field("id"),
  "label": Field("label"), "duration": Field("float"),
}
SCHEMA = Schema(FIELDS, {"user": 4, "video": 6})
BATCH = {
  "user_id": jnp.array([1, 2, 3]), "video_id": jnp.array([5, 1, 1]), "slot": jnp.array([1, 2, 3]),
  "label": jnp.array([1.0, 0.3, 2.0]), "duration": jnp.array([20.0, 5.0, 60.0]),
}
KEY = jax.random.key(0)


def build(**keys):
  learner = video_tower.build(video_tower.Config(width=2, hidden=(3,), **keys), SCHEMA)
  rng = np.random.default_rng(0)
  tables = {
    name: jnp.asarray(rng.normal(size=(SCHEMA.vocabularies[name], 2)), jnp.float32)
    for name in learner.tables
  }
  return learner, {"tables": tables, **learner.init(KEY, tables, BATCH)}


@pytest.fixture(scope="module")
def made():
  return build(slots=3)


def test_logits_and_loss_by_hand(made):
  learner, variables = made
  variables["params"]["slot"] = jnp.array([9.0, 0.5, 0.2, -1.0])
  objective = learner.loss(variables, BATCH, KEY)
  p = jax.tree.map(np.asarray, variables["params"]["scorer"]["tower"])
  total = 0.0
  for row in range(3):
    user = np.asarray(variables["tables"]["user"][BATCH["user_id"][row]])
    video = np.asarray(variables["tables"]["video"][BATCH["video_id"][row]])
    x = np.concatenate([user, video, [np.log(float(BATCH["duration"][row]) / 20)]])
    h = np.maximum(x @ p["dense_0"]["kernel"] + p["dense_0"]["bias"], 0)
    z = user @ video + (h @ p["logit"]["kernel"] + p["logit"]["bias"])[0]
    z += [0, -0.3, -1.5][row]  # against slot 1
    total += np.log1p(np.exp(z)) - float(BATCH["label"][row]) * z
  np.testing.assert_allclose(objective.loss, total, rtol=1e-5)
  assert float(objective.weight) == 3


def test_served_is_the_first_slot(made):
  learner, variables = made
  videos = learner.predict["encode_videos"](
    variables, {"video_id": jnp.arange(6), "duration": jnp.full(6, 20.0)}
  )
  users = {"user_id": jnp.array([1])}
  scores = learner.predict["score_feed"](variables, users, videos)
  assert scores.shape == (1, 6)
  other = {**variables, "params": {**variables["params"], "slot": jnp.arange(4.0)}}
  np.testing.assert_array_equal(scores, learner.predict["score_feed"](other, users, videos))
  one = {**BATCH, **{name: BATCH[name][:1] for name in BATCH}, "label": jnp.zeros(1)}
  # The loss of a label of 0 in slot 1 is softplus of that score.
  loss = learner.loss(variables, one, KEY).loss
  np.testing.assert_allclose(loss, jax.nn.softplus(scores[0, 5]), rtol=1e-5)


def test_without_users_or_duration_nothing_of_them_matters():
  learner, variables = build(users=False, duration=False)
  assert set(learner.tables) == {"video"}
  videos = learner.predict["encode_videos"](
    variables, {"video_id": jnp.array([1, 1, 2]), "duration": jnp.array([1.0, 90, 1])}
  )
  scores = learner.predict["score_feed"](variables, {"user_id": jnp.array([1, 3])}, videos)
  np.testing.assert_array_equal(scores[0], scores[1])
  assert scores[0, 0] == scores[0, 1] != scores[0, 2]
  with pytest.raises(ConfigError, match="lacks 'user_id', 'video_id'.*rows='impressions'"):
    video_tower.build(video_tower.Config(), Schema({}, {}))
