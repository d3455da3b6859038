"""Semantic-aware contrastive learning (SCL): an encoder of items in which what goes together is near.
Sheng et al., CIKM 2024, arXiv 2407.19467 ("Enhancing Taobao Display Advertising with Multimodal
Representations"), section on pre-training; momentum encoder and memory bank as in He et al., MoCo, CVPR
2020, arXiv 1911.05722.

    q = f(x), k = f'(x') for a pair (x, x'),  f' = m f' + (1 - m) f after every step, no gradient
    L = -log(exp(q k / T) / sum_n exp(q k_n / T)) + a max(0, d - q k + max_n q k_n)

n runs over the keys of other groups, in the batch and in a bank of earlier ones, and in the first sum
over the own key too; T is learned. The vectors are then frozen: `serve/item_vectors.py` writes them as
a table, or another model takes the encoder as it is.

Where we depart from the paper, and why:
- The encoder is a small convolutional network for pictures of a few pixels; theirs are large image and
  text encoders. Weight a and margin d are ours: the paper's are not known to us.
- In the paper a pair is what was searched with and what was then bought; here it is what the view
  `item_pairs` says.
- m grows from 0 to its value with the steps, so that a short training does not keep its beginning.
- T is kept above .01.
- Keys of the same group (category) are left out of the negatives: with few groups the hardest negative
  would nearly always be one. In the paper's data pairs have no groups.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.info_nce import info_nce
from recjax.models.learner import Learner, Objective
from recjax.nn.picture_encoder import PictureEncoder
from recjax.nn.similarity import vector_values
from recjax.ranges import Above0, Count, Positive, Rate, Weight

_COLDEST = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the paper's values in brackets, where they are known."""

  name: str = "semantic_contrast"
  channels: tuple[Positive, ...] = (8, 16, 64)  # of the encoder's convolutions
  width: Positive = 16  # of the vectors [128]
  temperature: Above0 = 0.07  # where T starts
  bank: Count = 4096  # earlier keys that are negatives [196800]
  momentum: Rate = 0.99  # m in the end
  margin: Weight = 0.2  # d
  triplet_weight: Weight = 0.5  # a


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads first_vector, second_vector [B, H * H], pictures of a pair, and pair_group [B].

  Its encoder is `params/encoder`. predict["encode"] gives vectors [B, M] of first_vector.

  Raises:
    ConfigError: without these fields, or where they are no square pictures.
  """
  del counts
  for name in ("first_vector", "second_vector", "pair_group"):
    if name not in schema.fields:
      raise ConfigError(f"Contrast needs pairs, but the batch lacks {name!r}; take view item_pairs.")
  size = schema.fields["first_vector"].shape[-1]
  if math.isqrt(size) ** 2 != size:
    raise ConfigError(f"The encoder reads square pictures, but items have {size} numbers.")
  if not config.channels:
    raise ConfigError("The encoder needs a convolution: model.channels must not be empty.")
  module = PictureEncoder(config.channels, config.width)

  def encoded(params, rows):
    return module.apply({"params": params}, vector_values(rows))

  def init(key, tables, batch):
    del tables
    params = module.init(key, vector_values(jnp.asarray(batch["first_vector"])))["params"]
    start = jnp.asarray(math.log(config.temperature), jnp.float32)
    # Group -1 is a place that no key has taken yet.
    bank = {
      "keys": jnp.zeros((config.bank, config.width)), "group": jnp.full(config.bank, -1, jnp.int32),
    }
    # Copies, as a state's arrays are donated one by one.
    momentum = {"encoder": jax.tree.map(jnp.copy, params), "steps": jnp.zeros(())}
    return {
      "params": {"encoder": params, "log_temperature": start}, "momentum": momentum, "bank": bank,
    }

  def loss(variables, batch, key):
    del key
    params, momentum, bank = variables["params"], variables["momentum"], variables["bank"]
    query = encoded(params["encoder"], batch["first_vector"])
    key_ = jax.lax.stop_gradient(encoded(momentum["encoder"], batch["second_vector"]))
    count = len(query)
    keys = jnp.concatenate([key_, bank["keys"]])
    group = jnp.concatenate([batch["pair_group"], bank["group"]])
    own = jnp.eye(count, len(keys), dtype=bool)
    other = (group >= 0)[None] & (batch["pair_group"][:, None] != group[None])
    temperature = jnp.maximum(jnp.exp(params["log_temperature"]), _COLDEST)
    contrast, hits = info_nce(query, keys, own | other, temperature)
    near = jnp.einsum("bd,nd->bn", query, keys)
    hardest = jnp.max(jnp.where(other, near, -1.0), axis=1)
    triplet = jax.nn.relu(config.margin - jnp.diagonal(near) + hardest)
    weight = jnp.float32(count)
    metrics = {
      "contrast": (jnp.sum(contrast), weight), "triplet": (jnp.sum(triplet), weight),
      "hits": (jnp.sum(hits), weight), "temperature": (temperature, jnp.ones(())),
    }
    rate = jnp.minimum(config.momentum, momentum["steps"] / (momentum["steps"] + 1.0))
    mix = lambda old, new: rate * old + (1.0 - rate) * jax.lax.stop_gradient(new)
    mutable = {
      "momentum": {
        "encoder": jax.tree.map(mix, momentum["encoder"], params["encoder"]),
        "steps": momentum["steps"] + 1.0,
      },
      "bank": {"keys": keys[: config.bank], "group": group[: config.bank]},
    }
    total = jnp.sum(contrast) + config.triplet_weight * jnp.sum(triplet)
    return Objective(total, weight, metrics, mutable)

  def encode(variables, batch):
    """Vectors [B, M] of first_vector."""
    return encoded(variables["params"]["encoder"], batch["first_vector"])

  return Learner(schema, {}, init, loss, {"encode": encode})
