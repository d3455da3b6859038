"""Temporal Interest Network for User Response Prediction (TIN). Zhou, Pan, Zhou, Chen, Jiang, Gao and
Chen, WWW 2024 Companion, arXiv 2308.08487.

    e~_j = [E_item(h_j); E_cat(c(h_j))] + P[p_j],  v~ = [E_item; E_cat] + P[0]   temporal encoding (TTE)
    p_j: behaviours from j to the candidate, 1 for the newest
    alpha_j = softmax_j(<e~_j, v~> / sqrt(D))                                    attention (TA)
    u = sum_j alpha_j (e~_j * v~) = s * v~,  s = sum_j alpha_j e~_j              representation (TR)
    variant="code":   s' = W norm(s) + b,  z = MLP(norm([s', v~, s' * v~])) + b_item
    variant="paper":  z = MLP(norm([u, v~])) + b_item

alpha * (e~ * v~) holds the product of what and when of a behaviour with what and when of the
candidate. `nn.temporal` has the encoding and the interaction. Switches take each part away:
encoding="none" is P = 0, attention="mean" is alpha = 1/n, representation=False gives the tower s alone.

Where we depart from the paper, and why:
- variant="code" is the authors' code, which maps s before the product and feeds s' and v~ beside it;
  the paper's formula is the other.
- encoding="gap" is the form of production: buckets of the seconds between behaviour and candidate, here
  doubling from a minute, "both" adds the two. The candidate has a row of its own in each table.
- Positions count real behaviours, on whichever side padding stands; those beyond the last row share it.
- attention="unit" weighs by DIN's unit on e~ and v~, not normalised: DIN with positions, the rival that
  tells whether the interaction matters beyond knowing when.
- Initial vectors are larger than the code's, whose inner products start flat; layer norm is the default
  where the code has a batch norm that never updates, which is norm="affine".
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
from recjax.models.ranking._click import (
  Outcome,
  check_names,
  click_learner,
  item_tables,
  item_vectors,
)
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.normalize import NORMS, Normalize
from recjax.nn.tables import TableSpec, take
from recjax.nn.target_attention import LocalActivationUnit
from recjax.nn.temporal import ENCODINGS, Interaction, TemporalEncoding, target_interaction
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

ATTENTIONS = ("dot", "mean", "unit")
VARIANTS = ("code", "paper")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the values of the authors' code in brackets."""

  name: str = "tin"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone [64]
  category_width: Count = 16  # of a category's vector, 0 where the data have none [64]
  stddev: Weight = 0.1  # of the initial vectors, and of P
  encoding: str = "position"  # none | position | gap | both: when a behaviour was [position]
  positions: Positive = 50  # rows of P beside the candidate's [430]
  attention: str = "dot"  # dot | mean | unit: what makes the weights [dot]
  unit_hidden: tuple[Positive, ...] = (32, 16)  # hidden widths of attention="unit"
  representation: bool = True  # give the tower products with the candidate [True]
  variant: str = "code"  # code | paper: what the tower reads [code]
  item_bias: bool = True  # add b_item to the logit [True]
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower [80, 40]
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice [sigmoid]
  norm: str = "layer"  # none | affine | batch | layer: of s and of the tower's input [affine]
  dropout: Rate = 0.0  # after each hidden layer of the tower


class TIN(nn.Module):
  """Tables and batch to an Outcome."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, mask, counted = self.config, batch["hist_mask"], batch["weight"] > 0
    gaps = None
    if config.encoding in ("gap", "both"):
      gaps = batch["target_time"][:, None] - batch["hist_time"]
    encoding = TemporalEncoding(config.encoding, config.positions, config.stddev, name="encoding")
    candidates, history = encoding(
      item_vectors(tables, batch, "target"), item_vectors(tables, batch, "hist"), mask, gaps
    )
    if config.attention == "unit":
      unit = LocalActivationUnit(config.unit_hidden, "prelu", "none", name="unit")
      pooled, weights = unit(candidates, history, mask, counted, train=train)
      made = Interaction(pooled, pooled * candidates, weights)
    else:
      made = target_interaction(candidates, history, mask, attention=config.attention == "dot")
    if config.variant == "paper":
      features = [made.product if config.representation else made.pooled, candidates]
    else:
      pooled = Normalize(config.norm, name="pooled_norm")(made.pooled, counted, train=train)
      glorot = nn.initializers.glorot_uniform()
      pooled = Dense(pooled.shape[-1], kernel_init=glorot, name="pooled")(pooled)
      features = [pooled, candidates] + [pooled * candidates] * config.representation
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    logits = tower(jnp.concatenate(features, axis=-1), counted, train=train)
    if config.item_bias:
      logits = logits + take(tables["item_bias"], batch["target_item"])[..., 0]
    return Outcome(logits, made.weights)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`, histories in the order of time.

  Encodings of gaps read hist_time [B, L] and target_time [B], seconds from a common moment.

  Raises:
    ConfigError: for unknown options and missing fields.
  """
  del counts
  check_names(
    ("encoding", config.encoding, ENCODINGS),
    ("attention", config.attention, ATTENTIONS),
    ("variant", config.variant, VARIANTS),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  if config.attention == "unit" and not config.unit_hidden:
    raise ConfigError("unit_hidden must name at least one hidden layer.")
  timed = {"hist_time", "target_time"} <= schema.fields.keys()
  if config.encoding in ("gap", "both") and not timed:
    raise ConfigError(
      f"encoding={config.encoding!r} reads hist_time and target_time, which the batch lacks: take a "
      "view that gives times, or encoding='position'."
    )
  tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  if config.item_bias:
    tables["item_bias"] = TableSpec("item", 1, 0.0)
  return click_learner(TIN(config), schema, tables, explains=True)
