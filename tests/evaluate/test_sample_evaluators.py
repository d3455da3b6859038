"""Judged samples and told noise, with models whose answers can be worked out by hand."""

import io

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from recjax.config import Mesh
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows, SampleCases
from recjax.errors import ConfigError
from recjax.evaluate import denoising, full_ranking, personal_samples, sampled_ranking
from recjax.evaluate.pictures import grid, write_png
from recjax.nn.decoupled_attention import Extra
from recjax.train.mesh import make_mesh

MESH = make_mesh(Mesh())
USERS, REPEATS, SHAPE = 5, 2, (2, 3, 3)


def user_cases(judge, groups=("seen", "unseen")):
  """Users 1 to 5 with 2 cases each, the last two in another group; the batch tells who it is."""
  user = np.repeat(np.arange(1, USERS + 1), REPEATS).astype(np.int32)
  gather = lambda xp, columns, index: {"user_id": columns["user"][index]}
  rows = Rows(len(user), {"user": user}, gather, Schema({"user_id": Field("id")}, {}))
  repeat = np.tile(np.arange(REPEATS), USERS).astype(np.int32)
  group = (user > 3).astype(np.int32)
  return SampleCases(rows, user, repeat, repeat, group, groups, judge, SHAPE)


def encode_user(variables, batch):
  return Extra({"a": batch["user_id"].astype(jnp.float32)}, {}, None)


def generate(variables, batch, noise, extra, **how):
  """The noise, and where there are users their numbers times the scales on top."""
  extras = () if extra is None else (extra,) if isinstance(extra, Extra) else extra
  added = sum(one.scale * one.key["a"] for one in extras) if extras else jnp.zeros(len(noise))
  return noise + variables["size"] * jnp.reshape(added, (-1, 1, 1, 1))


def judge(samples, user, prompt):
  """User 5 dislikes large numbers, others like them."""
  mean = samples.reshape(len(samples), -1).mean(1)
  return {"reward": np.where(user == 5, -mean, mean), "off_style": np.full(len(samples), 7.0)}


PREDICT = {"encode_user": encode_user, "generate": generate}


@pytest.fixture(scope="module")
def run():
  config = personal_samples.Config(mixtures=3, pictures=1, batch_size=8)
  return personal_samples.build(config, PREDICT, user_cases(judge), mesh=MESH)


def test_values_by_hand(run):
  found = run({"size": jnp.float32(1.0)})
  value = found.values
  # A user's sample has the user's number on top: 1, 2, 3, 4, and -5 in the eyes of user 5.
  assert value["win"] == pytest.approx(4 / 5)
  assert value["gain"] == pytest.approx((1 + 2 + 3 + 4 - 5) / 5, abs=1e-5)
  assert value["gain_part"] == pytest.approx(value["gain"] / 2, abs=1e-5)
  assert value["gain_beyond_part"] == pytest.approx(value["gain"] / 2, abs=1e-5)
  assert value["gain_seen"] == pytest.approx(2, abs=1e-5) and value["win_seen"] == 1
  assert value["gain_unseen"] == pytest.approx(-0.5, abs=1e-5) and value["win_unseen"] == 0.5
  # Another user instead: 2, 3, 4, 5, and 1 after the last; in the second case 3, 4, 5, 1 and 2.
  assert value["gain_other"] == pytest.approx((2 + 3 + 4 + 5 - 1 + 3 + 4 + 5 + 1 - 2) / 10, abs=1e-5)
  assert value["gain_other_unseen"] == pytest.approx((5 - 1 + 1 - 2) / 4, abs=1e-5)
  assert value["off_style"] == value["base_off_style"] == 7
  assert value["reward"] == pytest.approx(value["base_reward"] + value["gain"], abs=1e-5)
  # From each user to the other, in the eyes of the first.
  step = [value[f"mixed_first_{i}"] - value["base_reward"] for i in range(3)]
  np.testing.assert_allclose(step, [1, 1.7, 2.4], atol=1e-5)
  assert value["mixed_first_order"] == pytest.approx(1)
  np.testing.assert_array_equal(found.case_user, np.repeat([1, 2, 3, 4, 5], 2))
  np.testing.assert_array_equal(found.per_case["win"], np.repeat([1, 1, 1, 1, 0], 2))
  assert found.facts == {"cases": 10, "users": 5}


def test_without_users_everything_ties(run):
  value = run({"size": jnp.float32(0.0)}).values
  assert {value[n] for n in ("win", "win_part", "win_other", "win_seen")} == {0.5}
  assert value["gain"] == value["mixed_first_order"] == 0


def test_noises_are_those_of_the_repeat_and_pictures_show_users(run, tmp_path):
  found = run({"size": jnp.float32(1.0)})
  base = found.per_case["base_reward"].reshape(USERS, REPEATS)
  np.testing.assert_allclose(base[0], base[3], rtol=1e-6)
  np.testing.assert_allclose(base[0], -base[4], rtol=1e-6)
  assert abs(base[0, 0] - base[0, 1]) > 1e-3
  # The base and the first user of both groups, two samples each; a walk of three steps.
  image = found.pictures["samples"]
  assert image.shape == (3 * 4 - 2, 2 * 5 - 2, 3) and found.pictures["mixed"].shape == (6, 13, 3)
  write_png(tmp_path / "x.png", image, zoom=3)
  read = plt.imread(io.BytesIO((tmp_path / "x.png").read_bytes()))
  np.testing.assert_array_equal(np.round(read[::3, ::3, :3] * 255), image)


def test_a_grid_by_hand():
  pictures = np.stack([np.full((1, 1, 3), v, np.float32) for v in (-1, 0, 1, 5)]).reshape(2, 2, 1, 1, 3)
  np.testing.assert_array_equal(
    grid(pictures, gap=1)[..., 0], [[0, 255, 128], [255, 255, 255], [255, 255, 255]]
  )


def test_told_noise():
  """Every sample counts once; the key depends on the batch, the mean over repeats on config.seed."""
  rows = Rows(
    11, {"x": np.arange(11, dtype=np.float32)}, lambda xp, c, i: {"x": c["x"][i]},
    Schema({"x": Field("float")}, {}),
  )
  user = np.arange(11, dtype=np.int32)
  cases = Cases(rows, user, np.zeros((11, 0), np.int32), None)
  error = lambda variables, batch, key: batch["x"] + jax.random.uniform(key)
  config = denoising.Config(batch_size=8, repeats=3)
  run = denoising.build(config, {"denoising_error": error}, cases, mesh=MESH)
  found = run({})
  drawn = 1 - found.per_case["explained"] - user
  assert 0 < drawn.min() and drawn.max() < 1 and len(np.unique(np.round(drawn, 4))) == 2
  assert found.values["explained"] == pytest.approx(1 - 5 - drawn.mean())


def test_mistakes_are_named():
  build = lambda predict, cases, **keys: personal_samples.build(
    personal_samples.Config(**keys), predict, cases, mesh=MESH
  )
  with pytest.raises(ConfigError, match="needs the prediction function 'generate'"):
    build({"encode_user": encode_user}, user_cases(judge))
  with pytest.raises(ConfigError, match="needs a view whose cases have a judge"):
    build(PREDICT, Cases(None, None, None, None))
  with pytest.raises(ConfigError, match="are no pictures: set pictures=0"):
    build(PREDICT, user_cases(judge)._replace(shape=(2, 2, 4)), pictures=2)
  with pytest.raises(ConfigError, match="mixtures are 0 or at least 2"):
    personal_samples.Config(mixtures=1)
  ranks = {"encode_user": None, "score_items": None, "score": None}
  for module in (full_ranking, sampled_ranking):
    with pytest.raises(ConfigError, match="ranks items, and these data have none"):
      module.build(module.Config(), ranks, user_cases(judge), mesh=MESH, catalogue=None)
