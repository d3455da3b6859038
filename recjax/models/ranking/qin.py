"""Quadratic Interest Network for Multimodal Click-Through Rate Prediction (QIN). Li, Li, Zhang, Zhang,
Yu, Sang and Zhang, EReL@MIR workshop at WWW 2025, arXiv 2504.17699.

    x = [E_id; mean of E_tag over an item's tags; W_m m]     m: of text and picture, not learned
    w_j = relu((W_q x_v) . (W_k x_j) / sqrt(A))              adaptive sparse target attention (ASTA)
    o = W_o sum_j w_j W_v x_j + x_v
    z_0 = [features of the candidate, x_v, o]
    z_l = z_{l-1} + Dropout(PReLU(norm(sum_r z_{l-1} * h_r))),  h = Dropout(W_l z_{l-1} + b_l)
    logit = w . z_N + b                                      quadratic tower (QNN), R rows h_1 ... h_R
    loss = log loss + lambda / 2 (|tables|^2 + |W_m|^2)

`nn.target_attention` and `nn.quadratic` hold the two parts that are the paper's own. Weights of the
attention are not normalised: what scores below zero weighs nothing, and interest grows with what is
above. Without dropout the R rows of a layer are one linear map, (sum_r W_r), and cost as much.

Where we depart from the paper and the authors' code, and why:
- Keys and values of behaviours are not made: W_k acts on the query and W_v on the sum, which is equal.
- Scores are masked as part of the normaliser, so that a softmax in their place is right as well; the
  code multiplies scores by the mask, which suits relu alone.
- Tags are padded with 0, which counts for nothing; the code tells padding by a vector that sums to 0.
- Running averages of the batch norm are `nn.normalize.Moments`'s; the code keeps .9 of the old value.
- The penalty is on the loss of every step and reads whole tables, so that training them by rows needs
  decay=0; by default there is none.
- Learning rates follow the house's schedules; the code halves them where validation stands still.
- R is 1 by default: without dropout, rows differ in how they are trained alone.
- attention="softmax", residual=False, tower="mlp" and vector_width=0 are ablations.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner, Variables
from recjax.models.ranking._click import Outcome, check_names, click_learner, item_tables
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.normalize import NORMS
from recjax.nn.quadratic import QuadraticTower
from recjax.nn.similarity import vector_values
from recjax.nn.tables import TableSpec, take, take_mean
from recjax.nn.target_attention import NORMALIZERS, SparseTargetAttention
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

TOWERS = ("quadratic", "mlp")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the values of the best released run in brackets."""

  name: str = "qin"
  item_width: Count = 16  # of an item's vector, 0 to go without [128]
  category_width: Count = 16  # of a category's (tag's) vector, 0 where the data have none [128]
  vector_width: Count = 0  # of W_m m, 0 to leave an item's given vector out [128]
  features: tuple[str, ...] = ()  # ids target_NAME of the candidate beside item and category [2]
  feature_width: Positive = 16  # of their vectors [128]
  stddev: Weight = 0.1  # of the initial vectors [1e-4]
  attention_width: Count = 0  # A; 0 for twice that of an item [768]
  attention: str = "relu"  # none | relu | softmax: what makes weights of scores [relu]
  residual: bool = True  # add the candidate to what it finds [True]
  tower: str = "quadratic"  # quadratic | mlp [quadratic]
  layers: Positive = 2  # of the quadratic tower [4]
  rows: Positive = 1  # R [4, or 3 where that is unstable]
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of tower="mlp"
  activation: str = "dice"  # of tower="mlp": sigmoid | relu | prelu | dice
  norm: str = "batch"  # none | affine | batch | layer: of products, or of the MLP's input [batch]
  dropout: Rate = 0.0  # of the tower [0.1]
  decay: Weight = 0.0  # lambda [2e-4]


class QIN(nn.Module):
  """Tables and batch to an Outcome."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, mask, counted = self.config, batch["hist_mask"], batch["weight"] > 0
    glorot = nn.initializers.glorot_normal()
    project = Dense(config.vector_width, use_bias=False, kernel_init=glorot, name="project")

    def vectors(prefix):
      made = []
      if config.item_width:
        made.append(take(tables["item"], batch[f"{prefix}_item"]))
      if config.category_width:
        categories = batch[f"{prefix}_cat"].reshape(*batch[f"{prefix}_item"].shape, -1)
        made.append(take_mean(tables["category"], categories))
      if config.vector_width:
        made.append(project(vector_values(batch[f"{prefix}_vector"])))
      return jnp.concatenate(made, axis=-1)

    candidates = vectors("target")
    history = vectors("hist") * mask[:, :, None].astype(jnp.float32)
    width = config.attention_width or 2 * candidates.shape[-1]
    attention = SparseTargetAttention(width, config.attention, config.residual, name="attention")
    found, weights = attention(candidates, history, mask)
    names = [f"target_{name}" for name in config.features]
    features = [take(tables[name], batch[name]) for name in names]
    z = jnp.concatenate([*features, candidates, found], axis=-1)
    if config.tower == "quadratic":
      tower = QuadraticTower(config.layers, config.rows, config.norm, config.dropout, name="tower")
    else:
      tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    real = (counted[:, :, None] & mask[:, None, :]).astype(jnp.float32)
    used = jnp.sum(real * (weights > 0).astype(jnp.float32))
    measures = {"behaviours_used": (used, jnp.sum(real))}
    return Outcome(tower(z, counted, train=train), weights, measures=measures)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`, and with

    vector_width: hist_vector [B, L, M] and target_vector in the shape of target_item and M
    features: target_NAME in the shape of target_item, for each NAME

  Categories may be several, padded with 0. The metric behaviours_used is the share that weighs above 0.

  Raises:
    ConfigError: for unknown options and missing fields.
  """
  del counts
  check_names(
    ("attention", config.attention, NORMALIZERS),
    ("tower", config.tower, TOWERS),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  for name in ("hist_vector", "target_vector") if config.vector_width else ():
    if name not in schema.fields:
      raise ConfigError(f"vector_width={config.vector_width} reads {name!r}, which the batch lacks.")
  tables = {}
  # A given vector may be all there is of an item.
  if config.item_width or config.category_width or not config.vector_width:
    tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  for name in (f"target_{name}" for name in config.features):
    vocabulary = schema.fields[name].vocabulary if name in schema.fields else None
    if vocabulary is None:
      raise ConfigError(f"features reads ids {name!r}, which the batch lacks.")
    tables[name] = TableSpec(vocabulary, config.feature_width, config.stddev)

  def penalty(variables: Variables) -> jax.Array:
    learned = [*variables["tables"].values()]
    if config.vector_width:
      learned.append(variables["params"]["project"]["kernel"])
    return 0.5 * config.decay * sum(jnp.sum(jnp.square(array)) for array in learned)

  return click_learner(
    QIN(config), schema, tables, explains=True, penalty=penalty if config.decay else None
  )
