"""Deep Interest Network for Click-Through Rate Prediction. Zhou, Song, Zhu, Ma, Yan, Dai, Zhu, Jin,
Li and Gai, KDD 2018, arXiv 1706.06978.

    e_j = [E_item(h_j); E_cat(c(h_j))],  v likewise for the candidate         shared tables
    w_j = a(e_j, v),  u = sum_j w_j e_j                                       local activation unit
    z   = MLP(norm([u, v, u * v])) + b_item,  u <- Dense(norm(u)) if asked for  a logit
    loss = sum of w (softplus(z) - y z)  +  mini-batch aware L2 of the tables

`nn.target_attention`, `nn.activations` (Dice) and `losses.mini_batch_decay` hold the three parts
that are the paper's own. Each user's history is scored against C candidates at once.

Where we depart from the paper, and why:
- The unit's input is [v, e, v - e, v * e], as in the authors' code; the paper speaks of an "out
  product" only. Weights are not normalised, as in the paper; their code's softmax over scores
  divided by sqrt(D) is normalize="softmax", scale=True.
- Dice is evaluated with running averages, as in the paper, where the code uses the batch's own
  statistics: a score must not depend on its batch mates. The code's further slope inside Dice,
  which starts at zero, is left out.
- The dense layer on u, u * v and b_item are the code's, not the paper's; the first is off unless
  asked for, the second can be switched off, and pool="mean" gives the paper's base model.
- Layer norm is the default where the code has a batch norm that never updates its running
  statistics, which is norm="affine".
- Padded behaviours, and candidates 0, count neither in sums nor in statistics.
- The penalty covers the vectors of items and categories, not b_item.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.losses.mini_batch_decay import mini_batch_decay, occurrence_shares
from recjax.models.learner import Learner, Objective
from recjax.models.ranking._click import columns, item_tables, item_vectors
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.normalize import NORMS, Normalize
from recjax.nn.tables import TableSpec, take
from recjax.nn.target_attention import NORMALIZERS, LocalActivationUnit
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown

POOLS = ("din", "mean")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the values of the authors' Amazon code in brackets."""

  name: str = "din"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone [64]
  category_width: Count = 16  # of a category's vector, 0 where the data have none [64]
  stddev: Weight = 0.1  # of the initial vectors
  pool: str = "din"  # din | mean (the paper's base model)
  unit_hidden: tuple[Positive, ...] = (32, 16)  # hidden widths of the local activation unit [80, 40]
  unit_activation: str = "prelu"  # sigmoid | relu | prelu | dice [sigmoid]
  normalize: str = "none"  # none | relu | softmax: what makes weights of the unit's scores [softmax]
  scale: bool = False  # divide the unit's scores by sqrt of the vectors' width [True]
  # Norm and a square linear layer on the pooled history [True]; a layer norm there would hide how
  # much interest there is.
  history_dense: bool = False
  u_times_v: bool = True  # give the tower the product of interest and candidate [True]
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower [80, 40]
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice [sigmoid, dice]
  norm: str = "layer"  # none | affine | batch | layer: of pooled history and tower input [affine]
  dropout: Rate = 0.0  # after each hidden layer of the tower
  mba_decay: Weight = 0.0  # lambda of the mini-batch aware L2; the paper's best was 0.01


class DIN(nn.Module):
  """Tables and batch to logits [B, C] and attention weights [B, C, L]."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Logits [B, C] and weights [B, C, L] for target_item [B, C] and its fellows.

    `weight` [B, C] says which candidates count in batch statistics.
    """
    config, mask = self.config, batch["hist_mask"]
    history = item_vectors(tables, batch, "hist") * mask[:, :, None].astype(jnp.float32)
    candidates = item_vectors(tables, batch, "target")
    counted = batch["weight"] > 0
    if config.pool == "din":
      interest, weights = LocalActivationUnit(
        config.unit_hidden, config.unit_activation, config.normalize, config.scale, name="unit"
      )(candidates, history, mask, counted, train=train)
    else:
      count = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)
      mean = jnp.sum(history, axis=1) / count[:, None]
      interest = jnp.broadcast_to(mean[:, None], candidates.shape)
      weights = (mask.astype(jnp.float32) / count[:, None])[:, None]
      weights = jnp.broadcast_to(weights, (*candidates.shape[:2], mask.shape[1]))
    if config.history_dense:
      interest = Normalize(config.norm, name="history_norm")(interest, counted, train=train)
      interest = Dense(
        interest.shape[-1], kernel_init=nn.initializers.glorot_uniform(), name="history_dense"
      )(interest)
    features = [interest, candidates]
    if config.u_times_v:
      features.append(interest * candidates)
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    logits = tower(jnp.concatenate(features, axis=-1), counted, train=train)
    return logits + take(tables["item_bias"], batch["target_item"])[..., 0], weights


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner. One batch row is a history with one candidate (target_item []) or several ([C]).

  Reads hist_item, hist_mask, target_item, label (of target_item's shape) and weight (that shape, or
  one a row); with categories also hist_cat and target_cat. `counts` [V] of each of these
  vocabularies is read by the init of a config with mba_decay, as n_j.

  Raises:
    ConfigError: for unknown options, missing fields or (from init) missing counts.
  """
  _check(config)
  vectors = item_tables(schema, config.item_width, config.category_width, config.stddev)
  tables = {**vectors, "item_bias": TableSpec("item", 1, 0.0)}
  fields_of = {"item": ("hist_item", "target_item"), "category": ("hist_cat", "target_cat")}
  features = {name: fields_of[name] for name in vectors}
  module = DIN(config)

  def apply(variables, batch, **options):
    collections = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    return module.apply(collections, variables["tables"], columns(batch), **options)

  def init(key, tables, batch):
    variables = module.init(key, tables, columns(batch), train=False)
    if config.mba_decay:
      occurrences = {f"{name}_count": _counts(counts, learner, name) for name in features}
      variables = {**variables, "statistics": occurrences}
    return variables

  def draw(variables, batch, key):
    """Adds how much each occurrence of an id adds to the penalty, times the batch's whole weight.

    The step divides by that weight, also where it sums up parts of a batch, and the penalty is one
    of the batch.
    """
    del key
    wide, shares = columns(batch), {}
    counted = wide["weight"] > 0
    behaved = batch["hist_mask"] & jnp.any(counted, axis=1, keepdims=True)
    for name, (of_history, of_target) in features.items():
      real = {
        of_history: _where(behaved, wide[of_history]),
        of_target: _where(counted, wide[of_target]),
      }
      shares |= occurrence_shares(real, variables["statistics"][f"{name}_count"])
    total = jnp.sum(wide["weight"])
    decays = {f"{f}_decay": s.reshape(batch[f].shape) * total for f, s in shares.items()}
    return {**batch, **decays}

  def loss(variables, batch, key):
    wide = columns(batch)
    (logits, _), mutable = apply(
      variables, batch, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    value, weight = binary_cross_entropy(logits, wide["label"], wide["weight"])
    metrics = {"log_loss": (value, weight)}
    if config.mba_decay:
      penalty = sum(
        mini_batch_decay(
          take(variables["tables"][name], batch[field]), batch[f"{field}_decay"], config.mba_decay
        )
        for name, fields in features.items()
        for field in fields
      )
      value = value + penalty
      metrics["penalty"] = (penalty, weight)
    return Objective(value, weight, metrics, mutable)

  def score(variables, batch):
    """Logits of target_item [B] or [B, C], in its shape."""
    return apply(variables, batch, train=False)[0].reshape(batch["target_item"].shape)

  def explain(variables, batch):
    """What each behaviour weighs for each candidate, [B, L] or [B, C, L]; zero at padding."""
    weights = apply(variables, batch, train=False)[1]
    return weights.reshape(*batch["target_item"].shape, -1)

  shares = {}
  if config.mba_decay:
    for field in (field for fields in features.values() for field in fields):
      shares[f"{field}_decay"] = Field("float", schema.fields[field].shape)
  learner = Learner(
    schema.extend(**shares),
    tables,
    init,
    loss,
    {"score": score, "explain": explain},
    draw if config.mba_decay else None,
  )
  return learner


def _check(config):
  """Raises ConfigError for options that cannot work."""
  for kind, name, known in (
    ("pool", config.pool, POOLS),
    ("unit_activation", config.unit_activation, ACTIVATIONS),
    ("normalize", config.normalize, NORMALIZERS),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  ):
    if name not in known:
      raise ConfigError(unknown(kind, name, known))
  if not config.unit_hidden:
    raise ConfigError("unit_hidden must name at least one hidden layer.")


def _where(mask, ids):
  """Ids [..., A] or [...] where mask [...], else 0."""
  return jnp.where(mask.reshape(mask.shape + (1,) * (ids.ndim - mask.ndim)), ids, 0)


def _counts(counts, learner, table):
  """Training occurrences float32 [V] of the ids of a table."""
  vocabulary = learner.tables[table].vocabulary
  size = learner.schema.vocabularies[vocabulary]
  if counts is None or vocabulary not in counts:
    raise ConfigError(f"mba_decay needs the training counts of the vocabulary {vocabulary!r}.")
  if np.shape(counts[vocabulary]) != (size,):
    raise ConfigError(
      f"mba_decay needs {size} counts of {vocabulary!r}, not {np.shape(counts[vocabulary])}."
    )
  return jnp.asarray(counts[vocabulary], jnp.float32)
