"""Attention to the few behaviours of a long history that a search finds: SIM, ETA, TWIN, and none.

    s_j, q: vectors of behaviours and of the candidate                        shared tables
    sim_hard   the newest K behaviours in the candidate's category
    sim_soft   the K largest r_j = (W_a q) . (W_b s_j), learned by
               loss += log loss(MLP([sum_j r_j s_j, q]))
    eta        the K smallest Hamming distances of m bits [r_k . x >= 0], r_k ~ N(0, I) drawn once
    twin       for each head, the K largest of the scores that attention itself has
    all, mean, none: attention to everything, its mean, and only the short part
    long = multi-head target attention of q to those found
    z = MLP(norm([q, long, q * long, short, q * short]))

Search-based user interest modeling (SIM): Pi et al., CIKM 2020, arXiv 2006.05639. Efficient target
attention (ETA): Chen et al., 2021, arXiv 2108.04468. Two-stage interest network (TWIN): Chang et al.,
KDD 2023, arXiv 2302.02352. They are baselines here: beside one tower and one short part
(`_long_history`), which SDIM has as well, they differ in the search alone.

Where we depart from the papers, and why:
- No time gaps beside the behaviours found (SIM), and no features of user and item that bias the scores
  (TWIN): batches have none.
- Searches run in the forward pass; no index and no stored projections, which serve speed alone.
- Of equal scores the newest behaviour wins. Padding is never found.
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
  history_width,
  item_tables,
  item_vectors,
)
from recjax.models.ranking._long_history import (
  LongShortTower,
  newest,
  real_history,
  same_category,
)
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.normalize import NORMS
from recjax.nn.simhash import hamming, hash_bits
from recjax.nn.target_attention import TargetAttention
from recjax.nn.top_k import recency
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

SEARCHES = ("none", "mean", "all", "sim_hard", "sim_soft", "eta", "twin")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "history_search"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone
  category_width: Count = 16  # of a category's vector, 0 where the data have none
  stddev: Weight = 0.1  # of the initial vectors
  search: str = "sim_hard"  # none | mean | all | sim_hard | sim_soft | eta | twin
  keep: Positive = 50  # K, behaviours found
  heads: Positive = 2  # of the attention; divides the width of an item
  bits: Positive = 32  # m of eta
  search_weight: Weight = 1.0  # of sim_soft's own loss
  recent: Positive = 16  # newest behaviours of the short part
  unit_hidden: tuple[Positive, ...] = (32, 16)  # hidden widths of its unit; () leaves it out
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice
  norm: str = "layer"  # none | affine | batch | layer: of the tower's input
  dropout: Rate = 0.0  # after each hidden layer of the tower


class HistorySearch(nn.Module):
  """Tables and batch to an Outcome."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, mask, losses = self.config, batch["hist_mask"], {}
    candidates, history = item_vectors(tables, batch, "target"), real_history(tables, batch)
    counted = batch["weight"] > 0
    allowed = jnp.broadcast_to(mask[:, None], (*candidates.shape[:2], mask.shape[1]))
    relevance, keep = None, config.keep
    if config.search == "sim_hard":
      allowed = allowed & same_category(batch)
      relevance = jnp.broadcast_to(recency(mask)[:, None], allowed.shape)
    elif config.search == "sim_soft":
      width = candidates.shape[-1]
      left = Dense(width, use_bias=False, name="search_candidate")(candidates)
      right = Dense(width, use_bias=False, name="search_behaviour")(history)
      relevance = jnp.einsum("bcd,bld->bcl", left, right)
      if train or self.is_initializing():
        found = jnp.einsum("bcl,bld->bcd", jnp.where(allowed, relevance, 0.0), history)
        tower = CTRTower(config.hidden, config.activation, config.norm, name="search_tower")
        logit = tower(jnp.concatenate([found, candidates], axis=-1), counted, train=train)
        losses["search_loss"] = jax.nn.softplus(logit) - batch["label"] * logit
    elif config.search == "eta":
      shape = (config.bits, candidates.shape[-1])
      draw = lambda: jax.random.normal(self.make_rng("params"), shape, jnp.float32)
      rotations = self.variable("constants", "rotations", draw).value
      relevance = -hamming(hash_bits(candidates, rotations), hash_bits(history, rotations))
    elif config.search == "all":
      keep = 0
    long = None
    if config.search == "mean":
      total = jnp.sum(history, axis=1) / jnp.maximum(jnp.sum(mask, 1, jnp.float32), 1.0)[:, None]
      long = jnp.broadcast_to(total[:, None], candidates.shape)
    elif config.search != "none":
      attention = TargetAttention(config.heads, keep, name="attention")
      long = attention(candidates, history, allowed, relevance)
    tail = LongShortTower(
      config.unit_hidden, config.hidden, config.activation, config.norm, config.dropout, name="tail"
    )
    recent = newest(history, mask, config.recent)
    return Outcome(tail(candidates, long, *recent, counted, train=train), losses=losses)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`.

  Raises:
    ConfigError: for unknown options, missing fields, and heads that do not divide the width.
  """
  del counts
  check_names(
    ("search", config.search, SEARCHES),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  width = history_width(schema, config.item_width, config.category_width)
  if width % config.heads:
    raise ConfigError(f"heads={config.heads} does not divide {width}, the width of an item.")
  if config.search == "sim_hard" and "hist_cat" not in schema.fields:
    raise ConfigError("search='sim_hard' looks for categories, of which the batch has none.")
  factors = {"search_loss": config.search_weight} if config.search == "sim_soft" else {}
  return click_learner(HistorySearch(config), schema, tables, factors=factors)
