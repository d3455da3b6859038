"""kNN-Embed on planted vectors of users and items: what does smoothing find, and when does it hurt?

Items lie around unit centres, item j around centre j mod `clusters`, x = centre + noise N(0, 1 / width)
at length 1. A user likes `liked` clusters and shows `shown` of them, in a Dirichlet(2) mixture of
`events` items; `answers` more come evenly from all that is liked, less what was shown. Who is near:

- users="communities": users of a community like the same clusters, and their vector is the mean of
  those centres, plus noise N(0, 1 / width) / sqrt(liked): neighbours know what the user has not shown.
- users="items": likings are each user's own, and the vector is the mean of the items shown.
- users="svd": communities as before, and the vector is that of a truncated SVD of who had what, as are
  those of items: neighbours are found from the same few items.

The mixture is that of `models/retrieval/knn_embed.py`; without `queries` it is the base, one query.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax import registry
from recjax.errors import ConfigError
from recjax.evaluate import beyond_accuracy, ranking
from recjax.evaluate.topk import top_items
from recjax.nn.nearest import nearest
from recjax.nn.sparse import sparse_rows
from recjax.ranges import Count, Positive, Share, Weight
from recjax.registry import unknown

USERS = ("communities", "items", "svd")
_BATCH = 200  # users at once


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of an arm; the first ones are the world's."""

  users: str = "communities"
  width: Positive = 32
  clusters: Positive = 40  # planted, and those that k-means looks for
  num_items: Positive = 800
  num_users: Positive = 800
  communities: Positive = 20
  liked: Positive = 6
  shown: Positive = 3
  events: Positive = 10
  answers: Positive = 20
  noise: Weight = 0.5
  length: Positive = 60  # of lists
  queries: Count = 8  # 0: the single query
  neighbours: Count = 20
  own: Share = 0.5
  kept: Positive = 16
  iterations: Positive = 15
  seed: Count = 0  # of k-means

  def __post_init__(self):
    if self.users not in USERS:
      raise ConfigError(unknown("users of planted vectors", self.users, USERS))
    if self.events > self.num_items // self.clusters:
      raise ConfigError(
        f"{self.events} different events may be of one cluster, and there are "
        f"{self.num_items // self.clusters} items in each."
      )
    if not self.shown <= self.liked <= self.clusters <= self.num_items:
      raise ConfigError(
        f"A user shows {self.shown} of {self.liked} liked clusters, of {self.clusters} with "
        f"{self.num_items} items: these must not descend."
      )


def simulate(config: Config, seed: int) -> dict[str, float]:
  """One world and the lists of one arm.

  Metrics: `recall` of the lists, their `spread` (mean of 1 - cosine over pairs of items) and
  `same_community`, the share of a user's neighbours that like what the user likes (communities only).
  """
  made = planted(config, seed)
  prepare, lists_of = functions(config)
  variables = prepare({
    "user": jnp.asarray(made["user"]), "item": jnp.asarray(made["item"]),
    "statistics": {"engaged": jax.tree.map(jnp.asarray, sparse_rows(made["engaged"]))},
  })
  user, seen = np.arange(1, config.num_users + 1), made["seen"]
  lists = np.concatenate([
    lists_of(variables, user[s : s + _BATCH], seen[s : s + _BATCH], seen[s : s + _BATCH, :1] * 0)
    for s in range(0, len(user), _BATCH)
  ])
  places = np.broadcast_to(-np.arange(config.length + 1.0), (len(lists), config.length + 1))
  hits = ranking.hits_of_lists(np.pad(lists, ((0, 0), (0, 1))), places, made["answers"])
  counted = ranking.count_targets(made["answers"])
  recall = ranking.ranking_metrics(hits, counted, (config.length,))[f"recall@{config.length}"]
  found = {
    "recall": float(recall.mean()),
    "spread": beyond_accuracy.spread(lists, made["item"]),
  }
  if config.users != "items":
    near, _ = nearest(made["user"], made["user"], 20, leave_out=np.arange(config.num_users + 1))
    own = made["community"]
    found["same_community"] = float((own[near[1:]] == own[1:, None]).mean())
  return found


@functools.cache
def functions(config: Config):
  """Compiled: (variables) -> variables; (variables, user [n], seen [n, S], none [n, 1]) -> lists."""
  predict = {
    "encode_user": lambda v, batch: v["user"][batch["user_id"]],
    "encode_items": lambda v, ids: v["item"][ids],
    "score_items": lambda v, state, ids: state @ v["item"][ids].T,
    "prepare": lambda v: v,
  }
  if config.queries:
    mixture = registry.resolve("model", "knn_embed").mixture
    predict = mixture(config, predict, num_users=config.num_users, num_items=config.num_items)
  size = {"num_items": config.num_items, "block": config.num_items, "k": config.length}

  def lists_of(variables, user, seen, none):
    batch = {"user_id": user, "hist_item": none, "hist_mask": none != 0}
    return top_items(predict, variables, batch, seen, **size)[0]

  return jax.jit(predict["prepare"]), jax.jit(lists_of)


def planted(config: Config, seed: int) -> dict[str, np.ndarray]:
  """A world: user [U + 1, D] and item [N + 1, D] with row 0 for padding, engaged (sparse), and of each
  user what was seen [U, events] and the answers [U, answers], padded with 0, and community [U + 1]."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.normal(size=shape) / np.sqrt(config.width)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  centre = unit(normal(config.clusters, config.width))
  of_item = np.arange(config.num_items) % config.clusters
  item = unit(centre[of_item] + config.noise * normal(config.num_items, config.width))
  groups = config.num_users if config.users == "items" else config.communities
  likes = np.argsort(rng.random((groups, config.clusters)), axis=1)[:, : config.liked]
  community = np.arange(config.num_users) % groups
  taste = likes[community]
  theta = centre[taste].mean(axis=1)
  theta = theta + config.noise * normal(config.num_users, config.width) / np.sqrt(config.liked)
  members = [np.flatnonzero(of_item == c) for c in range(config.clusters)]
  seen = np.zeros((config.num_users, config.events), np.int32)
  answers = np.zeros((config.num_users, config.answers), np.int32)
  for user in range(config.num_users):
    shown = rng.permutation(taste[user])[: config.shown]
    events = rng.multinomial(config.events, rng.dirichlet(np.full(config.shown, 2.0)))
    seen[user] = 1 + np.concatenate([
      rng.choice(members[c], number, replace=False) for c, number in zip(shown, events, strict=True)
    ])
    later = [rng.choice(members[c]) + 1 for c in rng.choice(taste[user], config.answers)]
    answers[user] = np.where(np.isin(later, seen[user]), 0, later)
  row = np.repeat(np.arange(1, config.num_users + 1), config.events)
  engaged = scipy.sparse.coo_array(
    (np.ones(row.size, np.float32), (row, seen.reshape(-1))),
    (config.num_users + 1, config.num_items + 1),
  ).tocsr()
  if config.users == "items":
    theta = item[seen - 1].mean(axis=1)
  if config.users == "svd":
    left, size, right = np.linalg.svd(engaged.toarray()[1:, 1:], full_matrices=False)
    root = np.sqrt(size[: config.width])
    theta, item = left[:, : config.width] * root, right[: config.width].T * root
  pad = lambda x: np.pad(x, ((1, 0), (0, 0))).astype(np.float32)
  return {
    "user": pad(theta), "item": pad(item), "engaged": engaged, "seen": seen, "answers": answers,
    "community": np.append(-1, community),
  }
