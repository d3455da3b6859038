"""FairRec: Fairness-aware News Recommendation with Decomposed Adversarial Learning. Wu, Wu, Wang, Huang
and Xie, AAAI 2021, arXiv 2006.16742.

    e = news encoder,  H = e of the clicked news
    u^b, u^d = two encoders of H with parameters of their own       bias-aware, bias-free
    training  y_j = (u^b + u^d) . e_j,     ranking  y_j = u^d . e_j
    L_R = -log softmax(y)_0 over the news clicked and K others of its session
    L_G = CE(W^b u^b + b^b, z),  L_A = CE(discriminator(u^d), z),  L_D = |cos(u^b, u^d)|
    L   = L_R + lambda_G L_G + lambda_D L_D - lambda_A L_A;  the discriminator descends L_A

The encoders are those of NRMS (Wu et al., EMNLP 2019): multi-head self-attention over words, and over
clicked news, each pooled by additive attention. Where `adversary` is alternating, a step trains the
discriminator `discriminator_steps` times by an Adam of its own, in the collection `adversary`, and then
the model against it; with reversal it is a parameter like others behind `nn.gradient_reversal`.

Where we depart from the paper, and why:
- No code of the authors was found. Widths, dropout and K are those of the group's ProFairRec; history
  and title lengths are the view's; weights lambda are not published, ours are measured in our world.
- The discriminator sees u^d scaled to the length `input_length`. The reward -lambda_A L_A has no bound,
  and a longer vector raises it without hiding anything; 0 gives it u^d as it is.
- A news vector is a table's row by default, or a linear map of a given content vector; "words" is the
  paper's. `heads` 0 leaves the self-attention of users out, `user_output` adds a linear layer.
- L_D is 0 where a vector is zero. A user whose attribute is unknown adds nothing to L_G and L_A, and
  every term is a sum over sessions divided by their number, known attribute or not, so that parts of a
  batch add up.
- With micro-batches the discriminator learns on each of them.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner, Objective
from recjax.models.ranking import _opponent
from recjax.models.ranking._fairrec_network import (
  AttributeHead,
  NewsEncoder,
  UserEncoder,
  cosine,
  of_length,
)
from recjax.nn.gradient_reversal import reverse_gradient
from recjax.nn.tables import TableSpec, take
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown

NEWS = ("items", "vectors", "words")
ADVERSARIES = ("alternating", "reversal")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; widths are those of ProFairRec's code."""

  name: str = "fairrec"
  # items (a table's rows) | vectors (an item column of them, mapped) | words (of titles, as in NRMS).
  news: str = "items"
  column: str = "vector"  # item column that holds the vectors of news=vectors
  width: Positive = 400  # of news and users
  word_width: Positive = 300  # of words
  heads: Count = 20  # of self-attention, which must divide width; 0 for none among clicked news
  query: Positive = 200  # hidden width of additive attention
  user_output: bool = False  # a linear layer on each user vector
  dropout: Rate = 0.2  # of news inputs and after self-attention
  stddev: Weight = 0.05  # of initial table rows
  bias_aware: bool = True  # whether there is a bias-aware user vector; without one u = u^d
  lambda_predict: Weight = 0.5  # lambda_G, of predicting the attribute from u^b
  lambda_orthogonal: Weight = 0.5  # lambda_D, of |cos|
  lambda_adversary: Weight = 0.5  # lambda_A, of the adversary
  adversary: str = "alternating"  # alternating | reversal
  discriminator_hidden: Count = 0  # of a tanh layer; 0 = linear, as in the paper
  discriminator_steps: Positive = 3  # alternating: updates of the discriminator in a step
  discriminator_rate: Weight = 1e-3  # alternating: learning rate of its Adam
  input_length: Weight = 4.0  # of what the discriminator sees; 0 = u^d as it is


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads hist_item, hist_mask [B, L], target_item [B, 1 + K] and attribute [B].

  The first target is the one clicked. `attribute` is 0 where it is unknown; serving never reads it.
  Vectors and words of items are columns of `counts` (`data.counts.TrainingCounts`).

  Raises:
    ConfigError: for settings that cannot work, missing fields or (from init) missing item columns.
  """
  _check(config, schema)
  against = config.lambda_adversary > 0
  alternating = against and config.adversary == "alternating"
  classes = schema.vocabularies.get("attribute", 1) - 1
  parts, discriminator = _parts(config, classes)
  tables = {
    "items": {"item": TableSpec("item", config.width, config.stddev)},
    "vectors": {},
    "words": {"word": TableSpec("word", config.word_width, config.stddev)},
  }[config.news]

  def inputs(variables, ids):
    """What the news encoder gets for ids [...]: inputs, and their mask where they are words."""
    if config.news == "items":
      return take(variables["tables"]["item"], ids), None
    column = variables["statistics"][config.news]
    if config.news == "vectors":
      return take(column, ids), None
    words = take(column, ids)
    return take(variables["tables"]["word"], words), words != 0

  def encode(variables, name, *args, key=None):
    """What one of the encoders makes of its inputs; it drops out where there is a key."""
    rngs = None if key is None else {"dropout": key}
    params = {"params": variables["params"][name]}
    return parts[name].apply(params, *args, train=key is not None, rngs=rngs)

  def news(variables, ids, key=None):
    """Vectors [..., D] of news [...]."""
    return encode(variables, "news", *inputs(variables, ids), key=key)

  def user(variables, name, batch):
    """Vectors [B, D] of users by one of the encoders."""
    mask = batch["hist_mask"]
    clicked = news(variables, jnp.where(mask, batch["hist_item"], 0))
    return encode(variables, name, clicked, mask)

  def init(key, tables, batch):
    variables = {"params": {}, "tables": tables}
    if config.news != "items":
      variables["statistics"] = {config.news: jnp.asarray(_item_column(config, schema, counts))}
    someone = jnp.zeros((1, config.width))
    clicked = (jnp.zeros((*batch["hist_item"].shape, config.width)), batch["hist_mask"])
    examples = {"news": inputs(variables, batch["hist_item"]), "predictor": (someone,)}
    for i, name in enumerate(parts):
      options = {} if name == "predictor" else {"train": False}
      own = jax.random.fold_in(key, i)
      made = parts[name].init(own, *examples.get(name, clicked), **options)
      variables["params"][name] = made.get("params", {})
    if against:
      made = discriminator.init(jax.random.fold_in(key, len(parts)), someone)["params"]
      if alternating:
        variables["adversary"] = _opponent.start(made)
      else:
        variables["params"]["discriminator"] = made
    return {name: value for name, value in variables.items() if name != "tables"}

  def head(module, params, users, batch, known):
    """Sums of a head's cross-entropies on users [B, D] of known attribute [B], and of its hits."""
    logits = module.apply({"params": params}, users)
    label = jnp.maximum(batch["attribute"] - 1, 0)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    hits = (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
    return jnp.sum(each * known), jnp.sum(hits * known)

  def trained_adversary(variables, shown, batch, known):
    """The discriminator's collection after its updates on what it is shown [B, D]."""
    count = jnp.maximum(jnp.sum(known), 1.0)
    value = lambda params: head(discriminator, params, shown, batch, known)[0] / count
    return _opponent.descend(
      value, variables["adversary"], config.discriminator_steps, config.discriminator_rate
    )

  def loss(variables, batch, key):
    encode_key, free_key, aware_key = jax.random.split(key, 3)
    targets, mask = batch["target_item"], batch["hist_mask"]
    ids = jnp.concatenate([jnp.where(mask, batch["hist_item"], 0), targets], axis=1)
    vectors = news(variables, ids, encode_key)
    clicked, candidates = vectors[:, : mask.shape[1]], vectors[:, mask.shape[1] :]
    free = encode(variables, "bias_free", clicked, mask, key=free_key)
    state, aware = free, None
    if config.bias_aware:
      aware = encode(variables, "bias_aware", clicked, mask, key=aware_key)
      state = free + aware
    real = (targets[:, 0] != 0).astype(jnp.float32)
    logits = jnp.einsum("bd,bcd->bc", state, candidates)
    value, weight = jnp.sum(session_loss(logits, targets != 0) * real), jnp.sum(real)
    metrics, mutable = {"recommendation": (value, weight)}, {}
    known = None
    if "attribute" in batch:
      known = real * (batch["attribute"] != 0).astype(jnp.float32)
      total = jnp.sum(known)
    if "predictor" in parts:
      predicted, hits = head(parts["predictor"], variables["params"]["predictor"], aware, batch, known)
      value = value + config.lambda_predict * predicted
      metrics |= {"predictor_loss": (predicted, total), "predictor_accuracy": (hits, total)}
    if config.bias_aware:
      cosines = jnp.sum(jnp.abs(cosine(aware, free)) * real)
      value = value + config.lambda_orthogonal * cosines
      metrics["abs_cosine"] = (cosines, weight)
    if against:
      shown = of_length(free, config.input_length) if config.input_length else free
      if alternating:
        adversary = trained_adversary(variables, jax.lax.stop_gradient(shown), batch, known)
        mutable["adversary"] = adversary = jax.lax.stop_gradient(adversary)
        params = adversary["params"]
      else:
        shown = reverse_gradient(shown, config.lambda_adversary)
        params = variables["params"]["discriminator"]
      guessed, hits = head(discriminator, params, shown, batch, known)
      value = value + (-config.lambda_adversary if alternating else 1.0) * guessed
      metrics |= {"discriminator_loss": (guessed, total), "discriminator_accuracy": (hits, total)}
    return Objective(value, weight, metrics, mutable)

  def bias_free(variables, batch):
    """u^d [B, D]; zero for an empty history without `user_output`."""
    return user(variables, "bias_free", batch)

  def bias_aware(variables, batch):
    """u^b [B, D]; not used to rank."""
    return user(variables, "bias_aware", batch)

  def score_items(variables, state, ids):
    """Scores [B, n] of news [n] for users [B, D]."""
    return state @ news(variables, ids).T

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    targets = batch["target_item"]
    state = bias_free(variables, batch).reshape(len(targets), *(1,) * (targets.ndim - 1), -1)
    return jnp.sum(state * news(variables, targets), axis=-1)

  predict = {
    "encode_user": bias_free, "encode_items": news, "score_items": score_items, "score": score,
    "bias_free": bias_free,
  }
  if config.bias_aware:
    predict["bias_aware"] = bias_aware
  # Words stand behind ids in `statistics`, so a step cannot know which rows of theirs it needs.
  whole = ("word",) if config.news == "words" else ()
  return Learner(schema, tables, init, loss, predict, whole_tables=whole)


def session_loss(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """-log softmax of the first of logits [B, 1 + K] among those in mask [B, 1 + K]; [B]."""
  logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
  return jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]


def _parts(config: Config, classes: int) -> tuple[dict[str, nn.Module], AttributeHead]:
  """The model's parts by their names in `params`, and the discriminator."""
  encoder = lambda: UserEncoder(config.heads, config.query, config.user_output, config.dropout)
  parts = {
    "news": NewsEncoder(config.news, config.width, config.heads, config.query, config.dropout),
    "bias_free": encoder(),
  }
  if config.bias_aware:
    parts["bias_aware"] = encoder()
    if config.lambda_predict > 0:
      parts["predictor"] = AttributeHead(0, classes)
  return parts, AttributeHead(config.discriminator_hidden, classes)


def _check(config: Config, schema: Schema) -> None:
  """Raises ConfigError for settings that cannot work with these fields."""
  for kind, name, known in (
    ("news", config.news, NEWS), ("adversary", config.adversary, ADVERSARIES),
  ):
    if name not in known:
      raise ConfigError(unknown(kind, name, known))
  heads = config.heads
  if config.news == "words" and not heads:
    raise ConfigError("news='words' attends among words: heads must be at least 1.")
  if heads and config.width % heads:
    raise ConfigError(f"{heads} heads cannot share the width {config.width} evenly.")
  needed = ["hist_item", "hist_mask", "target_item"]
  uses = config.lambda_adversary > 0 or (config.bias_aware and config.lambda_predict > 0)
  missing = [name for name in needed if name not in schema.fields]
  if missing:
    raise ConfigError(f"The batch lacks {', '.join(map(repr, missing))}: take the view 'sessions'.")
  if uses and "attribute" not in schema.fields:
    raise ConfigError(
      "The batch lacks 'attribute': name a user column in view.attribute, or set lambda_predict and "
      "lambda_adversary to 0."
    )
  if len(schema.fields["target_item"].shape) != 1:
    raise ConfigError("FairRec trains on sessions, target_item [B, 1 + K]: take the view 'sessions'.")


def _item_column(config: Config, schema: Schema, counts) -> np.ndarray:
  """The item column that news are made of, [V, ...]; raises ConfigError where it cannot be used."""
  known = getattr(counts, "item_columns", {})
  name = config.column if config.news == "vectors" else "title_words"
  if name not in known:
    cure = "" if config.news == "vectors" else " Set view.words to the length of titles."
    raise ConfigError(unknown(f"item column for news={config.news!r}", name, known) + cure)
  column = np.asarray(known[name])
  size = schema.vocabularies["item"]
  if column.ndim != 2 or len(column) != size or column.dtype.kind not in "iuf":
    raise ConfigError(f"The item column {name!r} holds no vector for each of {size - 1} items.")
  finite = np.isfinite(column).all(axis=1)
  finite[0] = True
  if not finite.all():
    raise ConfigError(f"The item column {name!r} has no numbers for item {finite.argmin()}.")
  column = column.astype(np.int32 if config.news == "words" else np.float32)
  column[0] = 0
  return column
