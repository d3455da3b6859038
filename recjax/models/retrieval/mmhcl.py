"""MMHCL: Multi-Modal Hypergraph Contrastive Learning for Recommendation. Guo, Zhang, Wang, Wang, Zhang,
Liu and Cui, ACM TOMM 2025, arXiv 2504.16576.

    e = LightGCN's mean of layers over tables E, for users and items
    h_u = A_u^n G_u,  A_u = D^-1 (R R' - diag),             R [users, items] who had what
    h_i = A_i^n G_i,  A_i = D^-1/2 H H' D^-1/2,             H = [A_1 | .. | A_M]
    u~ = e_u + h_u / |h_u|,  i~ = e_i + h_i / |h_i|,        score = u~ . i~
    loss = BPR(u~, i~) + decay / 2 mean of (|u~|^2 + |i~_p|^2 + |i~_n|^2)
           + item_weight contrast(i~, h_i) + user_weight contrast(u~, h_u)

Row i of A_m marks item i and its nearest by cosine of modality m's given vectors, k in all, as far as
cosines are positive. G are tables of their own; only the last layer counts. The contrast
(`losses.node_contrast`) is over all nodes, with the fused vectors as anchors. A weight of 0 switches
its side off, contrast and sum; with both at 0 this is LightGCN. Equations are those of the authors'
code.

Where we depart from the authors' code, and why:
- R R' and H H' are never made: a step goes to the hyperedges and back (`nn.hypergraph`), with equal
  values. The code's U x U matrix has 6 GB for its largest data.
- An item is always its own neighbour, even beside k copies of it; an item with a vector of zeros has no
  neighbours and nothing is added to it. The code divides by zero there.
- `contrast_nodes` draws so many nodes a step for the contrast, whose sums are corrected for it.
- Tables start from a normal distribution with the deviation of the code's uniform one.
- Every training pair comes once an epoch; see LightGCN here. A user without a row gets e as there, and
  h from the hyperedges of the history, of which only the direction counts.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.data.counts import TrainingCounts
from recjax.data.frozen import open_frozen
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.node_contrast import node_contrast
from recjax.models.learner import Learner
from recjax.models.retrieval._pairwise import Refinement, build_pairwise, deviation
from recjax.nn.hypergraph import by_row, gather_edges, neighbour_edges, propagate, symmetric
from recjax.nn.multi_interest import normalize
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Weight
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; defaults are the authors' settings for TikTok."""

  name: str = "mmhcl"
  # Modalities: item columns of the data, and files of vectors (`--mode=encode`), a row an item.
  columns: tuple[str, ...] = ()
  files: tuple[str, ...] = ()
  width: Positive = 64  # D, of users and items
  layers: Positive = 2  # of the graph of users and items
  user_layers: Positive = 3  # of the users' hypergraph
  item_layers: Positive = 2  # of the items' hypergraph
  neighbours: Positive = 5  # of an item in each modality, itself among them
  user_weight: Weight = 0.03  # of the users' contrast; 0 = without their hypergraph
  item_weight: Weight = 0.07
  temperature: Weight = 0.6
  contrast_nodes: Count = 0  # nodes of either side in a step's contrast; 0 = all
  decay: Weight = 1e-3  # of the vectors of each pair
  stddev: Weight = 0.0  # of initial values; 0 = Xavier's, sqrt(2 / (rows + width))

  def __post_init__(self):
    if self.temperature == 0:
      raise ConfigError("config.model.temperature divides, so it is above 0.")
    if self.item_weight and not (self.columns or self.files):
      raise ConfigError(
        "config.model names no vectors of items: give columns or files, or set item_weight=0."
      )


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_pairwise.build_pairwise` for fields and errors.

  Raises:
    ConfigError: for columns that items do not have.
    DataError: for a file that does not hold a vector for each item.
  """
  sides = [
    side for side, weight in (("user", config.user_weight), ("item", config.item_weight)) if weight
  ]
  sizes = {side: schema.vocabularies[side] for side in ("user", "item")}
  further = {
    f"{side}_hyper": TableSpec(side, config.width, deviation(config.stddev, sizes[side], config.width))
    for side in sides
  }
  weights = {"user": config.user_weight, "item": config.item_weight}
  depth = {"user": config.user_layers, "item": config.item_layers}

  def statistics(pairs):
    found = {}
    if "user" in sides:
      found["user_hyper"] = by_row(scipy.sparse.csr_array(pairs.astype(bool).astype(np.float64)))
    if "item" in sides:
      modalities = item_vectors(config, counts, sizes["item"])
      edges = [neighbour_edges(vectors, config.neighbours) for vectors in modalities]
      found["item_hyper"] = symmetric(scipy.sparse.csr_array(scipy.sparse.hstack(edges)))
    return found

  def hyperedges(side):
    """How many there are: items, that users share, or neighbourhoods of each modality."""
    return sizes["item"] * (1 if side == "user" else len(config.columns) + len(config.files))

  def second_order(variables, side):
    """Rows h of one side, and of users what the hyperedges of the last step hold [items, D]."""
    graph = variables["statistics"][f"{side}_hyper"]
    table = variables["tables"][f"{side}_hyper"]
    rows, edges = table[: sizes[side]], None
    for _ in range(depth[side]):
      if side == "user":
        edges = gather_edges(graph, rows, hyperedges(side))
      rows = propagate(graph, rows, hyperedges(side))
    return jnp.pad(rows, ((0, len(table) - sizes[side]), (0, 0))), edges

  def vectors(variables, propagated):
    found = dict(propagated)
    for side in sides:
      found[f"{side}_hyper"], edges = second_order(variables, side)
      found[side] = found[side] + normalize(found[f"{side}_hyper"])
      if edges is not None:
        found["stranger_hyper"] = edges
    return found

  def stranger(found, ids):
    if "user" not in sides:
      return jnp.zeros((len(ids), config.width))
    return normalize(jnp.sum(take(found["stranger_hyper"], ids), axis=1))

  def loss(variables, found, key):
    value, metrics = jnp.zeros(()), {}
    for side, own in zip(sides, jax.random.split(key, len(sides)), strict=True):
      contrast = _contrast(config, found[side], found[f"{side}_hyper"], sizes[side], own)
      metrics[f"{side}_contrast"] = (contrast, jnp.ones(()))
      value += weights[side] * contrast
    return value, metrics

  refinement = Refinement(further, statistics, vectors, stranger, loss) if sides else None
  return build_pairwise(
    schema, counts, width=config.width, stddev=config.stddev, decay=config.decay,
    layers=config.layers, refinement=refinement,
  )


def _contrast(config, fused, hyper, size, key):
  """Contrast of the rows 1 .. size - 1, or of so many of them as `contrast_nodes` says."""
  fused, hyper = fused[1:size], hyper[1:size]
  pool = None
  if 0 < config.contrast_nodes < size - 1:
    chosen = jax.random.choice(key, size - 1, (config.contrast_nodes,), replace=False)
    fused, hyper, pool = fused[chosen], hyper[chosen], size - 1
  return node_contrast(fused, hyper, jnp.ones(len(fused), bool), config.temperature, pool=pool)


def item_vectors(
  config: Config, counts: Mapping[str, np.ndarray] | None, size: int
) -> list[np.ndarray]:
  """Vectors float32 [size, M] of each modality, zero for items without."""
  known = counts.item_columns if isinstance(counts, TrainingCounts) else {}
  given = {
    name: column for name, column in known.items()
    if column.ndim == 2 and np.issubdtype(column.dtype, np.floating)
  }
  found = []
  for name in config.columns:
    if name not in given:
      raise ConfigError(unknown("vectors of items in config.model.columns", name, given))
    found.append(np.nan_to_num(np.asarray(given[name], np.float32)))
  for path in config.files:
    found.append(open_frozen(Path(path), size).values(np.arange(size)))
  return found
