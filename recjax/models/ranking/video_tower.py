"""A supervised ranker of videos by ids and duration: what content-based retrieval is compared with.

After the baselines of arXiv 2507.19346 (Dzhoha et al., 2025), of which no equations are known to us:

    z(u, v, r) = e_u . e_v + MLP([e_u, e_v, ln(d_v / 20)]) + b_r,     L = BCE(z, label)

What the label is, half-watches, ratios or quantiles, and whether slots are corrected for, is the
view's business. b_r is the logit of the slot, learned in training alone (`slots`); served is the first
slot for all. Labels divided by the chance of a slot may be above 1, where the loss of one example has
no lower bound, but that of all has.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.models.learner import Batch, Learner, Objective, Variables
from recjax.nn.tables import TableSpec, take
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

_USUAL = 20.0  # seconds


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; all of it is ours."""

  name: str = "video_tower"
  width: Positive = 16  # of vectors of users and videos
  stddev: Weight = 0.1  # of their initial values
  hidden: tuple[Positive, ...] = (128, 64)
  dropout: Rate = 0.0  # after each hidden layer
  duration: bool = True  # False: not an input
  users: bool = True  # False: nothing is known of users, so that all get the same list
  slots: Count = 0  # learn a logit of each of so many slots; 0: of none


class Scorer(nn.Module):
  """Vectors of users and videos, and durations, to logits in the first slot."""

  config: Config

  @nn.compact
  def __call__(
    self, user: jax.Array | None, video: jax.Array, duration: jax.Array, *, train: bool
  ) -> jax.Array:
    """user [..., D] or None, video [..., D] and duration [...] in seconds to [...]."""
    parts = [video] if user is None else [user, video]
    if self.config.duration:
      parts.append(jnp.log(jnp.maximum(duration, 1e-3) / _USUAL)[..., None])
    x = jnp.concatenate(parts, axis=-1)
    tower = CTRTower(self.config.hidden, "relu", "none", self.config.dropout, name="tower")
    logit = tower(x, jnp.ones(x.shape[:-1], bool), train=train)
    return logit if user is None else logit + jnp.sum(user * video, axis=-1)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads user_id, video_id, slot, duration and label [B].

  predict: `encode_videos` gives vectors and durations of videos; `score_feed` logits [B, V] of users
  for videos in the first slot.

  Raises:
    ConfigError: for other fields.
  """
  del counts
  needed = ("user_id", "video_id", "slot", "duration", "label")
  missing = [name for name in needed if name not in schema.fields]
  if missing:
    raise ConfigError(
      f"The batch lacks {', '.join(map(repr, missing))}; take the view 'feed' with rows='impressions'."
    )
  model = Scorer(config)
  tables = {"video": TableSpec("video", config.width, config.stddev)}
  if config.users:
    tables["user"] = TableSpec("user", config.width, config.stddev)

  def score(params, user, video, duration, key=None):
    rngs = {} if key is None else {"dropout": key}
    return model.apply(
      {"params": params["scorer"]}, user, video, duration, train=key is not None, rngs=rngs
    )

  def user_of(variables, batch):
    return take(variables["tables"]["user"], batch["user_id"]) if config.users else None

  def init(key, tables, batch):
    video = take(tables["video"], batch["video_id"])
    user = take(tables["user"], batch["user_id"]) if config.users else None
    made = model.init(key, user, video, batch["duration"], train=False)["params"]
    return {"params": {"scorer": made, "slot": jnp.zeros(config.slots + 1)}}

  def loss(variables, batch, key):
    video = take(variables["tables"]["video"], batch["video_id"])
    params = variables["params"]
    logit = score(params, user_of(variables, batch), video, batch["duration"], key)
    if config.slots:
      # Slot 1 is the one that others are compared with.
      apart = jnp.clip(batch["slot"], 1, config.slots)
      logit = logit + params["slot"][apart] - params["slot"][1]
    total, weight = binary_cross_entropy(logit, batch["label"], jnp.ones_like(logit))
    return Objective(total, weight)

  def encode_videos(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Vector [B, D] and duration [B]."""
    vector = take(variables["tables"]["video"], batch["video_id"])
    return {"vector": vector, "duration": batch["duration"]}

  def score_feed(
    variables: Variables, users: Batch, videos: dict[str, jax.Array], products: None = None
  ) -> jax.Array:
    """Logits [B, V] in the first slot."""
    del products
    shape = (len(users["user_id"]), len(videos["duration"]))
    video = jnp.broadcast_to(videos["vector"], (*shape, config.width))
    duration = jnp.broadcast_to(videos["duration"], shape)
    user = user_of(variables, users)
    if config.users:
      user = jnp.broadcast_to(user[:, None], video.shape)
    return score(variables["params"], user, video, duration)

  return Learner(schema, tables, init, loss, {"encode_videos": encode_videos, "score_feed": score_feed})
