"""Controllable Multi-Interest Framework for Recommendation (ComiRec). Cen, Zhang, Zou, Zhou, Yang and
Tang, KDD 2020, arXiv 2005.09347.

ComiRec-SA, K attentions over the history H = E[i]:

    A = softmax over the history of W_2 tanh(W_1 (H + P));  V = A^T H

ComiRec-DR, capsules that share out the history by dynamic routing (`nn.interests.dynamic_routing`):

    u_lk = W_lk h_l, a map for each position and interest;  b = 0
    three times: c = softmax over k of b;  v_k = squash(sum_l c_lk u_lk);  b_lk += u_lk . v_k

Both train with the interest nearest to the target, k* = argmax_k v_k . e, by a sampled softmax over
10 B shared negatives, and score an item by max_k v_k . e_j. What the paper calls controllable, lists
that trade scores for variety of categories, is `serve.variety`.

Where we depart from the paper, and why:
- Equations and settings follow the authors' code where it can be compared: P enters the scores alone,
  maps have no bias, maps of DR are drawn from N(0, 1), and only its last iteration is differentiated.
- Negatives are uniform; the code's sampler is log-uniform over items sorted by frequency, near which is
  sampling="popularity". Every item's logit is corrected for how often it is drawn.
- Histories are padded in front, so positions count from the newest event; in the code from the oldest.
- The data set decides what a row is: the view 'prefixes' with cuts=N, shortest=4 and the split
  'user_disjoint' are the paper's users at random with a random cut each.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner
from recjax.models.retrieval._interests import build_interests, require_one_target
from recjax.nn.interests import SelfAttentiveInterests, dynamic_routing
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Positive, Weight
from recjax.registry import unknown

EXTRACTORS = ("sa", "dr")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the view."""

  name: str = "comirec"
  extractor: str = "sa"  # sa, self-attention | dr, dynamic routing
  width: Positive = 64  # D, of the item table and every interest
  interests: Positive = 4  # K
  expansion: Positive = 4  # width of the attention's hidden layer in multiples of D
  iterations: Positive = 3  # of the routing
  stddev: Weight = 0.1  # of initial item vectors
  loss: str = "sampled_softmax"  # sampled_softmax | full_softmax
  negatives: Positive = 1280  # of sampled_softmax; 10 times the batch in the paper
  sampling: str = "uniform"  # uniform | popularity


class ComiRec(nn.Module):
  """The extractor: tables and batch to interests [B, K, D]."""

  config: Config
  length: int  # of the longest history

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> jax.Array:
    """Interests for hist_item [B, L] and hist_mask [B, L]; training computes nothing else."""
    del train
    config, mask = self.config, batch["hist_mask"]
    history = take(tables["item"], jnp.where(mask, batch["hist_item"], 0))
    if config.extractor == "sa":
      extract = SelfAttentiveInterests(
        config.interests, config.expansion * config.width, self.length, name="attention"
      )
      return extract(history, mask)
    shape = (self.length, config.interests, config.width, config.width)
    maps = self.param("maps", nn.initializers.normal(1.0), shape, jnp.float32)
    votes = jnp.einsum("bld,lkde->bkle", history, maps[-mask.shape[1] :])
    start = jnp.zeros((1, config.interests, mask.shape[1]), jnp.float32)
    return dynamic_routing(votes, start, mask, config.iterations)


def build(
  config: Config,
  schema: Schema,
  counts: Mapping[str, np.ndarray] | None = None,
  **training: Any,
) -> Learner:
  """The learner; see `_interests.build_interests` for fields, losses, errors and ways of `training`."""
  if config.extractor not in EXTRACTORS:
    raise ConfigError(unknown("extractor", config.extractor, EXTRACTORS))
  require_one_target(schema)
  return build_interests(
    ComiRec(config, schema.fields["hist_item"].shape[0]),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss=config.loss,
    negatives=config.negatives,
    sampling=config.sampling,
    **training,
  )
