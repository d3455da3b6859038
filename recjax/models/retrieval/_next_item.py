"""From the states of a causal sequence encoder to a learner that predicts the next item.

An encoder is a linen module

    encoder(tables, batch, train) -> [B, L, D], zero at padding

whose state at a position depends on nothing later. Scores are its dot products with the rows of the
item table, which also feed the encoder. Three losses, named as in the papers that compare them:

- full_softmax: cross-entropy over every item. Needs every row of the table in every step.
- sampled_softmax: cross-entropy over the target and K drawn items that the whole batch shares, with
  the log-q correction of `losses.softmax.sampled_softmax`: K p for a draw and, for the target, the
  probability 1 - exp(-K p) that K draws hold it. Correcting the draws alone is unbiased but, with
  popularity sampling, so noisy that rare draws drown the targets.
- bce: one drawn negative per position, -log s(positive) - log(1 - s(negative)); a negative that the
  row contains anywhere is left out of the sum instead of being drawn again.

The last two touch only rows that the batch names, so their tables can be trained row by row.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.losses.softmax import full_softmax, sampled_softmax
from recjax.models.learner import Learner, Objective
from recjax.nn.by_length import by_length
from recjax.nn.tables import TableSpec, take
from recjax.registry import unknown

LOSSES = ("full_softmax", "sampled_softmax", "bce")
SAMPLINGS = ("uniform", "popularity")


def build_next_item(
  encoder: nn.Module,
  table: TableSpec,
  schema: Schema,
  counts: Mapping[str, np.ndarray] | None,
  *,
  loss: str,
  negatives: int = 0,
  sampling: str = "uniform",
  padding_class: bool = False,
  groups: int = 1,
) -> Learner:
  """The learner of a causal encoder.

  Args:
    encoder: linen module as in the module's docstring.
    table: spec of the table `item`.
    schema: has hist_item, hist_mask and target_item.
    counts: training occurrences per id, int [V] for "item"; read by popularity sampling's init.
    loss: one of LOSSES.
    negatives: K of sampled_softmax.
    sampling: one of SAMPLINGS, the distribution that negatives come from.
    padding_class: whether full_softmax has one more class, whose logit is 0.
    groups: groups of rows of like length that a batch is trained in, each on as many positions as
      it fills (`nn.by_length`); 1 for all rows at once. The encoder then reads no fields but
      hist_item and hist_mask, and takes any number of newest positions.

  Raises:
    ConfigError: for an unknown option, K or groups below 1, from init for counts that are missing,
      and from loss for a batch that cannot be cut into the groups.
  """
  if loss not in LOSSES:
    raise ConfigError(unknown("loss", loss, LOSSES))
  if sampling not in SAMPLINGS:
    raise ConfigError(unknown("sampling", sampling, SAMPLINGS))
  if loss == "sampled_softmax" and negatives < 1:
    raise ConfigError(f"sampled_softmax needs at least one negative, not {negatives}.")
  if groups < 1:
    raise ConfigError(f"A batch is trained in at least one group of rows, not {groups}.")
  require(schema, "hist_item", "hist_mask", "target_item")
  if schema.fields["target_item"].shape != schema.fields["hist_item"].shape:
    raise ConfigError(
      "The model predicts the next item at every position, and the batch has one target a row: take "
      "the view 'next_item'."
    )
  size = schema.vocabularies["item"]
  by_popularity = sampling == "popularity" and loss != "full_softmax"

  def init(key, tables, batch):
    variables = encoder.init(key, tables, batch, train=False)
    if by_popularity:
      variables = {**variables, "statistics": {"cumulative_count": _cumulative(counts, size)}}
    return variables

  def encode_positions(variables, batch, train=False, key=None):
    rngs = {"dropout": key} if train else None
    params = {"params": variables["params"]}
    return encoder.apply(params, variables["tables"], batch, train=train, rngs=rngs)

  def encode_in_groups(variables, batch, key):
    mask = batch["hist_mask"]
    vectors = take(variables["tables"]["item"], jnp.where(mask, batch["hist_item"], 0))

    def encode(vectors, mask, key):
      # A table of a row for each position: gradients of the whole one would be added up by group.
      ids = jnp.where(mask, 1 + jnp.arange(mask.size, dtype=jnp.int32).reshape(mask.shape), 0)
      own = vectors.reshape(-1, vectors.shape[-1])
      own = {"item": jnp.concatenate([jnp.zeros_like(own[:1]), own])}
      rows = {"hist_item": ids, "hist_mask": mask}
      return encode_positions({**variables, "tables": own}, rows, train=True, key=key)

    return by_length(encode, vectors, mask, key, groups)

  def sample(variables, key, shape):
    """Drawn ids of `shape`."""
    if not by_popularity:
      return jax.random.randint(key, shape, 1, size, jnp.int32)
    cumulative = variables["statistics"]["cumulative_count"]
    ticket = jax.random.randint(key, shape, 0, cumulative[-1], jnp.int32)
    return jnp.searchsorted(cumulative, ticket, side="right").astype(jnp.int32)

  def expected_count(variables, ids):
    """How often K draws hold each of ids on average, float32; an item never seen counts as once."""
    if not by_popularity:
      return jnp.full(ids.shape, negatives / (size - 1), jnp.float32)
    cumulative = variables["statistics"]["cumulative_count"]
    count = jnp.maximum(cumulative[ids] - cumulative[jnp.maximum(ids - 1, 0)], 1)
    return count.astype(jnp.float32) * (negatives / cumulative[-1].astype(jnp.float32))

  def draw_shared(variables, batch, key):
    ids = sample(variables, key, (1, negatives))
    present = -jnp.expm1(-expected_count(variables, batch["target_item"]))
    return {
      **batch,
      "negative_item": ids,
      "negative_log_q": jnp.log(expected_count(variables, ids)),
      "target_log_q": jnp.log(present),
    }

  def draw_one_each(variables, batch, key):
    ids = sample(variables, key, batch["target_item"].shape)
    own = jnp.any(ids[:, :, None] == batch["hist_item"][:, None, :], axis=-1)
    own |= jnp.any(ids[:, :, None] == batch["target_item"][:, None, :], axis=-1)
    return {**batch, "negative_item": jnp.where(own, 0, ids)}

  def objective(variables, batch, key):
    if groups == 1:
      hidden = encode_positions(variables, batch, train=True, key=key)
    else:
      hidden = encode_in_groups(variables, batch, key)
    rows = variables["tables"]["item"]
    targets = batch["target_item"]
    weights = ((targets != 0) & batch["hist_mask"]).astype(jnp.float32)
    total = jnp.sum(weights)
    if loss == "bce":
      negative_item = batch["negative_item"]
      pairs = (
        (targets, weights, jnp.ones_like(weights)),
        (
          negative_item,
          weights * (negative_item != 0).astype(jnp.float32),
          jnp.zeros_like(weights),
        ),
      )
      parts = [
        binary_cross_entropy(jnp.sum(hidden * take(rows, ids), axis=-1), labels, weight)[0]
        for ids, weight, labels in pairs
      ]
      return Objective(parts[0] + parts[1], total)
    queries = hidden.reshape(-1, hidden.shape[-1])
    targets, weights = targets.reshape(-1), weights.reshape(-1)
    if loss == "sampled_softmax":
      negative_item = batch["negative_item"][0]
      value = sampled_softmax(
        queries,
        take(rows, targets),
        take(rows, negative_item),
        targets,
        negative_item,
        batch["target_log_q"].reshape(-1),
        batch["negative_log_q"][0],
        weights,
      )
      return Objective(value, total)
    value, hits = full_softmax(
      queries, rows, targets, weights, num_items=size - 1, padding=padding_class
    )
    return Objective(value, total, {"accuracy": (hits, total)})

  def encode_user(variables, batch):
    """Interest of each history, [B, D]; exactly zero for an empty one."""
    return encode_positions(variables, batch)[:, -1]

  def encode_items(variables, item_ids):
    """Vectors [n, D] whose dot products with encode_user are the scores."""
    return take(variables["tables"]["item"], item_ids)

  def score_items(variables, state, item_ids):
    """Scores [B, n] of the items [n] for the states [B, D] of encode_user."""
    return state @ encode_items(variables, item_ids).T

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    state, targets = encode_user(variables, batch), batch["target_item"]
    vectors = encode_items(variables, targets)
    if targets.ndim == 1:
      return jnp.sum(state * vectors, axis=-1)
    return jnp.einsum("bd,bcd->bc", state, vectors)

  drawn, draw = {}, None
  if loss == "sampled_softmax":
    # The negatives are shared by the batch, hence have a batch axis of one.
    drawn = {
      "negative_item": Field("ids", (negatives,), "item"),
      "negative_log_q": Field("float", (negatives,)),
      "target_log_q": Field("float", schema.fields["target_item"].shape),
    }
    draw = draw_shared
  elif loss == "bce":
    drawn = {"negative_item": Field("ids", schema.fields["target_item"].shape, "item")}
    draw = draw_one_each
  predict = {
    "encode_user": encode_user,
    "encode_items": encode_items,
    "score_items": score_items,
    "score": score,
  }
  whole = ("item",) if loss == "full_softmax" else ()
  return Learner(
    schema.extend(**drawn), {"item": table}, init, objective, predict, draw, whole_tables=whole
  )


def require(schema: Schema, *names: str) -> None:
  """Raises ConfigError unless the schema has all the fields `names`."""
  missing = [name for name in names if name not in schema.fields]
  if missing:
    raise ConfigError(
      f"The batch lacks {', '.join(map(repr, missing))}; it has {', '.join(sorted(schema.fields))}."
    )


def _cumulative(counts, size):
  """Cumulative training counts int32 [V]; entry 0, of padding, is zero."""
  if counts is None or "item" not in counts:
    raise ConfigError("sampling='popularity' needs the training counts of the items.")
  count = np.asarray(counts["item"], np.int64).copy()
  count[0] = 0
  total = np.cumsum(count)
  if count.shape != (size,) or not 0 < total[-1] < 2**31:
    raise ConfigError(
      f"sampling='popularity' needs {size} item counts with a sum between 1 and 2^31, not "
      f"{len(count)} counts with the sum {total[-1]}."
    )
  return jnp.asarray(total, jnp.int32)
