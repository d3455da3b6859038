"""IDNP: Interest Dynamics Modeling using Generative Neural Processes for Sequential Recommendation.
Du, Ye, Yao, Guo and Yu, WSDM 2023, arXiv 2208.04600.

A user's interest is a function of time, observed at events n: time x_n, window X_n of the L items
before, label y_n. A few observations, the contexts C, tell the function at the query (x_q, X_q).

    H_0 = E[X];  H_m = NextItNet block(H_{m-1}), dilations d_m and 2 d_m        causal, m = 1 .. M
    s_m = sum_l softmax_l(w_a . tanh(W_a h_l)) h_l,  r = sum_m softmax_m(w_s . tanh(W_s s_m)) s_m
    code(t) = ReLU(Dense([sin 2 pi f t, cos 2 pi f t])),  f = 1/2 .. 4, t relative to x_q
    h_c = MLP([r_c, E[y_c], code(x_c - x_q)])                                   context tokens
    r_d = sum_c softmax_c(W_q [code(0), r_q] . W_k [code_c, r_c] / sqrt(d)) V h_c
    z ~ N(mu, sigma^2)(mean_c h'_c);  prior q(z | C), posterior q(z | C and the target)
    d_q = MLP([r_d, z, r_q, code(x_q - x_last)]),  score_j = W_out[j] . [d_q, e_u] + b_j
    loss = mean over targets of -log p(y_q) + lambda distance(posterior, prior)

Training samples z from the prior, predictions take its mean. The network is in `_idnp_network`, its
blocks in `nn.neural_process`, `nn.convolution` and `nn.pooling`; sets are drawn by `_function_sets`.

Where we depart from the paper, and why. No code of the authors was found, and what could be read of
the paper is its abstract, its overview figure and summaries by others; forms of encoder, attention,
widths and rates are ours, after Attentive Neural Processes, NextItNet and Caser.
- The paper divides a sequence at random into contexts and targets. Windows overlap, so a later
  context holds the answer of an earlier target: such pairs are masked, and by default contexts come
  before their target, as when predicting. causal=False keeps the random division, with the mask.
- Times are relative to the query. Absolute ones (time="absolute") do not carry over to later times.
- distance="w2" is the Wasserstein distance of the two latents. The wording also fits a distance of
  reconstructed and observed interest, which is "function": |d_q - r of the window that ends in y_q|^2.
- z is drawn for each target, from the contexts which that target may have. A neural process trains
  with z of the posterior; here that holds the answer to one target, and W2 at a weight that lets z be
  of use does not stop it from being copied. latent_source="posterior" does so all the same; it wants
  distance="kl" and a weight of 1.
- Softmax over all items is the default loss; "bce" with 3 negatives is Caser's. A negative that the
  row contains is left out of the sum instead of being drawn again.
- output="items" scores with E instead of a W_out of its own, so that few events teach one vector of an
  item instead of two; e_u is then added to d_q.
- lambda grows linearly over the first `warmup_rows` rows. There is no penalty on the parameters.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.losses.softmax import full_softmax
from recjax.models.learner import Learner, Objective
from recjax.models.retrieval._function_sets import draw_sets, newest_contexts
from recjax.models.retrieval._idnp_network import IDNP, Queries, pick, query_time_of
from recjax.models.retrieval._next_item import require
from recjax.nn import neural_process as process
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown

LOSSES = ("full_softmax", "bce")
DISTANCES = ("w2", "kl", "function")
TIMES = ("relative", "absolute", "none")
USERS = ("table", "zero")
OUTPUTS = ("own", "items")
SOURCES = ("prior", "posterior")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the longest history is that of the data."""

  name: str = "idnp"
  width: Positive = 64  # D, of the item table and every layer
  latent_width: Positive = 32  # of z
  window: Positive = 5  # L, items before an event that say what the interest is just then
  kernel: Positive = 3  # of the convolutions
  dilations: tuple[Positive, ...] = (1, 2)  # d_m; a block has d_m and 2 d_m
  dilated: bool = True  # False: every convolution has dilation 1
  attention: bool = True  # over time and scales; False: last position of the last block
  deterministic: bool = True  # the path that gives r_d
  latent: bool = True  # the path that gives z
  heads: Positive = 4  # of the deterministic path; must divide width
  query_aware: bool = True  # its attention also compares r_q with r_c
  context_label: bool = True  # tokens hold the item that followed the window
  time: str = "relative"  # relative | absolute | none: what codes know of times
  user_embedding: str = "table"  # table | zero, for users who are not known in training
  output: str = "own"  # own | items: what scores; items: E itself, against d_q + e_u
  causal: bool = True  # contexts come before their target; False: any that do not hold the answer
  contexts_min: Count = 1  # observations in a context set, drawn between these two; predictions use
  contexts_max: Count = 8  # the newest contexts_max
  targets: Positive = 4  # T, targets drawn of each row
  least_before: Count = 2  # events that must come before a target
  loss: str = "full_softmax"  # full_softmax | bce
  negatives: Positive = 3  # of bce, for each target
  latent_source: str = "prior"  # prior | posterior: where training takes z from
  distance: str = "w2"  # w2 | kl | function
  distance_weight: Weight = 0.1  # lambda
  warmup_rows: Count = 50_000  # rows over which lambda grows to this; 0 = from the start
  dropout: Rate = 0.2  # of interests and in the decoder
  samples: Positive = 10  # of z, for the uncertainty of a prediction


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads hist_item, hist_time, hist_mask and hist_asked [B, P], and user_id [B].

  `predict` reads query_time [B] besides, and has `uncertainty`, see there. Raises ConfigError for
  unknown options, bounds that are no bounds, and missing fields.
  """
  del counts
  _check(config, schema)
  length = schema.fields["hist_item"].shape[0]
  size = schema.vocabularies["item"]
  width, latent = config.width, config.latent_width
  known, own = config.user_embedding == "table", config.output == "own"
  module = IDNP(config)
  tables = {
    "item": TableSpec("item", width, 1.0 / width),
    "bias": TableSpec("item", 1, 0.0),
  }
  scoring = "output" if own else "item"
  if own:
    tables["output"] = TableSpec("item", (1 + known) * width, 0.5 / width)
  if known:
    tables["user"] = TableSpec("user", width, 1.0 / width)

  def ask(batch):
    """The queries of drawn targets."""
    index = batch["target_index"]
    times = pick(batch["hist_time"][..., None], index)[..., 0]
    label = pick(batch["hist_item"][..., None], index)[..., 0]
    return Queries(index, times, batch["pair_mask"], label)

  def init(key, tables, batch):
    return {
      **module.init(key, tables, batch, ask(batch), None, train=False),
      "schedule": {"rows": jnp.zeros((), jnp.float32)},
    }

  def apply(variables, *args, **options):
    return module.apply({"params": variables["params"]}, variables["tables"], *args, **options)

  def state_of(variables, batch, d_q):
    """[d_q, e_u, 1] or [d_q + e_u, 1], whose products with `encode_items` are scores; d_q [B, T, D]."""
    parts = [d_q]
    if known:
      user = take(variables["tables"]["user"], batch["user_id"])[:, None]
      user = jnp.broadcast_to(user, (*d_q.shape[:2], width))
      parts = [d_q, user] if own else [d_q + user]
    return jnp.concatenate([*parts, jnp.ones((*d_q.shape[:2], 1), d_q.dtype)], axis=-1)

  def encode_items(variables, item_ids):
    """Vectors [n, ...] whose dot products with encode_user are the scores."""
    rows = variables["tables"]
    return jnp.concatenate([take(rows[scoring], item_ids), take(rows["bias"], item_ids)], axis=-1)

  def draw(variables, batch, key):
    of_sets, of_noise, of_negatives = jax.random.split(key, 3)
    sets = draw_sets(
      of_sets,
      batch["hist_mask"],
      batch["hist_asked"],
      targets=config.targets,
      contexts=(config.contexts_min, config.contexts_max),
      least_before=config.least_before,
      window=config.window,
      causal=config.causal,
    )
    rows = len(batch["hist_item"])
    grown = 1.0
    if config.warmup_rows:
      grown = jnp.minimum(variables["schedule"]["rows"] / config.warmup_rows, 1.0)
    batch = {
      **batch,
      **sets,
      "noise": jax.random.normal(of_noise, (rows, config.targets, latent)),
      "distance_weight": jnp.full((rows,), config.distance_weight, jnp.float32) * grown,
    }
    if config.loss == "bce":
      shape = (rows, config.targets, config.negatives)
      ids = jax.random.randint(of_negatives, shape, 1, size, jnp.int32)
      own = jnp.any(ids[..., None] == batch["hist_item"][:, None, None], axis=-1)
      batch["negative_item"] = jnp.where(own, 0, ids)
    return batch

  def loss(variables, batch, key):
    queries, real = ask(batch), batch["target_mask"]
    noise = batch["noise"] if config.latent else None
    found = apply(variables, batch, queries, noise, train=True, rngs={"dropout": key})
    weight = real.astype(jnp.float32)
    total = jnp.sum(weight)
    state = state_of(variables, batch, found.state)
    metrics = {}
    if config.loss == "full_softmax":
      rows = variables["tables"]
      value, hits = full_softmax(
        state.reshape(-1, state.shape[-1]),
        jnp.concatenate([rows[scoring], rows["bias"]], axis=-1),
        queries.label.reshape(-1),
        weight.reshape(-1),
        num_items=size - 1,
      )
      metrics["accuracy"] = (hits, total)
    else:
      ids = jnp.concatenate([queries.label[..., None], batch["negative_item"]], axis=-1)
      logits = jnp.einsum("btd,btnd->btn", state, encode_items(variables, ids))
      right = jnp.arange(ids.shape[-1]) == 0
      labels = jnp.broadcast_to(right[None, None], ids.shape).astype(jnp.float32)
      value, _ = binary_cross_entropy(
        logits, labels, weight[..., None] * (ids != 0).astype(jnp.float32)
      )
    metrics["likelihood_loss"] = (value, total)
    distance, health = _distance(config, found, weight, total)
    value = value + jnp.sum(distance * batch["distance_weight"][:, None])
    if found.attention is not None:
      entropy = jnp.mean(process.attention_entropy(found.attention), axis=-1)
      health["context_entropy"] = (jnp.sum(entropy * weight), total)
    empty = real & ~jnp.any(queries.contexts, axis=-1)
    health["empty_contexts"] = (jnp.sum(empty.astype(jnp.float32)), total)
    rows = variables["schedule"]["rows"] + len(real)
    return Objective(value, total, {**metrics, **health}, {"schedule": {"rows": rows}})

  def answer(variables, batch, noise):
    """State [B, W] at the moment asked for, from the newest contexts."""
    mask = batch["hist_mask"]
    now = jnp.full((len(mask), 1), length, jnp.int32)
    contexts = newest_contexts(mask, config.contexts_max)
    queries = Queries(now, query_time_of(batch)[:, None], contexts)
    found = apply(variables, batch, queries, noise, train=False)
    return state_of(variables, batch, found.state)[:, 0]

  def encode_user(variables, batch):
    """State [B, W] of each user at query_time, with the mean of the prior for z."""
    return answer(variables, batch, None)

  def score_items(variables, state, item_ids):
    """Scores [B, n] of the items [n] for the states [B, W] of encode_user."""
    return state @ encode_items(variables, item_ids).T

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    targets = batch["target_item"]
    vectors = encode_items(variables, targets.reshape(len(targets), -1))
    logits = jnp.einsum("bd,bcd->bc", encode_user(variables, batch), vectors)
    return logits.reshape(targets.shape)

  def uncertainty(variables, batch, item_ids, key):
    """Mean and deviation [B, n] of the scores of item_ids [n], over draws of z from the prior."""
    if not config.latent:
      raise ConfigError("Without the latent path (latent=False) a prediction has no uncertainty.")
    shape = (config.samples, len(batch["hist_mask"]), 1, latent)
    states = jax.vmap(lambda noise: answer(variables, batch, noise))(jax.random.normal(key, shape))
    centre = jnp.mean(states, axis=0)
    add = lambda total, state: (total + score_items(variables, state - centre, item_ids) ** 2, None)
    zero = jnp.zeros((states.shape[1], len(item_ids)), jnp.float32)
    squares, _ = jax.lax.scan(add, zero, states)
    return score_items(variables, centre, item_ids), jnp.sqrt(squares / config.samples)

  drawn = {
    "target_index": Field("ids", (config.targets,)),
    "target_mask": Field("mask", (config.targets,)),
    "pair_mask": Field("mask", (config.targets, length)),
    "noise": Field("float", (config.targets, latent)),
    "distance_weight": Field("float"),
  }
  if config.loss == "bce":
    drawn["negative_item"] = Field("ids", (config.targets, config.negatives), "item")
  predict = {
    "encode_user": encode_user,
    "encode_items": encode_items,
    "score_items": score_items,
    "score": score,
    "uncertainty": uncertainty,
  }
  whole = (scoring, "bias") if config.loss == "full_softmax" else ()
  return Learner(schema.extend(**drawn), tables, init, loss, predict, draw, whole_tables=whole)


def _distance(config, found, weight, total):
  """Distance of what is believed with and without the answer, [B, T], and metrics of its health."""
  weigh = lambda values: (jnp.sum(values * weight), total)
  health, distances = {}, {}
  if found.prior is not None:
    between = (*found.posterior, *found.prior)
    distances = {"w2": process.wasserstein(*between), "kl": process.gaussian_kl(*between)}
    health = {name: weigh(value) for name, value in distances.items()}
    for name, (_, deviation) in (("prior", found.prior), ("posterior", found.posterior)):
      health[f"{name}_deviation"] = weigh(jnp.mean(deviation, axis=-1))
  if config.distance == "function":
    gap = found.state - jax.lax.stop_gradient(found.observed)
    distances["function"] = jnp.mean(gap**2, axis=-1)
    health["function"] = weigh(distances["function"])
  chosen = distances.get(config.distance)
  return (jnp.zeros_like(weight) if chosen is None else chosen * weight), health


def _check(config, schema):
  """Raises ConfigError for options and fields that cannot work."""
  for kind, name, known in (
    ("loss", config.loss, LOSSES),
    ("distance", config.distance, DISTANCES),
    ("time", config.time, TIMES),
    ("user_embedding", config.user_embedding, USERS),
    ("output", config.output, OUTPUTS),
    ("latent_source", config.latent_source, SOURCES),
  ):
    if name not in known:
      raise ConfigError(unknown(kind, name, known))
  require(schema, "user_id", "hist_item", "hist_time", "hist_mask", "hist_asked")
  process.AttentivePath(config.width, config.heads)  # refuses heads that cannot share the width
  length = schema.fields["hist_item"].shape[0]
  if config.contexts_min > config.contexts_max:
    raise ConfigError(
      "idnp needs contexts_min <= contexts_max, not "
      f"{config.contexts_min} and {config.contexts_max}."
    )
  if config.targets > length:
    raise ConfigError(f"Of rows of {length} events, 1 to {length} are targets, not {config.targets}.")
  if not config.dilations:
    raise ConfigError("idnp needs dilations, one for each block of its encoder.")
