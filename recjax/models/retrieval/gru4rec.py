"""Session-based Recommendations with Recurrent Neural Networks. Hidasi, Karatzoglou, Baltrunas and
Tikk, ICLR 2016, arXiv 1511.06939.

    h_t = GRU(h_{t-1}, E[i_t]);  score_j = h_L . E[j]

Where we depart from the paper, and why:
- Rows are padded histories under a mask instead of session-parallel batches, whose state would
  outlive a batch; a batch here is a function of its rows alone.
- The loss is the cross-entropy over all or over drawn items, shared with SASRec, instead of TOP1
  over the other sessions' items: the later literature's usual form of this baseline.
- Input and output share one item table.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.models.learner import Learner
from recjax.models.retrieval._next_item import build_next_item
from recjax.nn.dropout import Dropout
from recjax.nn.gru import GRU
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Positive, Rate, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "gru4rec"
  width: Positive = 64  # D, of the item table and of every recurrent state
  layers: Positive = 1  # GRUs on top of each other
  dropout: Rate = 0.2  # of the inputs of each layer and of the last states
  stddev: Weight = 0.1  # of the initial item vectors; tanh and sigmoid need inputs they can feel
  loss: str = "full_softmax"  # full_softmax | sampled_softmax | bce
  negatives: Positive = 256  # K of sampled_softmax
  sampling: str = "uniform"  # uniform | popularity


class GRU4Rec(nn.Module):
  """The encoder: tables and batch to states [B, L, D], zero at padding."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool,
    newest: int | None = None,
  ) -> jax.Array:
    """States [B, L, D] for hist_item [B, L] and hist_mask [B, L]; with `newest` of the last so many."""
    config, mask = self.config, batch["hist_mask"]
    x = take(tables["item"], batch["hist_item"])
    for index in range(config.layers):
      x = Dropout(config.dropout, deterministic=not train)(x)
      x = GRU(config.width, name=f"gru_{index}")(x, mask)
    x = Dropout(config.dropout, deterministic=not train)(x)
    return (x * mask[:, :, None].astype(jnp.float32))[:, -(newest or mask.shape[1]) :]


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_next_item.build_next_item` for fields, losses and errors."""
  return build_next_item(
    GRU4Rec(config),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss=config.loss,
    negatives=config.negatives,
    sampling=config.sampling,
  )
