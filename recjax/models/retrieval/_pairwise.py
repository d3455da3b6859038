"""Learners from pairs of a user and an item, told apart from items that the user did not have (BPR).

A user has a vector of its own, and a pair is scored by the dot product with the item's. Vectors are the
rows of the tables, or what `layers` of propagation over the graph of all training pairs make of them:

    E(0) = the tables;  E(l + 1) = D^-1/2 A D^-1/2 E(l);  E = mean of E(0) .. E(layers)
    loss = mean of softplus(E_u . E_n - E_u . E_p) + decay / 2 (|E0_u|^2 + |E0_p|^2 + |E0_n|^2)

The negative n is drawn evenly among items that the user did not have in training, and a pair for which
none was found has no weight (`_negatives.draw_unseen`). The penalty is on rows of the tables.

Someone who is not known from training has no row. Their vector is what one more propagation would give
them: the sum over the history of E'_i / sqrt(degree_i), E' the mean of the layers but the last, divided
by the root of the history's length (without propagation: of E_i). So an answer needs no user id.

A `Refinement` adds to these vectors and to the loss; the penalty is then on what it made of the pairs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.data.counts import TrainingCounts
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.models.learner import Learner, Metrics, Objective, Variables
from recjax.models.retrieval._interests import require_one_target
from recjax.models.retrieval._negatives import draw_unseen
from recjax.models.retrieval._next_item import require
from recjax.models.retrieval._vectors import predictions
from recjax.nn.graph import bipartite_graph, layers_of
from recjax.nn.sparse import sparse_rows
from recjax.nn.tables import TableSpec, take

Vectors = dict[str, jax.Array]  # `user`, `item` and `stranger`, what strangers are made of, by row


class Refinement(NamedTuple):
  """What a model adds to vectors that were propagated.

  Attributes:
    tables: further tables, each read whole.
    statistics: pairs [users, items] to constants, read as variables["statistics"].
    vectors: (variables, propagated) -> the same, refined, and what else `stranger` reads.
    stranger: (vectors, ids [B, L]) -> what is added [B, D] to those of histories without a user.
    loss: (variables, vectors, key) -> a mean that is added to the mean over pairs, and metrics.
  """

  tables: Mapping[str, TableSpec]
  statistics: Callable[[scipy.sparse.csr_array], Mapping[str, Any]]
  vectors: Callable[[Variables, Vectors], Vectors]
  stranger: Callable[[Vectors, jax.Array], jax.Array]
  loss: Callable[[Variables, Vectors, jax.Array], tuple[jax.Array, Metrics]]


def deviation(stddev: float, rows: int, width: int) -> float:
  """The deviation that is asked for, or for 0 that of Xavier's initial values of a matrix."""
  return stddev or (2.0 / (rows + width)) ** 0.5


def build_pairwise(
  schema: Schema,
  counts: Mapping[str, np.ndarray] | None,
  *,
  width: int,
  stddev: float,
  decay: float,
  layers: int,
  refinement: Refinement | None = None,
) -> Learner:
  """The learner; without `layers` its loss touches only rows that the batch names.

  Args:
    schema: has user_id, one target_item a row, hist_item and hist_mask.
    counts: `data.counts.TrainingCounts` with pairs; read by init.
    width: D of both tables.
    stddev: of their initial values; see `deviation`.
    decay: of the penalty.
    layers: of the propagation.
    refinement: of what is propagated; needs layers.

  Raises:
    ConfigError: for a view of another kind, and from init for counts without pairs.
  """
  require(schema, "user_id")
  require_one_target(schema)
  size = schema.vocabularies["item"]
  tables = {
    side: TableSpec(side, width, deviation(stddev, schema.vocabularies[side], width))
    for side in ("user", "item")
  }
  if refinement:
    tables |= refinement.tables

  @functools.cache
  def statistics():
    if not isinstance(counts, TrainingCounts) or counts.pairs is None:
      raise ConfigError(
        "The model needs to know who had what in training, which the view 'prefixes' counts."
      )
    pairs = counts.pairs()
    found = {"pairs": sparse_rows(pairs)}
    if layers:
      found["graph"] = bipartite_graph(pairs)
      degree = np.zeros(size, np.float32)
      np.add.at(degree, pairs.indices, 1.0)
      found["item_scale"] = 1.0 / np.sqrt(np.maximum(degree, 1.0))
    return {**found, **(refinement.statistics(pairs) if refinement else {})}

  def init(key, tables, batch):
    return {"params": {}, "statistics": jax.tree.map(jnp.asarray, statistics())}

  def propagate(variables):
    """Vectors of users and items, and those that strangers are made of, by name."""
    users, items = variables["tables"]["user"], variables["tables"]["item"]
    if not layers:
      return {"user": users, "item": items, "stranger": items}
    found = layers_of(variables["statistics"]["graph"], users, items, layers)
    mean = lambda parts: sum(parts) * np.float32(1.0 / (layers + 1))
    scale = variables["statistics"]["item_scale"]
    before = mean([items for _, items in found[:-1]])
    propagated = {
      "user": mean([users for users, _ in found]),
      "item": mean([items for _, items in found]),
      "stranger": before * jnp.pad(scale, (0, len(before) - len(scale)))[:, None],
    }
    return refinement.vectors(variables, propagated) if refinement else propagated

  def vectors(variables):
    return variables["propagated"] if "propagated" in variables else propagate(variables)

  def draw(variables, batch, key):
    drawn = draw_unseen(variables["statistics"]["pairs"], batch["user_id"], key, size)
    return {**batch, "negative_item": drawn}

  def loss(variables, batch, key):
    names = {"user_id": "user", "target_item": "item", "negative_item": "item"}
    found = vectors(variables)
    user, positive, negative = (take(found[n], batch[field]) for field, n in names.items())
    margin = jnp.sum(user * (positive - negative), axis=-1)
    weight = ((batch["target_item"] != 0) & (batch["negative_item"] != 0)).astype(jnp.float32)
    value, total = binary_cross_entropy(margin, jnp.ones_like(margin), weight)
    metrics = {"bpr": (value, total), "accuracy": (jnp.sum(jnp.where(margin > 0, weight, 0.0)), total)}
    if decay:
      penalised = found if refinement else variables["tables"]
      squares = sum(
        jnp.sum(jnp.square(take(penalised[n], batch[field])), axis=-1)
        for field, n in names.items()
      )
      value += 0.5 * decay * jnp.sum(weight * squares)
    if refinement:
      further, more = refinement.loss(variables, found, key)
      value += total * further
      metrics |= more
    return Objective(value, total, metrics)

  def encode_user(variables, batch):
    """Vectors [B, D] of users, known ones by their id and others by their history."""
    found, user = vectors(variables), batch["user_id"]
    mask = batch["hist_mask"]
    ids = jnp.where(mask, batch["hist_item"], 0)
    history = take(found["stranger"], ids)
    length = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)
    stranger = jnp.sum(history, axis=1) * jax.lax.rsqrt(length)[:, None]
    if refinement:
      stranger += refinement.stranger(found, ids)
    indptr = variables["statistics"]["pairs"]["indptr"]
    known = (indptr[user + 1] > indptr[user])[:, None]
    return jnp.where(known, take(found["user"], user), stranger)

  def encode_items(variables, item_ids):
    """Vectors [..., D] whose dot products with encode_user are the scores."""
    return take(vectors(variables)["item"], item_ids)

  predict = predictions(encode_user, encode_items)
  if layers:
    predict["prepare"] = lambda variables: {**variables, "propagated": propagate(variables)}
  drawn = Field("ids", (), "item")
  return Learner(
    schema.extend(negative_item=drawn), tables, init, loss, predict, draw,
    whole_tables=tuple(sorted(tables)) if layers else (),
  )
