"""LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation. He, Deng, Wang, Li,
Zhang and Wang, SIGIR 2020, arXiv 2002.02126.

    E(0) = tables of users and items;  E(l + 1) = D^-1/2 A D^-1/2 E(l);  E = mean of E(0) .. E(layers)
    score_uj = E_u . E_j;  loss = BPR on E, with a penalty on the rows of E(0) that the pairs name

A is the graph of users and items, an edge for every pair that occurs in training, without loops.
Without layers this is BPR-MF. See `_pairwise` for the loss and for people without a row, `nn.graph` for
the propagation. As in the authors' code all layers weigh the same, and the penalty is a mean of pairs.

Where we depart from the authors' code, and why:
- Every training pair comes once an epoch; the code draws a user evenly and then one of their pairs,
  which is the view's cuts=N.
- Predictions propagate once an evaluation (`prepare`), not once a batch of users, with equal values.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from recjax.data.schema import Schema
from recjax.models.learner import Learner
from recjax.models.retrieval._pairwise import build_pairwise
from recjax.ranges import Count, Positive, Weight


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; defaults are those of the authors' code."""

  name: str = "lightgcn"
  width: Positive = 64  # D, of users and items
  layers: Count = 3  # of the propagation
  decay: Weight = 1e-4  # of the initial vectors of each pair
  stddev: Weight = 0.1  # of initial vectors


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_pairwise.build_pairwise` for fields and errors."""
  return build_pairwise(
    schema, counts, width=config.width, stddev=config.stddev, decay=config.decay,
    layers=config.layers,
  )
