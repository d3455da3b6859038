"""Self-Attentive Sequential Recommendation. Kang and McAuley, ICDM 2018, arXiv 1808.09781.

    x_t = sqrt(D) E[i_t] + P_t                        inputs, P learned per array position
    x   <- x + Attention(LN(x));  x <- x + FFN(LN(x))  for each block (layout "pre")
    h   = LN(x);  score_j = h_L . E[j]

Attention is causal and ignores padding, FFN is Dense-ReLU-Dense, and every sub-layer's output, the
inputs and the attention weights are dropped out. Histories end at the last array position, so P
counts from the newest event.

Where we depart from the paper, and why:
- Layout. The authors' code normalises only the queries and adds the attention to them instead of to
  x; that is "original". "post" normalises after each residual sum. "pre" is the default: it trains
  without warm-up.
- Loss. The paper draws one negative per position (loss "bce"). Cross-entropy over all items is the
  much stronger model of the same name, so it is the default.
- The attention has an output projection, and the FFN may be wider than D.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner
from recjax.models.retrieval._next_item import build_next_item, require
from recjax.nn.encoder_block import LAYOUTS, EncoderBlock
from recjax.nn.sequence_input import sequence_input
from recjax.nn.tables import TableSpec
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the view."""

  name: str = "sasrec"
  width: Positive = 64  # D, of the item table and every layer
  layers: Count = 2  # attention blocks
  heads: Positive = 2  # must divide width
  expansion: Positive = 1  # hidden width of the FFN in multiples of D; 1 in the paper
  dropout: Rate = 0.2  # the authors use 0.5 on sparse data, 0.2 on MovieLens-1M
  norm: str = "pre"  # pre | post | original
  stddev: Weight = 0.02  # of the initial item vectors
  loss: str = "full_softmax"  # full_softmax | sampled_softmax | bce
  negatives: Positive = 256  # K of sampled_softmax
  sampling: str = "uniform"  # uniform | popularity
  # Groups of rows of like length that a batch is trained in; above 1 it is faster where most
  # histories are much shorter than the view's length. Must divide the batch.
  groups: Positive = 1


class SASRec(nn.Module):
  """The encoder: tables and batch to states [B, L, D], zero at padding."""

  config: Config
  length: int  # of the longest history

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool,
    newest: int | None = None,
  ) -> jax.Array:
    """States [B, L, D] for the newest L positions hist_item [B, L] and hist_mask [B, L].

    With `newest` only those of the last so many, which spares most of the last block.
    """
    config = self.config
    mask = batch["hist_mask"]
    wanted = newest or mask.shape[1]
    real = mask[:, :, None].astype(jnp.float32)
    x = sequence_input(
      self, tables["item"], batch["hist_item"], mask,
      length=self.length, stddev=0.02, dropout=config.dropout, train=train,
    )
    for index in range(config.layers):
      block = EncoderBlock(
        config.heads, config.expansion * config.width, config.dropout, config.norm,
        name=f"block_{index}",
      )
      last = index == config.layers - 1
      x = block(x, mask, train=train, newest=wanted if last else None)
      x = x * real[:, -x.shape[1] :]
    x = x[:, -wanted:]
    if config.norm != "post":
      x = nn.LayerNorm(name="norm")(x)
    return x * real[:, -wanted:]


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_next_item.build_next_item` for fields, losses and errors."""
  if config.norm not in LAYOUTS:
    raise ConfigError(unknown("norm", config.norm, LAYOUTS))
  if config.width % config.heads:
    raise ConfigError(f"{config.heads} heads cannot share the width {config.width} evenly.")
  require(schema, "hist_item")
  return build_next_item(
    SASRec(config, schema.fields["hist_item"].shape[0]),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss=config.loss,
    negatives=config.negatives,
    sampling=config.sampling,
    groups=config.groups,
  )
