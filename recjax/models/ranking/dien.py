"""Deep Interest Evolution Network for Click-Through Rate Prediction. Zhou, Mou, Fan, Pi, Bian, Zhou,
Zhu and Gai, AAAI 2019, arXiv 1809.03672.

    e_t = [E_item(b_t); E_cat(c(b_t))],  v likewise for the candidate         shared tables
    h_t = GRU(e_1, ..., e_t)                                                  interest extractor
    a_t = softmax_t(h_t W v)                                                  attention
    h'_t = (1 - a_t u_t) * h'_{t-1} + a_t u_t * n_t,  inputs h_t              AUGRU: interest evolving
    z   = MLP(norm([v, sum_t e_t, v * sum_t e_t, h'_T, v * h'_T]))            a logit
    L_aux = mean_t [softplus(-<h_t, e_{t+1}>) + softplus(<h_t, n_{t+1}>)]     n: a drawn behaviour
    loss = log loss(z) + alpha L_aux

`nn.gru` holds the recurrent units, all candidates of a history share the extractor's states and the
projections of the evolving layer's inputs. L_aux is computed in training only.

Where we depart from the paper, and why:
- evolution="augru" is the paper's unit. The authors' code turns the gate around, so that attention
  forgets instead of letting in; that is "augru_code". "gru" (two GRUs, then attention over the second
  one's states), "aigru" and "agru" are the paper's other three.
- The reset gate acts on the product with the state, as in the paper's equations (in TensorFlow's cell
  before it). Gates start without a bias; TensorFlow's start at 1.
- W of the attention starts as the unit matrix: the auxiliary loss makes states similar to what comes
  next, so that a state that expected the candidate is found from the start.
- attention="mlp" is that of the authors' code: v -> PReLU(Dense(v)), then DIN's unit with a softmax.
- auxiliary_head="mlp" is the code's, which scores the pair [h, e] by a network; the paper writes an
  inner product.
- L_aux is the mean over the steps of a history, then over histories: parts of a batch add up so. The
  paper sums over steps, the code divides by all positions, padding included. Its click loss is half
  the usual one, so that its alpha of 1 is a 2 here.
- A drawn behaviour is one of the batch's, at random: as popular items are in the log, and with its
  category. One that is the positive itself does not count.
- The tower is given v * h'_T as well, as our DIN is given the product of interest and candidate
  (state_times_v=False: the authors' code).
- Padding counts neither in sums nor in statistics; the code adds its vector to sum_t e_t.
- No vector of the user: the paper's protocol tests on users that are not in training.
- The tower is normalised at its input alone. Layer norm and Dice with running averages as in `din`.
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
  columns,
  history_width,
  item_tables,
  item_vectors,
)
from recjax.nn.activations import ACTIVATIONS, Activation
from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense
from recjax.nn.gru import EVOLUTIONS, GRU, AttentionalGRU
from recjax.nn.normalize import NORMS
from recjax.nn.target_attention import LocalActivationUnit
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

ATTENTIONS = ("bilinear", "mlp")
HEADS = ("dot", "mlp")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the values of the authors' code in brackets."""

  name: str = "dien"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone [18]
  category_width: Count = 16  # of a category's vector, 0 where the data have none [18]
  stddev: Weight = 0.1  # of the initial vectors
  state_width: Count = 0  # of both recurrent states; 0 for the width of an item [36]
  attention: str = "bilinear"  # bilinear | mlp [mlp]
  attention_hidden: tuple[Positive, ...] = (80, 40)  # hidden widths of attention="mlp"
  evolution: str = "augru"  # gru | aigru | agru | augru | augru_code [augru_code]
  auxiliary_weight: Weight = 1.0  # alpha; 0 leaves the auxiliary loss out [2, see above]
  auxiliary_head: str = "dot"  # dot | mlp: how a state scores a next behaviour [mlp]
  auxiliary_hidden: tuple[Positive, ...] = (100, 50)  # hidden widths of auxiliary_head="mlp"
  state_times_v: bool = True  # give the tower the product of last state and candidate [False]
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower [200, 80]
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice
  norm: str = "layer"  # none | affine | batch | layer: of the tower's input [affine]
  dropout: Rate = 0.0  # after each hidden layer of the tower


class DIEN(nn.Module):
  """Tables and batch to an Outcome; the auxiliary loss is part of it in training."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows; in training also negative_item [B, L]."""
    config, mask = self.config, batch["hist_mask"]
    history = item_vectors(tables, batch, "hist") * mask[:, :, None].astype(jnp.float32)
    candidates = item_vectors(tables, batch, "target")
    counted = batch["weight"] > 0
    width = config.state_width or history.shape[-1]
    states = GRU(width, name="extractor")(history, mask)

    losses, measures = {}, {}
    if config.auxiliary_weight and (train or self.is_initializing()):
      drawn = item_vectors(tables, batch, "negative")[:, 1:]
      valid = mask[:, :-1] & mask[:, 1:]
      scored = valid & jnp.any(counted, axis=1, keepdims=True)
      scorer = self._scorer(train)
      positive = scorer(states[:, :-1], history[:, 1:], scored)
      negative = scorer(states[:, :-1], drawn, scored)
      rivals = valid & (batch["negative_item"][:, 1:] != 0)
      losses["auxiliary_loss"] = next_behaviour_loss(positive, negative, valid, rivals)
      told = (scored & rivals).astype(jnp.float32)
      ahead = jnp.sum(told * (positive > negative).astype(jnp.float32))
      measures["next_told_apart"] = (ahead, jnp.sum(told))

    weights = self._attend(states, candidates, mask, counted, train)
    if config.evolution == "gru":
      evolved = jnp.einsum("bcl,blw->bcw", weights, GRU(width, name="evolving")(states, mask))
    else:
      evolved = AttentionalGRU(width, config.evolution, name="evolving")(states, mask, weights)
    total = jnp.broadcast_to(jnp.sum(history, axis=1)[:, None], candidates.shape)
    features = [candidates, total, candidates * total, evolved]
    if config.state_times_v:
      features.append(candidates * evolved)
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    logits = tower(jnp.concatenate(features, axis=-1), counted, train=train)
    return Outcome(logits, weights, losses, measures)

  def _attend(self, states, candidates, mask, counted, train):
    """Weights [B, C, L] of states [B, L, W] for candidates [B, C, D]; zero at padding."""
    width = states.shape[-1]
    if self.config.attention == "bilinear":
      query = Dense(width, use_bias=False, kernel_init=unit_matrix, name="query")(candidates)
      scores = jnp.einsum("bcw,blw->bcl", query, states)
      return masked_softmax(scores, jnp.broadcast_to(mask[:, None], scores.shape))
    query = Dense(width, name="query")(candidates)
    query = Activation("prelu", name="query_activation")(query, counted, train=train)
    unit = LocalActivationUnit(self.config.attention_hidden, "sigmoid", "softmax", name="unit")
    return unit(query, states, mask, counted, train=train)[1]

  def _scorer(self, train):
    """(states [B, N, W], behaviours [B, N, D], valid [B, N]) -> logits that they come next [B, N]."""
    if self.config.auxiliary_head == "dot":
      return lambda states, behaviours, valid: jnp.sum(states * behaviours, axis=-1)
    head = CTRTower(self.config.auxiliary_hidden, "sigmoid", "affine", name="auxiliary")
    return lambda states, behaviours, valid: head(
      jnp.concatenate([states, behaviours], axis=-1), valid, train=train
    )


def unit_matrix(key, shape, dtype=jnp.float32):
  """Initial W [D, W]: ones on the diagonal, so that attention starts as the inner product of L_aux."""
  del key
  return jnp.eye(*shape, dtype=dtype)


def next_behaviour_loss(
  positive: jax.Array, negative: jax.Array, valid: jax.Array, rivals: jax.Array
) -> jax.Array:
  """Mean [B] over valid steps [B, N] of softplus(-positive) + softplus(negative); 0 without any.

  Where `rivals` [B, N] is False, the negative does not count.
  """
  losses = jax.nn.softplus(-positive) + jnp.where(rivals, jax.nn.softplus(negative), 0.0)
  total = jnp.sum(jnp.where(valid, losses, 0.0), axis=1)
  return total / jnp.maximum(jnp.sum(valid, axis=1, dtype=jnp.float32), 1.0)


def draw_behaviours(
  batch: Mapping[str, jax.Array], key: jax.Array, names: tuple[str, ...]
) -> dict[str, jax.Array]:
  """Fields negative_* like the hist_* of `names`, each entry a behaviour of the batch at random.

  Drawn evenly from the real behaviours of rows that count; 0 at padding, and where the drawn item is
  the one that stands there.
  """
  item, mask = batch["hist_item"], batch["hist_mask"]
  real = (mask & jnp.any(columns(batch)["weight"] > 0, axis=1, keepdims=True)).reshape(-1)
  before = jnp.cumsum(real, dtype=jnp.int32)
  ticket = jax.random.randint(key, mask.shape, 0, jnp.maximum(before[-1], 1), jnp.int32)
  place = jnp.searchsorted(before, ticket, side="right")
  drawn = {name: batch[f"hist_{name}"] for name in names}
  drawn = {name: jnp.take(x.reshape(-1, *x.shape[2:]), place, axis=0, mode="clip")
           for name, x in drawn.items()}
  kept = mask & (drawn["item"] != item)
  return {
    f"negative_{name}": jnp.where(kept.reshape(kept.shape + (1,) * (x.ndim - 2)), x, 0)
    for name, x in drawn.items()
  }


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`, histories in the order of time.

  Raises:
    ConfigError: for unknown options, missing fields, and a width that the inner product cannot have.
  """
  del counts
  check_names(
    ("attention", config.attention, ATTENTIONS),
    ("evolution", config.evolution, ("gru", *EVOLUTIONS)),
    ("auxiliary_head", config.auxiliary_head, HEADS),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  if config.attention == "mlp" and not config.attention_hidden:
    raise ConfigError("attention_hidden must name at least one hidden layer.")
  tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  width = history_width(schema, config.item_width, config.category_width)
  auxiliary = config.auxiliary_weight > 0
  if config.state_width not in (0, width):
    multiplied = auxiliary and config.auxiliary_head == "dot"
    needs = ["auxiliary_head='dot'"] * multiplied + ["state_times_v=True"] * config.state_times_v
    if needs:
      raise ConfigError(
        f"{needs[0]} multiplies states with items: state_width must be {width}, the width of an item, "
        f"not {config.state_width}."
      )
  names = ("item", "cat") if config.category_width else ("item",)
  fields = {f"negative_{name}": schema.fields[f"hist_{name}"] for name in names}

  def draw(variables, batch, key):
    del variables
    return {**batch, **draw_behaviours(batch, key, names)}

  return click_learner(
    DIEN(config),
    schema,
    tables,
    factors={"auxiliary_loss": config.auxiliary_weight} if auxiliary else {},
    fields=fields if auxiliary else {},
    draw=draw if auxiliary else None,
    explains=True,
  )
