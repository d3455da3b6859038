"""After "Short-Form Video Recommendations with Multimodal Embeddings: Addressing Cold-Start and Bias
Challenges". Dzhoha, Mirylenka, Malykh, Buchmann and Catino (Zalando), 2025, arXiv 2507.19346.

Videos are found without any that was watched. Of a dual encoder of pictures and words f, tuned to the
products of the shop by CLIP's loss (Radford et al., arXiv 2103.00020),

    L   = 1/2 [CE(s Z_I Z_T', diagonal) + CE(s Z_T Z_I', diagonal)],  s = min(exp(logit_scale), 100)
    x_p = f(picture of product p),   v = norm(mean over frames of f(frame))
    u   = norm(sum_p a_p x_p),       a_p = w(kind of action p) 2^(-age_p / half_life)
    score(u, v) = u . v

No duration, slot or popularity enters, so nothing of them can leave.

Where we depart from the paper, and why:
- The paper gives no equations that we know of: that users are weighted means, videos means of frames,
  and the encoder tuned, is from its abstract and a figure's caption; the weights, the half-life, the
  loss and the sizes are ours.
- The encoder trained here is tiny (`vision.clip.Clip`, its words a bag). Published CLIP weights fit the
  same module; nothing here fetches them.
- Frames come as given; how they are chosen from a film is the business of the data.
- A user who did nothing gets the mean of all videos as u, which is the same for everybody.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.data.video_feed import ACTIONS
from recjax.errors import ConfigError
from recjax.losses.info_nce import clipped_scale, symmetric_info_nce
from recjax.models.learner import Batch, Learner, Objective, Variables
from recjax.nn.multi_interest import normalize
from recjax.nn.similarity import vector_values
from recjax.ranges import Above0, Positive, Weight
from recjax.vision.clip import Clip, Sizes, Stack

_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; all of it is ours."""

  name: str = "video_retrieval"
  width: Positive = 32  # E, of vectors
  patch: Positive = 8  # of pictures
  states: Positive = 64  # width within the picture tower, and of words
  layers: Positive = 2
  heads: Positive = 4
  hidden: Positive = 128
  weights: tuple[Weight, ...] = (4.0, 3.0, 3.0, 1.0, 1.0)  # of kinds of actions, `ACTIONS`
  half_life: Above0 = 14.0  # of actions, in days
  largest_scale: Above0 = 100.0


def action_weights(
  kind: jax.Array, age: jax.Array, weights: tuple[float, ...], half_life: float
) -> jax.Array:
  """a [B, P] of kinds [B, P], from 1 and 0 for padding, and ages [B, P] in days."""
  of_kind = jnp.asarray((0.0, *weights), jnp.float32)
  return of_kind[kind] * jnp.exp2(-age / half_life)


def weighted_mean(vectors: jax.Array, weights: jax.Array) -> jax.Array:
  """Means [B, D] of vectors [B, P, D] by weights [B, P] at length one; zero where all weights are."""
  share = weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1e-30)
  return normalize(jnp.einsum("bp,bpd->bd", share, vectors))


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads picture [B, M], square with three channels, and words [B, W].

  predict: `encode_pairs` gives vectors of pictures and of words [B, E] each; `encode_products` and
  `encode_videos` vectors [B, E] of picture and of frames [B, F, M]; `score_feed` scores [B, V] of
  users for videos, from these.

  Raises:
    ConfigError: for other fields or pictures, or weights for another number of kinds.
  """
  del counts
  missing = [name for name in ("picture", "words") if name not in schema.fields]
  if missing:
    raise ConfigError(
      f"The batch lacks {', '.join(map(repr, missing))}; take the view 'feed' with rows='pairs'."
    )
  numbers = schema.fields["picture"].shape[-1]
  side = math.isqrt(numbers // _CHANNELS)
  if _CHANNELS * side**2 != numbers or side % config.patch:
    raise ConfigError(
      f"The encoder reads square pictures of {_CHANNELS} channels in patches of {config.patch} x "
      f"{config.patch}, and there are {numbers} numbers in a picture: change model.patch."
    )
  if len(config.weights) != len(ACTIONS):
    raise ConfigError(f"model.weights are of {', '.join(ACTIONS)}, not {len(config.weights)} numbers.")
  if config.states % config.heads:
    raise ConfigError(f"model.heads={config.heads} must divide model.states={config.states}.")
  words = schema.fields["words"].shape[-1]
  model = Clip(Sizes(
    side, config.patch, Stack(config.states, config.layers, config.heads, config.hidden),
    schema.vocabularies["word"], words, Stack(config.states, 0), config.width, _CHANNELS,
  ))

  def pixels(codes):
    return vector_values(codes).reshape(-1, side, side, _CHANNELS)

  def encode(variables, codes):
    """Vectors [..., E] of pictures [..., M]."""
    made = model.apply({"params": variables["params"]}, pixels(codes), method="encode_pictures")
    return made.reshape(*codes.shape[:-1], config.width)

  def init(key, tables, batch):
    del tables
    return {"params": model.init(key, pixels(batch["picture"]), batch["words"])["params"]}

  def loss(variables, batch, key):
    del key
    seen, read, log_scale = model.apply(
      {"params": variables["params"]}, pixels(batch["picture"]), batch["words"]
    )
    scale = clipped_scale(log_scale, config.largest_scale)
    losses, hits = symmetric_info_nce(seen, read, jnp.ones(len(seen), bool), scale)
    weight = jnp.float32(len(losses))
    metrics = {"hits": (jnp.sum(hits), weight), "scale": (scale, jnp.ones(()))}
    return Objective(jnp.sum(losses), weight, metrics)

  def encode_pairs(variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Vectors of pictures and of words."""
    read = model.apply({"params": variables["params"]}, batch["words"], method="encode_texts")
    return encode(variables, batch["picture"]), read

  def encode_videos(variables: Variables, batch: Batch) -> jax.Array:
    """v [B, E]."""
    frames = encode(variables, batch["frames"])
    return weighted_mean(frames, jnp.ones(frames.shape[:2], frames.dtype))

  def score_feed(
    variables: Variables, users: Batch, videos: jax.Array, products: jax.Array
  ) -> jax.Array:
    """Products [B, V] of u with v [V, E]; x is in products [P + 1, E], row 0 for padding."""
    del variables
    weights = action_weights(
      users["action_kind"], users["action_age"], config.weights, config.half_life
    )
    own = weighted_mean(products[users["action_product"]], weights)
    some = jnp.any(weights > 0, axis=1, keepdims=True)
    # Row 0 of the videos is padding.
    everybody = normalize(jnp.mean(videos[1:], axis=0, keepdims=True))
    return jnp.where(some, own, everybody) @ videos.T

  predict = {
    "encode_pairs": encode_pairs, "encode_videos": encode_videos, "score_feed": score_feed,
    "encode_products": lambda variables, batch: encode(variables, batch["picture"]),
  }
  return Learner(schema, {}, init, loss, predict)
