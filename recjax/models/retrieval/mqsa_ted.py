"""Collaboration and Transition: Distilling Item Transitions into Multi-Query Self-Attention for
Sequential Recommendation (MQSA-TED). Zhu, Shi, Zhang, Wu, Mo and Nie, WSDM 2024, arXiv 2311.01056.

    X    = dropout(sqrt(D) E[i] + P)                  inputs of both branches, zero at padding
    G_t  = X_t                                        query of the short branch
    G_t  = mean of the real X_{t - L_q + 1} .. X_t    query of the long branch (eq. 7)
    G    = LN(G);  Z = LN(G + Attention(G, X, X))     the residual is the normalised query
    X   <- Z + FFN(Z)                                 for each block
    e    = LN(X) of each branch;  e = alpha e_short + (1 - alpha) e_long;  score_j = e_L . E[j]  (8)
    loss = CE(e_t . E, i_{t+1}) + lambda_kd TED(E) + l2 / 2 sum of all trained values squared

The branches share E and P only. TED is `losses.transition_distillation`, over the items that the
batch's rows hold. With alpha = 1 this is SASRec, in the layout of its authors' code, with TED; with
lambda_kd = 0 the transitions have no effect. Where paper and authors' code can both be read this
follows the code: keys and values from X as it is, no output projection, Glorot kernels, FFN of width
D, a normalised query as residual, rows of the teacher divided by their maximum, dropout on the heads
of TED, and padding as one more class of the softmax, with the logit 0 (`pad_in_softmax`).

Where we depart from the paper and its code, and why:
- Vectors are blended and then scored once; the code blends two arrays of logits. The same values.
- A history longer than the view's length is trained in several windows, which the view does for
  every model, not cut; the teacher's counts are of the newest `length` events, as in the code.
- An item that occurs several times in a batch is distilled once with a weight, so its occurrences
  share a dropout mask; `kd_unique` = False draws one for each.
- States are exactly zero at padding; LayerNorm's epsilon is 1e-8, as 1e-24 is lost in float32.
"""

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.counts import TrainingCounts
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.transition_distillation import (
  first_occurrences,
  transition_distillation,
  transition_teacher,
)
from recjax.models.learner import Learner, Objective
from recjax.models.retrieval._next_item import build_next_item, require
from recjax.nn.attention import HistoryAttention
from recjax.nn.dense import Dense
from recjax.nn.dropout import Dropout
from recjax.nn.sequence_input import sequence_input
from recjax.nn.tables import TableSpec
from recjax.ranges import Above0, Positive, Rate, Share, Weight

_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; defaults are those of the authors' code."""

  name: str = "mqsa_ted"
  width: Positive = 64  # D, of the item table and every layer
  blocks: Positive = 1  # of each branch
  heads: Positive = 1  # of attention; must divide width
  dropout: Rate = 0.5  # of inputs, attention weights, FFN and the heads of TED
  query_window: Positive = 3  # L_q, items that the long branch's query averages; in the paper 2 to 4
  alpha: Share = 0.5  # share of the short branch; 1 is SASRec, 0 the long branch alone
  lambda_kd: Weight = 0.1  # weight of TED; 0 for none
  tau: Above0 = 0.1  # temperature of teacher and student; 0.05 to 0.1 in the paper
  span: Positive = 1  # how many events later an item still counts as a successor
  teacher_norm: str = "max"  # max | sum, what an item's counts are divided by
  most_successors: Positive = 256  # kept of an item; what is cut is counted in statistics/teacher/cut
  kd_unique: bool = True  # whether TED works on each item of a batch once, with a weight
  l2: Weight = 1e-4  # on all that is trained, tables and biases included
  pad_in_softmax: bool = True  # whether padding is a class of the training softmax
  stddev: Weight = 0.01  # of initial items and positions
  # Groups of rows of like length that a batch is trained in, see SASRec.
  groups: Positive = 1


class MQSA(nn.Module):
  """The encoder: tables and batch to blended states [B, L, D], zero at padding."""

  config: Config
  length: int  # of the longest history

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool,
    newest: int | None = None,
  ) -> jax.Array:
    """States [B, L, D] for the newest L positions hist_item [B, L] and hist_mask [B, L].

    With `newest` only those of the last so many.
    """
    config = self.config
    mask = batch["hist_mask"]
    x = sequence_input(
      self, tables["item"], batch["hist_item"], mask,
      length=self.length, stddev=config.stddev, dropout=config.dropout, train=train,
    )
    wanted = newest or mask.shape[1]
    states = jnp.zeros_like(x[:, -wanted:])
    branches = (("short", 1, config.alpha), ("long", config.query_window, 1.0 - config.alpha))
    for name, window, share in branches:
      # A branch without a share has parameters, so that alpha may change, but costs nothing.
      if share or self.is_initializing():
        states += share * Branch(config, window, name=name)(x, mask, train=train, newest=wanted)
    return states


class Branch(nn.Module):
  """Blocks whose queries are means of the newest `window` items, and a last normalisation."""

  config: Config
  window: int

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool, newest: int) -> jax.Array:
    """x [B, L, D], zero at padding, and mask [B, L] to [B, newest, D], zero at padding."""
    config, real = self.config, mask[:, :, None].astype(x.dtype)
    glorot = nn.initializers.glorot_uniform()
    for index in range(config.blocks):
      layer = lambda kind, index=index: f"{kind}_{index}"
      norm = lambda name: nn.LayerNorm(epsilon=_EPSILON, name=name)
      drop = lambda y: Dropout(config.dropout, deterministic=not train)(y)
      dense = lambda name: Dense(config.width, kernel_init=glorot, name=name)
      wanted = newest if index == config.blocks - 1 else x.shape[1]
      query = norm(layer("query_norm"))(window_mean(x, mask, self.window)[:, -wanted:])
      attention = HistoryAttention(
        config.heads, config.dropout, project=False, kernel_init=glorot, name=layer("attention")
      )
      z = norm(layer("ffn_norm"))(query + attention(query, x, mask, train=train))
      hidden = drop(nn.relu(dense(layer("ffn_in"))(z)))
      x = (z + drop(dense(layer("ffn_out"))(hidden))) * real[:, -wanted:]
    return nn.LayerNorm(epsilon=_EPSILON, name="norm")(x) * real[:, -newest:]


def window_mean(x: jax.Array, mask: jax.Array, window: int) -> jax.Array:
  """Mean of the real ones among the newest `window` of x [B, L, D] up to each position.

  x must be zero where mask [B, L] is False; a window of padding alone gives zero.
  """
  if window == 1:
    return x
  length = x.shape[1]
  real = mask[:, :, None].astype(x.dtype)
  total, count = x, real
  for back in range(1, min(window, length)):
    shift = ((0, 0), (back, 0), (0, 0))
    total += jnp.pad(x, shift)[:, :length]
    count += jnp.pad(real, shift)[:, :length]
  return total / jnp.maximum(count, 1.0)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_next_item.build_next_item` for fields and errors.

  Its `init` needs `counts` with transitions (`data.counts.TrainingCounts`) where lambda_kd is above
  0, and keeps the teacher in `statistics`. Raises ConfigError for settings that cannot work.
  """
  if config.width % config.heads:
    raise ConfigError(f"{config.heads} heads cannot share the width {config.width} evenly.")
  require(schema, "hist_item")
  length, size = schema.fields["hist_item"].shape[0], schema.vocabularies["item"]
  base = build_next_item(
    MQSA(config, length),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss="full_softmax",
    padding_class=config.pad_in_softmax,
    groups=config.groups,
  )

  @functools.cache
  def teacher():
    if not isinstance(counts, TrainingCounts):
      raise ConfigError(
        "lambda_kd > 0 needs the transitions of the training events, which the view 'next_item' "
        "counts."
      )
    transitions = counts.transitions(span=config.span, last=length)
    return transition_teacher(
      transitions, config.tau, config.teacher_norm, config.most_successors
    )

  def init(key, tables, batch):
    variables = base.init(key, tables, batch)
    if config.lambda_kd > 0:
      variables = {**variables, "statistics": {"teacher": jax.tree.map(jnp.asarray, teacher())}}
    return variables

  def distil(variables, batch, key):
    """TED's loss sum and agreement over the items of the batch's rows."""
    heads = batch["hist_item"].reshape(-1)
    mask = (batch["hist_mask"] & (batch["target_item"] != 0)).reshape(-1)
    weights = first_occurrences(heads, mask) if config.kd_unique else mask.astype(jnp.float32)
    return transition_distillation(
      variables["tables"]["item"],
      heads,
      weights,
      variables["statistics"]["teacher"],
      num_items=size - 1,
      temperature=config.tau,
      scale=config.width**0.5,
      dropout=config.dropout,
      key=key,
    )

  def loss(variables, batch, key):
    rec_key, distil_key = jax.random.split(key)
    value, weight, metrics, _ = base.loss(variables, batch, rec_key)
    metrics = {**metrics, "recommendation": (value, weight)}
    if config.lambda_kd > 0:
      distilled, agreement = distil(variables, batch, distil_key)
      value = value + config.lambda_kd * distilled
      metrics |= {"distillation": (distilled, weight), "agreement": (agreement, weight)}
    if config.l2 > 0:
      trained = (variables["params"], variables["tables"]["item"][:size])
      squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(trained))
      value = value + weight * (0.5 * config.l2) * squares
    return Objective(value, weight, metrics)

  return base._replace(init=init, loss=loss)
