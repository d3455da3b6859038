"""Counting baselines: nothing to descend, no seed to vary, and hard to beat on small data.

    popularity   score_j = pop_j, the training events of j
    transition   score_j = A[last, j] + 0.5 pop_j / max pop, A = adjacent pairs of training events
    item_knn     score_j = sum over the history's events i of cos(i, j), cos between the columns of
                 the binary user x item matrix, of which each item i keeps its best `neighbours`

The last is the item-to-item method of Sarwar, Karypis, Konstan and Riedl, WWW 2001. An empty
history gets the popularity term alone, so zero from item_knn.

Matrices are kept as compressed rows on the device: row i of the pair matrix is
`neighbour[indptr[i] : indptr[i + 1]]` with its `weight`; `window` is arange of the longest row,
the shape by which a lookup gathers whole rows. Memory follows the pairs that occur.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.data.counts import count_transitions, training_events
from recjax.data.log import EventLog
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner
from recjax.models.retrieval._next_item import require
from recjax.nn.sparse import sparse_rows, take_sparse
from recjax.ranges import Positive
from recjax.registry import unknown

KINDS = ("popularity", "transition", "item_knn")
_ROWS = 4096  # items whose similarities to all others exist at once


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "counts"
  kind: str = "transition"  # popularity | transition | item_knn
  neighbours: Positive = 100  # most similar items that item_knn keeps of each item


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """A learner without loss, whose `fit(log, split)` counts the training events.

  `counts` is not needed: fit reads the log itself. Raises ConfigError for an unknown kind and for a
  schema without hist_item and hist_mask.
  """
  del counts
  if config.kind not in KINDS:
    raise ConfigError(unknown("kind", config.kind, KINDS))
  require(schema, "hist_item", "hist_mask")

  def init(key, tables, batch):
    raise ConfigError("A counting baseline has no initial values: fit it on a log, or load it.")

  def fit(log, split):
    return {"statistics": jax.tree.map(jnp.asarray, count_events(config, log, split))}

  def encode_user(variables, batch):
    """Items whose pairs the user's scores add up, int32 [B, S], padded with 0."""
    items = batch["hist_item"] * batch["hist_mask"].astype(jnp.int32)
    if config.kind == "item_knn":
      return items
    return items[:, -1:] if config.kind == "transition" else jnp.zeros_like(items[:, -1:])

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    return score_pairs(variables, encode_user(variables, batch), batch["target_item"])

  predict = {"encode_user": encode_user, "score_items": score_items, "score": score}
  return Learner(schema, {}, init, None, predict, fit=fit)


def score_items(
  variables: Mapping[str, Mapping[str, jax.Array]], state: jax.Array, item_ids: jax.Array
) -> jax.Array:
  """Scores [B, n] of item_ids [n] for state [B, S]; the ids are distinct, but for repeats of 0."""
  statistics = variables["statistics"]
  popular = statistics["popularity"]
  ids, weights = take_sparse(statistics, state)
  column = jnp.full(popular.shape, len(item_ids), jnp.int32)
  column = column.at[item_ids].set(jnp.arange(len(item_ids), dtype=jnp.int32))
  scores = jnp.broadcast_to(popular[item_ids][None], (len(state), len(item_ids)))
  row = jnp.broadcast_to(jnp.arange(len(state))[:, None, None], ids.shape)
  return scores.at[row, column[ids]].add(weights, mode="drop")


def score_pairs(
  variables: Mapping[str, Mapping[str, jax.Array]], state: jax.Array, targets: jax.Array
) -> jax.Array:
  """Scores of each row's own targets [B] or [B, C], in their shape, for state [B, S]."""
  statistics = variables["statistics"]
  candidates = targets.reshape(len(targets), -1)

  def add(scores, source):
    ids, weights = take_sparse(statistics, source)
    same = ids[:, None, :] == candidates[:, :, None]
    return scores + jnp.sum(jnp.where(same, weights[:, None, :], 0.0), axis=-1), None

  scores, _ = jax.lax.scan(add, statistics["popularity"][candidates], state.T)
  return scores.reshape(targets.shape)


def count_events(config: Config, log: EventLog, split) -> dict[str, np.ndarray]:
  """Statistics of the events `split.train_begin[u] : split.train_end[u]` of each user u.

  Both are absolute event numbers, int64, indexed by user. Raises ConfigError where there are none.
  """
  event, user = training_events(log, split)
  size = log.vocabularies["item"]
  item = np.asarray(log.item[event], np.int64)
  if not len(item):
    raise ConfigError("The split leaves no training events to count.")
  popularity = np.bincount(item, minlength=size).astype(np.float32)
  pairs = scipy.sparse.csr_array((size, size), dtype=np.float32)
  if config.kind == "transition":
    popularity *= np.float32(0.5) / popularity.max()
    pairs = count_transitions(log, split)
  elif config.kind == "item_knn":
    popularity[:] = 0.0
    pairs = _similar(item, user, (len(log.indptr) - 1, size), config.neighbours)
  return {"popularity": popularity, **sparse_rows(pairs)}


def _similar(item, user, shape, neighbours):
  """Cosines of the columns of the binary user x item matrix, the best `neighbours` of each row.

  Of equal cosines the smaller item number is kept.
  """
  seen = scipy.sparse.coo_array((np.ones(len(item), np.float32), (user, item)), shape).tocsr()
  seen.data[:] = 1.0
  norm = np.sqrt(np.bincount(seen.indices, minlength=shape[1]))
  scale = np.divide(1.0, norm, where=norm > 0, out=np.zeros_like(norm))
  unit = scipy.sparse.csr_array(seen @ scipy.sparse.diags_array(scale))
  by_item = unit.T.tocsr()
  parts = []
  for first in range(0, shape[1], _ROWS):
    block = (by_item[first : first + _ROWS] @ unit).tocoo()
    row, column, cosine = block.row + first, block.col, block.data
    other = row != column
    row, column, cosine = row[other], column[other], cosine[other]
    order = np.lexsort((column, -cosine, row))
    row, column, cosine = row[order], column[order], cosine[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < neighbours
    parts.append((row[kept], column[kept], cosine[kept]))
  row, column, cosine = (np.concatenate(part) for part in zip(*parts, strict=True))
  square = (shape[1], shape[1])
  return scipy.sparse.coo_array((cosine.astype(np.float32), (row, column)), square).tocsr()
