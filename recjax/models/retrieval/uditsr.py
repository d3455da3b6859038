"""Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation. Zhang, Wu, Han, Sun,
Zhu, Li, Lin, Zhuang, An and Xu, KDD 2024, arXiv 2407.00912.

A row is a user, an item that they took, and the words of a query, or none: a recommendation.

    e_q = sum of the words' vectors;   g(u, i) = the generated demand, see `_uditsr_network`
    r = e_q on a search edge, g(u, i) on another one
    u(l + 1) = mean over u's edges of (i(l) - r);   i(l + 1) = mean over i's edges of (u(l) + r)
    u* = sum over l of u(l) / (l + 1), i* likewise, l = 0 .. layers
    score = MLP([u* ; i* ; q]), q = e_q and the search head, or q = g(u, i) and the other head

    loss = mean of softplus(s_n - s_p) + lambda_sg [search] mean_D (g(u, p) - e_q)^2
           + lambda_ct softplus(d_p - d_n),   d_j = mean_D (u* + q_p - j*)^2

with a positive p, a negative n that the user did not have, and q_p the query or g(u, p), for both d.
The generator reads layer 0, the words that a user searched with most often, and those that led to an
item most often, a row's own among them. Equations and constants are those of the authors' code.

Where we depart from the authors' code, and why:
- There, word 0 is padding and a word like any other. Here it is zero in sums and masked in the softmax.
- The mean over edges of a sum is a sum of means: each edge's vector is added up once, not once a layer
  and direction (`nn.edge_graph`); edges that are alike are one with a weight. Values are the same.
- The bias of the attention's map of words is left out: it is the same for all words, and a softmax does
  not see it. W_A itself is applied to the key.
- There is no dropout in the generator; the code's default is a rate of 0.
- Tables start from a normal distribution with one deviation, where the code's depends on their sizes.
- A pair for which no negative was found has no weight.
- Who is not known from training has layers 1 and up by their history, as a user with those edges and
  e_u = 0 would have; the code needs an id.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.counts import TrainingCounts
from recjax.data.schema import Field, Schema
from recjax.data.words import frequent_words
from recjax.errors import ConfigError
from recjax.models.learner import Learner, Objective
from recjax.models.retrieval._interests import require_one_target
from recjax.models.retrieval._negatives import draw_unseen
from recjax.models.retrieval._next_item import require
from recjax.models.retrieval._uditsr_network import Network
from recjax.nn.edge_graph import edge_blocks, edge_means, mean_graph, translated_layers
from recjax.nn.sparse import sparse_rows
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Weight

_ITEMS = 64  # items scored at once for all users of a batch


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; defaults are those of the authors' code, but for the deviation."""

  name: str = "uditsr"
  width: Positive = 100  # D, of users, items and words
  layers: Count = 2  # of the propagation
  user_words: Positive = 3  # the most frequent words of a user's searches
  item_words: Positive = 10  # and of those that led to an item
  supervision: Weight = 1.5  # lambda_sg: generated demands learn from queries
  contrast: Weight = 0.2  # lambda_ct
  stddev: Weight = 0.1  # of initial vectors
  queries: bool = True  # False: nothing is known of queries; mean aggregation, one head, BPR alone
  translation: bool = True  # False: mean aggregation without the vectors of edges
  attention: bool = True  # False: the generator takes the mean of an item's words


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner.

  Args:
    config: the settings.
    schema: has user_id, one target_item a row, query_word, hist_item and hist_mask.
    counts: `data.counts.TrainingCounts` with pairs and events; read by init.

  Raises:
    ConfigError: for a view of another kind, and from init for counts without events.
  """
  require(schema, "user_id", "query_word")
  require_one_target(schema)
  width, size = config.width, schema.vocabularies["item"]
  names = ("user", "item", "word") if config.queries else ("user", "item")
  tables = {name: TableSpec(name, width, config.stddev) for name in names}
  network = Network(width, config.queries, config.attention)
  apply = lambda variables, method, *inputs: network.apply(
    {"params": variables["params"]}, *inputs, method=method
  )

  @functools.cache
  def statistics():
    if not isinstance(counts, TrainingCounts) or counts.events is None:
      raise ConfigError(
        "The model needs the training events with their queries, which the view "
        "'search_and_recommendation' gives."
      )
    pairs, events = counts.pairs(), counts.events()
    found = {"pairs": sparse_rows(pairs), "graph": mean_graph(pairs)}
    if config.queries:
      for name, keep in (("user", config.user_words), ("item", config.item_words)):
        owners = schema.vocabularies[name]
        found[f"{name}_words"] = frequent_words(events[name], events["query_word"], owners, keep)
      if config.translation:
        found["edges"] = edge_blocks({n: events[n] for n in ("user", "item", "query_word")})
    return found

  def init(key, tables, batch):
    known = jax.tree.map(jnp.asarray, statistics())
    words = lambda count: jnp.zeros((count, width))
    made = network.init(key, jnp.zeros(width), words(config.user_words), words(config.item_words))
    return {**made, "statistics": known}

  def query_vector(variables, words):
    """Vectors [..., D] of queries [..., W]; zero for none."""
    return jnp.sum(take(variables["tables"]["word"], words), axis=-2)

  def demands(variables, of_user, of_item, words):
    """Generated demands [..., D] for items with words [..., T]."""
    vectors = take(variables["tables"]["word"], words)
    return apply(variables, "demand", of_user, of_item, vectors, words != 0)

  def propagate(variables):
    """Vectors of users and items, what the generator needs of each, what strangers are made of."""
    users, items = variables["tables"]["user"], variables["tables"]["item"]
    known = variables["statistics"]
    found, means = {}, None
    if config.queries:
      words = lambda name, table: _fill(known[f"{name}_words"], len(table))
      own = take(variables["tables"]["word"], words("user", users))
      found = {
        "of_user": apply(variables, "of_user", users, own),
        "of_item": apply(variables, "of_item", items),
        "item_words": words("item", items),
      }
      if config.translation:
        def edge_vectors(block, needed):
          variables, found = needed
          user, item = block["user"], block["item"]
          generated = demands(
            variables, found["of_user"][user], found["of_item"][item], found["item_words"][item]
          )
          searches = jnp.any(block["query_word"] != 0, axis=-1, keepdims=True)
          return jnp.where(searches, query_vector(variables, block["query_word"]), generated)

        needed = {"params": variables["params"], "tables": variables["tables"]}, found
        rows = {"user": len(users), "item": len(items)}
        means = edge_means(known["edges"], edge_vectors, needed, rows)
    layers = translated_layers(known["graph"], users, items, means, config.layers)
    read = lambda vectors, first: sum(v / (l + first) for l, v in enumerate(vectors))
    before = [items for _, items in layers[:-1]]
    return {
      **found,
      "user": read([users for users, _ in layers], 1),
      "item": read([items for _, items in layers], 1),
      "stranger": read(before, 2) if before else jnp.zeros_like(items),
    }

  def vectors(variables):
    return variables["propagated"] if "propagated" in variables else propagate(variables)

  def query_of(variables, batch):
    """Vectors [B, D] of the queries, and which rows [B] are searches; without queries none is."""
    words = batch.get("query_word")
    if not config.queries or words is None:
      count = len(batch["user_id"])
      return jnp.zeros((count, width)), jnp.zeros(count, bool)
    return query_vector(variables, words), jnp.any(words != 0, axis=-1)

  def pair_demands(variables, found, of_user, items):
    """Generated demands [..., D] of items [...]; zero without queries."""
    if not config.queries:
      return jnp.zeros((*items.shape, width))
    return demands(variables, of_user, found["of_item"][items], found["item_words"][items])

  def draw(variables, batch, key):
    drawn = draw_unseen(variables["statistics"]["pairs"], batch["user_id"], key, size)
    return {**batch, "negative_item": drawn}

  def loss(variables, batch, key):
    del key
    found = vectors(variables)
    users, items = batch["user_id"], jnp.stack([batch["target_item"], batch["negative_item"]], axis=1)
    weight = jnp.all(items != 0, axis=1).astype(jnp.float32)
    user, item = found["user"][users][:, None], take(found["item"], items)
    query, searches = query_of(variables, batch)
    of_user = found["of_user"][users][:, None] if config.queries else None
    generated = pair_demands(variables, found, of_user, items)
    score = apply(
      variables, "score", user, item, query[:, None], generated, searches[:, None]
    )
    total, added = jnp.sum(weight), lambda values: jnp.sum(weight * values)
    margin = score[:, 0] - score[:, 1]
    value = added(jax.nn.softplus(-margin))
    metrics = {"bpr": (value, total), "accuracy": (added(margin > 0), total)}
    if config.queries:
      missed = jnp.where(searches, jnp.mean(jnp.square(generated[:, 0] - query), axis=-1), 0.0)
      metrics["supervision"] = (added(missed), added(searches))
      demand = jnp.where(searches[:, None], query, generated[:, 0])
      distance = jnp.mean(jnp.square(user + demand[:, None] - item), axis=-1)
      contrast = added(jax.nn.softplus(distance[:, 0] - distance[:, 1]))
      metrics["contrast"] = (contrast, total)
      value += config.supervision * added(missed) + config.contrast * contrast
    return Objective(value, total, metrics)

  def encode_user(variables, batch):
    """What scores need of a user and a query, [B, F]: see `parts`."""
    found, users, mask = vectors(variables), batch["user_id"], batch["hist_mask"]
    items = jnp.where(mask, batch["hist_item"], 0)
    total = jnp.sum(take(found["stranger"], items), axis=1)
    length = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)[:, None]
    if config.queries and config.translation and config.layers:
      shift = pair_demands(variables, found, found["of_user"][jnp.zeros_like(users)][:, None], items)
      weights = sum(1.0 / (l + 1) for l in range(1, config.layers + 1))
      total -= weights * jnp.sum(jnp.where(mask[:, :, None], shift, 0.0), axis=1)
    indptr = variables["statistics"]["pairs"]["indptr"]
    known = indptr[users + 1] > indptr[users]
    user = jnp.where(known[:, None], found["user"][users], total / length)
    query, searches = query_of(variables, batch)
    state = [user, query, searches[:, None].astype(user.dtype)]
    if config.queries:
      state.append(found["of_user"][jnp.where(known, users, 0)])
    return jnp.concatenate(state, axis=-1)

  def parts(state):
    """The user's vector, the query's, whether it is a search, and what the generator needs."""
    user, query, searches, of_user = jnp.split(state, [width, 2 * width, 2 * width + 1], axis=-1)
    return user, query, searches[..., 0] > 0, of_user

  def score_pairs(variables, found, state, items):
    """Scores of items [...] for a state [..., F]."""
    user, query, searches, of_user = parts(state)
    generated = pair_demands(variables, found, of_user, items)
    return apply(variables, "score", user, take(found["item"], items), query, generated, searches)

  def score_items(variables, state, item_ids):
    """Scores [B, n] of the items [n] for what encode_user gave."""
    found = vectors(variables)
    one = lambda item: score_pairs(variables, found, state, item[None])
    return jax.lax.map(one, item_ids, batch_size=min(_ITEMS, len(item_ids))).T

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    found, targets = vectors(variables), batch["target_item"]
    state = encode_user({**variables, "propagated": found}, batch)
    each = score_pairs(variables, found, state[:, None], targets.reshape(len(targets), -1))
    return each.reshape(targets.shape)

  def demand_cosine(variables, batch):
    """Cosine [B] of the demand generated for target_item [B] with the query, and which are searches."""
    found = vectors(variables)
    query, searches = query_of(variables, batch)
    generated = pair_demands(
      variables, found, found["of_user"][batch["user_id"]], batch["target_item"]
    )
    unit = lambda x: x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))
    return jnp.sum(unit(generated) * unit(query), axis=-1), searches.astype(jnp.float32)

  predict = {
    "encode_user": encode_user, "score_items": score_items, "score": score,
    "prepare": lambda variables: {**variables, "propagated": propagate(variables)},
  }
  if config.queries:
    predict["demand_cosine"] = demand_cosine
  return Learner(
    schema.extend(negative_item=Field("ids", (), "item")), tables, init, loss, predict, draw,
    whole_tables=names,
  )


def _fill(ids: jax.Array, rows: int) -> jax.Array:
  """Ids [V, T] with rows of padding behind up to `rows`, as tables may have."""
  return jnp.pad(ids, ((0, rows - len(ids)), (0, 0)))
