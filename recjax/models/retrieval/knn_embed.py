"""kNN-Embed: Locally Smoothed Embedding Mixtures For Multi-interest Candidate Retrieval. El-Kishky,
Markovich, Leung, Portman, Haghighi and Xiao, PAKDD 2023, arXiv 2205.06205.

Nothing is trained: over the vectors theta_u, x_i of any model of users and items,

    c(i)        cluster of item i, by k-means over all x_i
    p(c|u)    = n_uc / |R(u)|, n_uc = |{i in R(u): c(i) = c}|, R(u) what u had in training
    p~(c|u)   = own p(c|u) + (1 - own) mean of p(c|v) over the k users v nearest to theta_u by cosine
    query_uc  = mean of x_i over the i of cluster c in R(u) and in all R(v)

The `queries` clusters of largest p~ stay, with weights that are scaled to sum to 1. A list of n has n_c
items of query_uc, searched for in the whole catalogue, n_c by largest remainder of n p~ (`shares`,
`nn.shares`). neighbours=0 is the mixture without smoothing, and clusters=1 beside it a single query at
the mean of R(u). The single query at theta_u is the base model itself.

What is added is computed once an evaluation (`prepare`): the clusters, and of each user the counts and
sums of x_i of the `kept` clusters that R(u) has most of. Neighbours are searched for when a user is
encoded, so people without an id have some, too; their R(u) is their history.

Where we depart from the paper, and why:
- The method is after the paper's abstract and descriptions by others; no code of the authors is known
  to us, and all constants are ours. Clusters are spherical, as queries are compared by products; own is
  explicit, where a pool of u and its k neighbours would be own = 1 / (k + 1); an item counts as often
  as users in the pool have it.
- Items that two queries find go to the heavier one; lists are in the order of nn.shares, so that their
  beginnings are mixtures, too.
- A user without training events has the mixture of the neighbours, and one whose neighbours have none
  either, or whose own=1 and R(u) is empty, the single query theta_u.
- `score` and `score_items` of single items, which have no shares, take the best of the queries, as for
  other models of several vectors.

Smoothing pays only where neighbours know more than the user: see docs/papers/knn_embed.md.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax import registry
from recjax.data.counts import TrainingCounts
from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Batch, Learner, Variables
from recjax.models.retrieval._next_item import require
from recjax.models.retrieval._vectors import predictions
from recjax.nn.nearest import nearest
from recjax.nn.sparse import sparse_rows, take_sparse
from recjax.nn.spherical_kmeans import spherical_kmeans
from recjax.ranges import Count, Positive, Share

_USERS = 256  # whose training items are gathered at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """What can be chosen, beside the model whose vectors are taken."""

  name: str = "knn_embed"
  # Has vectors of users and of items, and is trained as it is alone.
  base: Any = dataclasses.field(metadata={"module": "model"})
  clusters: Positive = 100  # G
  iterations: Positive = 20  # of k-means
  seed: Count = 0  # of its start
  kept: Positive = 16  # clusters remembered of each user, those with most items
  queries: Positive = 5  # m, clusters that give items
  neighbours: Count = 20  # k; 0: no smoothing
  own: Share = 0.5  # weight of the user's own clusters; the rest is the neighbours'


class Held(NamedTuple):
  """What users had, cluster by cluster, most items first; a cluster without items counts 0.

  Attributes:
    cluster: int32 [..., M].
    count: float32 [..., M] items of it.
    total: float32 [...] items of all clusters, also of those left out here.
    vector: float32 [..., M, D], sum of their vectors.
  """

  cluster: jax.Array
  count: jax.Array
  total: jax.Array
  vector: jax.Array


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The base learner with other predictions.

  Raises:
    ConfigError: for a base without vectors of users and items, a view of another kind, more clusters
      than items, and from init for counts without pairs.
  """
  require(schema, "user_id", "hist_item", "hist_mask")
  base = registry.resolve("model", config.base.name).build(config.base, schema, counts)
  if "user" not in base.tables or "encode_items" not in base.predict:
    raise ConfigError(
      f"kNN-Embed mixes vectors of users and items, and {config.base.name!r} has no table of users: "
      "take a base such as 'lightgcn'."
    )
  items = schema.vocabularies["item"] - 1
  if config.clusters > items:
    raise ConfigError(f"{items} items cannot make {config.clusters} clusters: lower model.clusters.")

  def init(key, tables, batch):
    if not isinstance(counts, TrainingCounts) or counts.pairs is None:
      raise ConfigError(
        "The model needs to know who had what in training, which the view 'prefixes' counts."
      )
    variables = base.init(key, tables, batch)
    engaged = jax.tree.map(jnp.asarray, sparse_rows(counts.pairs()))
    return {**variables, "statistics": {**variables.get("statistics", {}), "engaged": engaged}}

  sizes = {"num_users": schema.vocabularies["user"] - 1, "num_items": items}
  return base._replace(init=init, predict=mixture(config, base.predict, **sizes))


def mixture(
  config: Any, base: Mapping[str, Callable], *, num_users: int, num_items: int
) -> dict[str, Callable]:
  """Prediction functions of the mixture over those of any base.

  Args:
    config: `Config`, of which `base` is not read.
    base: `encode_user`, which knows users by user_id, `encode_items`, and `prepare` if it has that.
    num_users: with ids from 1.
    num_items: with ids from 1.

  Returns:
    Functions that find R(u) in variables["statistics"]["engaged"], rows of `nn.sparse`. The state of
    users is a dict of query [B, m, D] and weight [B, m], largest first, with sum 1; a query of weight
    0 repeats the first.
  """
  kept, wanted = min(config.kept, config.clusters), min(config.queries, config.clusters)

  def prepare(variables: Variables) -> Variables:
    """With the clusters, and what every user had of them."""
    variables = base["prepare"](variables) if "prepare" in base else variables
    item = base["encode_items"](variables, jnp.arange(num_items + 1)).astype(jnp.float32)
    found = spherical_kmeans(
      item[1:], config.clusters, jax.random.key(config.seed), config.iterations
    )
    cluster = jnp.append(config.clusters, found.cluster)  # padding is in none

    def one(user):
      rows = {"user_id": user[None], "hist_item": jnp.zeros((1, 1), jnp.int32)}
      vector = base["encode_user"](variables, {**rows, "hist_mask": jnp.zeros((1, 1), bool)})[0]
      had = take_sparse(variables["statistics"]["engaged"], user)[0]
      return vector.astype(jnp.float32), held(had, cluster, item, config.clusters, kept)

    user, had = jax.lax.map(one, jnp.arange(num_users + 1), batch_size=min(_USERS, num_users + 1))
    return {**variables, "mixture": {"item": item, "cluster": cluster, "user": user, "held": had}}

  def ready(variables):
    return variables if "mixture" in variables else prepare(variables)

  def encode_user(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """The mixture of each user, known ones by their id and others by their history."""
    variables = ready(variables)
    index, single = variables["mixture"], base["encode_user"](variables, batch)
    history = jnp.where(batch["hist_mask"], batch["hist_item"], 0)
    fresh = held_of_rows(history, index["cluster"], index["item"], config.clusters, kept)
    active = index["held"].total > 0
    known = active[batch["user_id"]]
    one = lambda stored, new: jnp.where(
      known.reshape(-1, *(1,) * (new.ndim - 1)), stored[batch["user_id"]], new
    )[:, None]
    pool = jax.tree.map(one, index["held"], fresh)
    weight = jnp.ones((len(single), 1), jnp.float32)
    if config.neighbours:
      itself = jnp.where(known, batch["user_id"], -1)
      user, cosine = nearest(
        single, index["user"], config.neighbours, leave_out=itself, allowed=active
      )
      real = jnp.isfinite(cosine)
      others = jax.tree.map(lambda stored: stored[user], index["held"])
      others = others._replace(count=jnp.where(real[:, :, None], others.count, 0.0))
      pool = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), pool, others)
      number = jnp.sum(real, axis=1, keepdims=True)
      near = jnp.where(real, (1 - config.own) / jnp.maximum(number, 1), 0.0)
      weight = jnp.concatenate([jnp.where(number > 0, config.own, 1.0), near], axis=1)
    return queries(pool, weight, single, config.clusters, wanted)

  several = predictions(lambda v, batch: encode_user(v, batch)["query"], base["encode_items"])

  def shares(state: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
    """The states of single queries, user by user, and their weights [B, m]."""
    query = state["query"].reshape(-1, 1, state["query"].shape[-1])
    return {"query": query, "weight": jnp.ones((len(query), 1), jnp.float32)}, state["weight"]

  return {
    **several,
    "encode_user": encode_user,
    "score_items": lambda v, state, ids: several["score_items"](v, state["query"], ids),
    "prepare": prepare,
    "shares": shares,
  }


def held(had: jax.Array, cluster: jax.Array, item: jax.Array, clusters: int, kept: int) -> Held:
  """Of items had [S], 0 for none, the `kept` clusters with most.

  Args:
    had: item ids.
    cluster: int [N + 1] of each item, `clusters` for padding.
    item: vectors [N + 1, D].
    clusters: G.
    kept: M, at most G.
  """
  group = cluster[had]
  size = jnp.zeros(clusters, jnp.float32).at[group].add(1.0, mode="drop")
  count, most = jax.lax.top_k(size, kept)
  slot = jnp.full(clusters + 1, kept).at[most].set(jnp.arange(kept))[group]
  vector = jax.ops.segment_sum(item[had], slot, kept + 1)[:kept]
  return Held(most.astype(jnp.int32), count, jnp.sum(size), vector)


held_of_rows = jax.vmap(held, in_axes=(0, None, None, None, None))


def smoothed(pool: Held, weight: jax.Array, clusters: int) -> jax.Array:
  """p~ [B, G]: the sum over a pool [B, P] of people of weight [B, P] times their p(c|.).

  Who has no items adds nothing.
  """
  share = pool.count / jnp.maximum(pool.total, 1.0)[..., None] * weight[..., None]
  rows = len(weight)
  flat = lambda a: a.reshape(rows, -1)
  add = jax.vmap(lambda at, amount: jnp.zeros(clusters, jnp.float32).at[at].add(amount))
  return add(flat(pool.cluster), flat(share))


def queries(
  pool: Held, weight: jax.Array, single: jax.Array, clusters: int, wanted: int
) -> dict[str, jax.Array]:
  """The `wanted` heaviest clusters of a pool [B, P] and their mean vectors; see `mixture`.

  `single` [B, D] is the one query where the pool holds nothing.
  """
  rows, width = single.shape
  share, kept = jax.lax.top_k(smoothed(pool, weight, clusters), wanted)
  flat = lambda a: a.reshape(rows, -1)
  mine = (flat(pool.cluster)[:, None] == kept[:, :, None]).astype(jnp.float32)
  mine *= flat(pool.count > 0)[:, None]
  sums = jnp.einsum(
    "bms,bsd->bmd", mine, pool.vector.reshape(rows, -1, width), precision="highest"
  )
  number = jnp.sum(mine * flat(pool.count)[:, None], axis=-1, keepdims=True)
  query = sums / jnp.maximum(number, 1.0)
  total = jnp.sum(share, axis=1, keepdims=True)
  only = (jnp.arange(wanted) == 0)[None].astype(jnp.float32)
  nobody = (total == 0)[:, :, None]
  query = jnp.where(nobody, single[:, None].astype(jnp.float32), query)
  query = jnp.where((share > 0)[:, :, None] | nobody, query, query[:, :1])
  share = jnp.where(total > 0, share / jnp.where(total > 0, total, 1.0), only)
  return {"query": query, "weight": share}
