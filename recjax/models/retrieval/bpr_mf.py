"""BPR: Bayesian Personalized Ranking from Implicit Feedback, matrix factorisation. Rendle,
Freudenthaler, Gantner and Schmidt-Thieme, UAI 2009, arXiv 1205.2618.

    score_uj = w_u . h_j
    loss = mean over pairs (u, i) of softplus(w_u . h_n - w_u . h_i)
           + decay / 2 (|w_u|^2 + |h_i|^2 + |h_n|^2)

with a negative n that the user did not have. See `_pairwise`, also for people without a row.

Where we depart from the paper, and why:
- Pairs come in batches in shuffled epochs, not one by one with replacement, and any optimiser of the
  library takes the step.
- One decay for users, positive and negative items, as in LightGCN's baseline; the paper has three.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from recjax.data.schema import Schema
from recjax.models.learner import Learner
from recjax.models.retrieval._pairwise import build_pairwise
from recjax.ranges import Positive, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "bpr_mf"
  width: Positive = 64  # D, of users and items
  decay: Weight = 1e-4  # of the vectors of each pair
  stddev: Weight = 0.1  # of initial vectors


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_pairwise.build_pairwise` for fields and errors."""
  return build_pairwise(
    schema, counts, width=config.width, stddev=config.stddev, decay=config.decay, layers=0
  )
