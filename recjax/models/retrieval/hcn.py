"""Hierarchical Multi-Interest Co-Network for Coarse-Grained Ranking (HCN). Yuan, Xu, Chen Q., Zhuang,
Chen H., Li and Ge, arXiv 2210.10547 (2022). After HCN: the abstract alone could be read, and there is
no official code. It asks for interests that say different things by updating centres iteratively, for
long-term and short-term behaviours apart, joined by a Co-Interest Network, and for a score by vector
operations alone, as thousands of candidates are ranked. The equations are ours.

The newest `short` behaviours are one branch, the older ones the other. In each (`_hcn_network`):

    C^0 = softmax over the history of W_2 tanh(W_1 x), times x                        as ComiRec-SA
    S = (LN(C) W_q) (x W_k)^T / sqrt(D);  G = softmax over the centres of S, zero at padding
    U = (G / sum over the history of G) x W_v;  g = sigmoid(W_g [C; U] + b_g)
    C^h = g C + (1 - g) U, plus W_4 relu(W_3 LN(.));  C = sum over h of softmax(rho)_h C^h

that is, each behaviour is shared out among the centres of its branch. The branches meet in

    Q = tanh(C_s W C_l^T);  P_s = softmax(Q) C_l;  P_l = softmax(Q^T) C_s
    V_s = g_s C_s + (1 - g_s) P_s,  V_l alike;  V = [V_s; V_l]

Training reads out the mean of V by softmax over k of p (v_k . e), predictions score by max_k v_k . e_j,
and the loss is a sampled softmax plus lambda times the mean of cos^2(C_i, C_j) over pairs and branches.

Choices of ours beside these, and why:
- Positions enter the attentions C^0 of the short branch alone. What is long ago has no order here, nor
  an age: views of histories and next items have no times.
- Where a branch is empty, the other one's centres stand in its place, not zero vectors: those would
  score 0 and win against negative scores.
- Maps start as Flax starts them: from deviations of .02 all centres claim all behaviours alike.
- No negatives from impressions and no distillation from a finer ranker: logs of views have neither.
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
from recjax.models.retrieval._hcn_network import Branch, CoInterest, square_cosines
from recjax.models.retrieval._interests import build_interests, require_one_target
from recjax.nn.dropout import Dropout
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown

FUSIONS = ("both", "pair")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the view."""

  name: str = "hcn"
  width: Positive = 64  # D, of the item table and every interest
  interests: Positive = 4  # K, of each branch
  short: Count = 20  # newest behaviours that are the short branch; 0 for one branch of all
  levels: Count = 3  # H, updates of the centres
  share_levels: bool = True  # whether all levels have the same parameters
  competition: bool = True  # False shares a centre out among behaviours, not behaviours among centres
  co_interest: bool = True  # False leaves the branches' centres as they are
  fuse: str = "both"  # both, 2 K interests | pair, K sums
  expansion: Positive = 4  # width of the attention's hidden layer in multiples of D
  dropout: Rate = 0.1  # of the behaviours' vectors
  diversity: Weight = 0.01  # lambda, of squared cosines of centres
  sharpness: Weight = 2.0  # p, of the read-out in training; 0 for the nearest interest alone
  stddev: Weight = 0.125  # of initial item vectors
  loss: str = "sampled_softmax"  # sampled_softmax | full_softmax
  negatives: Positive = 2560  # of sampled_softmax
  sampling: str = "uniform"  # uniform | popularity


class HCN(nn.Module):
  """The extractor: tables and batch to interests [B, 2 K or K, D]."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> jax.Array:
    """Interests for hist_item [B, L] and hist_mask [B, L], newest last."""
    config, mask = self.config, batch["hist_mask"]
    history = take(tables["item"], jnp.where(mask, batch["hist_item"], 0))
    history = Dropout(config.dropout, deterministic=not train)(history)
    options = (
      config.interests, config.expansion, config.levels, config.share_levels, config.competition,
    )
    if config.short:
      cut = max(mask.shape[1] - config.short, 0)
      long = Branch(*options, name="long")(history[:, :cut], mask[:, :cut])
      # Positions count from the newest, so that fewer padding in front changes nothing.
      short = Branch(*options, config.short, name="short")(history[:, cut:], mask[:, cut:])
      meet = CoInterest(config.co_interest, config.fuse == "pair", name="co_interest")
      there = jnp.any(mask[:, cut:], axis=1), jnp.any(mask[:, :cut], axis=1)
      interests, centres = meet(short, long, *there), (short, long)
    else:
      interests = Branch(*options, name="long")(history, mask)
      centres = (interests,)
    if train and config.diversity:
      alike = sum(map(square_cosines, centres)) / len(centres)
      self.sow("penalties", "diversity", config.diversity * alike)
    return interests


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_interests.build_interests` for fields, losses and errors.

  Raises ConfigError also for an unknown fusion and a short branch that leaves nothing for the long one.
  """
  if config.fuse not in FUSIONS:
    raise ConfigError(unknown("fusion", config.fuse, FUSIONS))
  require_one_target(schema)
  length = schema.fields["hist_item"].shape[0]
  if config.short >= length:
    raise ConfigError(
      f"The short branch takes {config.short} behaviours and the view's histories hold {length}: make "
      "view.length larger, or model.short smaller (0 for one branch)."
    )
  return build_interests(
    HCN(config),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss=config.loss,
    negatives=config.negatives,
    sampling=config.sampling,
    sharpness=config.sharpness,
  )
