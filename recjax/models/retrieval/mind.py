"""Multi-Interest Network with Dynamic Routing for Recommendation at Tmall (MIND). Li, Liu, Wu, Xu,
Zhao, Huang, Kang, Chen, Li and Lee, CIKM 2019, arXiv 1904.08030.

    u_l = S h_l, one map for all positions and interests;  b_lk ~ N(0, 1), truncated at two deviations
    three times: c = softmax over k of b;  v_k = squash(sum_l c_lk u_l);  b_lk += u_l . v_k
    v_k <- relu(W v_k + w)

With one map, capsules that start from equal logits stay equal: the random start tells them apart.
Training reads out the interest nearest to the target, predictions score by the best of all.

Where we depart from the paper, and why:
- This is the network of the baseline in ComiRec's code, which has published comparisons: K is fixed
  (the paper lets it grow with the logarithm of the history), a layer follows the capsules instead of
  two with the user's profile beside them, and the interest for training is chosen by argmax, which
  the paper's attention, softmax_k((v_k . e)^p), nears as p grows.
- Logits are drawn anew for every row in training. Predictions take one fixed draw for all users, by
  position from the newest, so that an answer depends on the history alone.
- An empty history has interests of zero, not what the last layer's bias gives.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.models.learner import Learner
from recjax.models.retrieval._interests import build_interests, require_one_target
from recjax.nn.dense import Dense
from recjax.nn.interests import dynamic_routing
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Positive, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the view."""

  name: str = "mind"
  width: Positive = 64  # D, of the item table and every interest
  interests: Positive = 4  # K
  iterations: Positive = 3  # of the routing
  relu: bool = True  # the layer behind the capsules; the code has it for some data sets
  stddev: Weight = 0.1  # of initial item vectors
  loss: str = "sampled_softmax"  # sampled_softmax | full_softmax
  negatives: Positive = 1280  # of sampled_softmax; 10 times the batch in ComiRec's code
  sampling: str = "uniform"  # uniform | popularity


class MIND(nn.Module):
  """The extractor: tables and batch to interests [B, K, D]."""

  config: Config

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> jax.Array:
    """Interests for hist_item [B, L] and hist_mask [B, L]."""
    config, mask = self.config, batch["hist_mask"]
    history = take(tables["item"], jnp.where(mask, batch["hist_item"], 0))
    votes = Dense(config.width, use_bias=False, name="map")(history)
    rows, length = mask.shape
    key = self.make_rng("routing") if train else jax.random.key(0)
    # The newest event comes first in the draw, so that padding in front changes nothing.
    shape = (rows if train else 1, length, config.interests)
    start = jax.random.truncated_normal(key, -2.0, 2.0, shape)
    start = jnp.swapaxes(start[:, ::-1], 1, 2)
    interests = dynamic_routing(votes[:, None], start, mask, config.iterations)
    if config.relu:
      interests = nn.relu(Dense(config.width, name="layer")(interests))
      interests *= jnp.any(mask, axis=1)[:, None, None].astype(interests.dtype)
    return interests


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_interests.build_interests` for fields, losses and errors."""
  require_one_target(schema)
  return build_interests(
    MIND(config),
    TableSpec("item", config.width, config.stddev),
    schema,
    counts,
    loss=config.loss,
    negatives=config.negatives,
    sampling=config.sampling,
  )
