"""Click models on pooled histories, told apart by how features meet: the usual baselines.

    fields e_f [D]: candidate's item, its categories, mean item and mean categories of the history
    x = [e_1, ..., e_F];  linear = w_0 + w_item + sum w_category + mean over the history of w'_item, ...
    lr          z = linear
    dnn         z = MLP(x)
    wide_deep   z = linear + w . (u * v) + MLP(x),  u pooled history, v candidate
    ipnn        z = MLP([x, <e_f, e_g> for f < g])
    deepfm      z = linear + 1/2 sum_d [(sum_f e_fd)^2 - sum_f e_fd^2] + MLP(x)
    dcnv2       z = w . x_L + MLP(x),  x_{l+1} = x * (W_l x_l + b_l) + x_l

dnn is Embedding&MLP, the base model of DIN's paper but for its mean; Wide & Deep: Cheng et al., DLRS
2016, arXiv 1606.07792. IPNN: Qu et al., ICDM 2016, arXiv 1611.00144. DeepFM: Guo et al., IJCAI 2017,
arXiv 1703.04247. DCN-V2: Wang et al., WWW 2021, arXiv 2008.13535, full matrices, its parallel form: one
linear layer on both branches is the sum of a linear layer on each.

Where we depart from the papers, and why:
- A history is a field like any other, its mean, and there are no features of users or contexts: what
  these models are given is what the others of this package are given.
- All are trained by the one optimizer of the run; Wide & Deep's paper trains its wide part by FTRL.
- Wide & Deep crosses the history with the candidate, as the authors of DIEN did, instead of declared
  pairs of ids.
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
from recjax.models.ranking._click import Outcome, check_names, click_learner, item_tables
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.interactions import CrossLayers, factorization, inner_products
from recjax.nn.normalize import NORMS
from recjax.nn.tables import TableSpec, take
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

KINDS = ("lr", "dnn", "wide_deep", "ipnn", "deepfm", "dcnv2")
_LINEAR = ("lr", "wide_deep", "deepfm")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "feature_interactions"
  kind: str = "dnn"  # lr | dnn | wide_deep | ipnn | deepfm | dcnv2
  item_width: Positive = 16  # D, of every field
  category_width: Count = 16  # the same, or 0 where the data have no categories
  stddev: Weight = 0.1  # of the initial vectors
  cross_layers: Positive = 2  # of dcnv2
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice
  norm: str = "layer"  # none | affine | batch | layer: of the tower's input
  dropout: Rate = 0.0  # after each hidden layer of the tower


class FeatureInteractions(nn.Module):
  """Tables and batch to an Outcome."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, logit = self.config, 0.0
    if config.kind in _LINEAR:
      weights = {name: tables[f"{name}_weight"] for name in self._vectors()}
      linear = jnp.stack(_fields(weights, batch), axis=-2)  # as a candidate, as a behaviour
      count = linear.shape[-2] // 2
      logit = linear[..., :count, 0].sum(-1) + linear[..., count:, 1].sum(-1)
      logit = logit + self.param("bias", nn.initializers.zeros_init(), (1, 1))
    if config.kind == "lr":
      return Outcome(logit)
    fields = jnp.stack(_fields({name: tables[name] for name in self._vectors()}, batch), axis=-2)
    x = fields.reshape(*fields.shape[:-2], -1)
    features = x
    if config.kind == "wide_deep":
      target, history = jnp.split(x, 2, axis=-1)
      logit = logit + Dense(1, name="wide")(target * history)[..., 0]
    elif config.kind == "ipnn":
      features = jnp.concatenate([x, inner_products(fields)], axis=-1)
    elif config.kind == "deepfm":
      logit = logit + factorization(fields)
    elif config.kind == "dcnv2":
      crossed = CrossLayers(config.cross_layers, name="cross")(x)
      logit = logit + Dense(1, use_bias=False, name="cross_logit")(crossed)[..., 0]
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    return Outcome(logit + tower(features, batch["weight"] > 0, train=train))

  def _vectors(self):
    return ("item", "category") if self.config.category_width else ("item",)


def _fields(tables, batch):
  """Fields [B, C, D]: those of the candidate by table, then in the same order means of the history."""
  mask, shape = batch["hist_mask"], batch["target_item"].shape
  count = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)[:, None]
  target, history = [], []
  for name, table in tables.items():
    field = "item" if name == "item" else "cat"
    of_target = take(table, batch[f"target_{field}"]).reshape(*shape, -1, table.shape[1])
    real = mask.reshape(mask.shape + (1,) * (batch[f"hist_{field}"].ndim - 2))
    of_history = take(table, jnp.where(real, batch[f"hist_{field}"], 0))
    of_history = of_history.reshape(*mask.shape, -1, table.shape[1]).sum(1) / count[:, :, None]
    of_history = jnp.broadcast_to(of_history[:, None], of_target.shape)
    for kind in range(of_target.shape[2]):
      target.append(of_target[:, :, kind])
      history.append(of_history[:, :, kind])
  return target + history


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`. Raises ConfigError for what cannot work."""
  del counts
  check_names(
    ("kind", config.kind, KINDS),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  if config.category_width not in (0, config.item_width):
    raise ConfigError(
      f"Fields that meet have one width: category_width must be {config.item_width} or 0, not "
      f"{config.category_width}."
    )
  vectors = item_tables(schema, config.item_width, config.category_width, config.stddev)
  tables = dict(vectors) if config.kind != "lr" else {}
  if config.kind in _LINEAR:
    # One weight of an id as a candidate, one as a behaviour.
    tables |= {f"{name}_weight": TableSpec(t.vocabulary, 2, 0.0) for name, t in vectors.items()}
  return click_learner(FeatureInteractions(config), schema, tables)
