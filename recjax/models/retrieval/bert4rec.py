"""BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer.
Sun, Liu, Wu, Pei, Lin, Ou and Jiang, CIKM 2019, arXiv 1904.06690.

    x_t = LN(E[i_t] + P_t), of a masked item LN(m + P_t)
    x   <- LN(x + Attention(x));  x <- LN(x + FFN(x))    for each block, FFN = Dense-GELU-Dense
    h   = LN(GELU(W x + w));  score_j = h_t . E[j]
    loss = cross-entropy over all items at the masked positions

Attention goes both ways and ignores padding. Training masks a share of a sequence's items, at least
one, or, in a share `last` of the rows, its last item alone. A prediction puts the mask behind the
history, so positions are one more than the view's length.

Where we depart from the paper and its code, and why:
- Masks are drawn anew in every step; the code stores ten masked copies of a sequence and one with its
  last item masked, hence last = 1 / 11. A masked item is always replaced by the mask, as in the paper.
- A sequence longer than the view's length gives windows, which the view lays for every model without
  overlap; the code's windows overlap by steps of a share of their length.
- Items have no bias in the output. Dropout is one rate for inputs, attention and sub-layers.
- Initial values of maps are LeCun's, those of items, positions and mask N(0, stddev^2).
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.softmax import full_softmax
from recjax.models.learner import Learner, Objective
from recjax.models.retrieval._next_item import require_every_target
from recjax.models.retrieval._vectors import predictions
from recjax.nn.dense import Dense
from recjax.nn.dropout import Dropout
from recjax.nn.encoder_block import EncoderBlock
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Rate, Share, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the view."""

  name: str = "bert4rec"
  width: Positive = 64  # D, of the item table and every layer
  layers: Count = 2  # attention blocks
  heads: Positive = 2  # must divide width
  expansion: Positive = 4  # hidden width of the FFN in multiples of D
  dropout: Rate = 0.2  # the code has 0.2 on MovieLens-1M, 0.5 on Beauty
  share: Share = 0.2  # of a sequence's items that are masked; 0.2 on MovieLens-1M, 0.6 on Beauty
  last: Share = 0.1  # of the rows, in which only the last item is masked
  stddev: Weight = 0.02  # of initial items, positions and mask


class BERT4Rec(nn.Module):
  """The encoder: tables and a sequence to states [B, S, D], zero at padding."""

  config: Config
  length: int  # of the longest sequence, with the mask behind a history

  @nn.compact
  def __call__(
    self,
    tables: Mapping[str, jax.Array],
    ids: jax.Array,
    real: jax.Array,
    masked: jax.Array,
    *,
    train: bool,
    newest: int | None = None,
  ) -> jax.Array:
    """States for items ids [B, S], of which `real` are there and `masked` are to be told.

    With `newest` only those of the last so many positions.
    """
    config = self.config
    wanted = newest or ids.shape[1]
    drop = lambda y: Dropout(config.dropout, deterministic=not train)(y)
    normal = nn.initializers.normal(config.stddev)
    blank = self.param("mask", normal, (config.width,), jnp.float32)
    position = self.param("position", normal, (self.length, config.width), jnp.float32)
    keep = real[:, :, None].astype(jnp.float32)
    x = take(tables["item"], jnp.where(real & ~masked, ids, 0))
    x = jnp.where(masked[:, :, None], blank[None, None], x) + position[None, -ids.shape[1] :]
    x = drop(nn.LayerNorm(name="input_norm")(x)) * keep
    for index in range(config.layers):
      block = EncoderBlock(
        config.heads, config.expansion * config.width, config.dropout, "post", causal=False,
        activation=nn.gelu, name=f"block_{index}",
      )
      last = index == config.layers - 1
      x = block(x, real, train=train, newest=wanted if last else None)
      x = x * keep[:, -x.shape[1] :]
    x = x[:, -wanted:]
    x = nn.gelu(Dense(config.width, name="output")(x))
    return nn.LayerNorm(name="output_norm")(x) * keep[:, -wanted:]


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads hist_item, hist_mask and target_item, all [B, L], as the view 'next_item' has.

  Raises ConfigError for heads that do not divide the width and for another view.
  """
  del counts
  if config.width % config.heads:
    raise ConfigError(f"{config.heads} heads cannot share the width {config.width} evenly.")
  require_every_target(schema)
  length = schema.fields["hist_item"].shape[0] + 1
  size = schema.vocabularies["item"]
  module = BERT4Rec(config, length)

  def init(key, tables, batch):
    ids, real = sequence(batch)
    return module.init(key, tables, ids, real, real, train=False)

  def draw(variables, batch, key):
    return {**batch, "masked": masks(key, sequence(batch)[1], config.share, config.last)}

  def loss(variables, batch, key):
    ids, real = sequence(batch)
    masked = batch["masked"]
    states = module.apply(
      {"params": variables["params"]}, variables["tables"], ids, real, masked, train=True,
      rngs={"dropout": key},
    )
    weights = (masked & real).reshape(-1).astype(jnp.float32)
    value, hits = full_softmax(
      states.reshape(-1, config.width), variables["tables"]["item"], ids.reshape(-1), weights,
      num_items=size - 1,
    )
    total = jnp.sum(weights)
    return Objective(value, total, {"accuracy": (hits, total)})

  def encode_user(variables, batch):
    """What the mask behind each history becomes, [B, D]; of an empty one the mask alone."""
    behind = ((0, 0), (0, 1))
    real = jnp.pad(batch["hist_mask"], behind, constant_values=True)
    masked = jnp.zeros_like(real).at[:, -1].set(True)
    params = {"params": variables["params"]}
    ids = jnp.pad(batch["hist_item"], behind)
    states = module.apply(
      params, variables["tables"], ids, real, masked, train=False, newest=1
    )
    return states[:, 0]

  return Learner(
    schema.extend(masked=Field("mask", (length,))),
    {"item": TableSpec("item", config.width, config.stddev)},
    init, loss, predictions(encode_user), draw, whole_tables=("item",),
  )


def sequence(batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """The items of each row, its inputs and its last target, [B, L + 1], and which of them are real."""
  last = batch["target_item"][:, -1:]
  ids = jnp.concatenate([batch["hist_item"], last], axis=1)
  return ids, jnp.concatenate([batch["hist_mask"], last != 0], axis=1)


def masks(key: jax.Array, real: jax.Array, share: float, last: float) -> jax.Array:
  """Which items to mask, bool [B, S]: of each row's n real ones round(share n), but at least one.

  In a share `last` of the rows it is the last position alone.
  """
  noise_key, last_key = jax.random.split(key)
  noise = jnp.where(real, jax.random.uniform(noise_key, real.shape), 2.0)
  rank = jnp.argsort(jnp.argsort(noise, axis=1), axis=1)
  count = jnp.sum(real, axis=1, keepdims=True)
  most = jnp.maximum(jnp.round(share * count.astype(jnp.float32)).astype(jnp.int32), 1)
  only = jax.random.uniform(last_key, (len(real), 1)) < last
  at_end = jnp.arange(real.shape[1])[None] == real.shape[1] - 1
  return real & jnp.where(only, at_end, rank < most)
