"""From the states of a causal sequence encoder to a learner that predicts the next item.

An encoder is a linen module

    encoder(tables, batch, train, newest) -> [B, L, D], zero at padding

whose state at a position depends on nothing later; with a number as `newest` it gives the states of
the last so many positions alone, as cheaply as it can. Scores are its dot products with the rows of the
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
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.losses.softmax import full_softmax, sampled_softmax
from recjax.models.learner import Learner, Objective
from recjax.models.retrieval._negatives import Negatives, shared_fields
from recjax.models.retrieval._vectors import predictions
from recjax.nn.by_length import by_length
from recjax.nn.tables import TableSpec, take
from recjax.registry import unknown

LOSSES = ("full_softmax", "sampled_softmax", "bce")


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
    sampling: one of `_negatives.SAMPLINGS`, the distribution that negatives come from.
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
  if loss == "sampled_softmax" and negatives < 1:
    raise ConfigError(f"sampled_softmax needs at least one negative, not {negatives}.")
  if groups < 1:
    raise ConfigError(f"A batch is trained in at least one group of rows, not {groups}.")
  require_every_target(schema)
  size = schema.vocabularies["item"]
  drawing = Negatives(size, sampling, counts)

  def init(key, tables, batch):
    variables = encoder.init(key, tables, batch, train=False)
    statistics = {} if loss == "full_softmax" else drawing.statistics()
    return {**variables, "statistics": statistics} if statistics else variables

  def encode_positions(variables, batch, key):
    params = {"params": variables["params"]}
    return encoder.apply(params, variables["tables"], batch, train=True, rngs={"dropout": key})

  def encode_in_groups(variables, batch, key):
    mask = batch["hist_mask"]
    vectors = take(variables["tables"]["item"], jnp.where(mask, batch["hist_item"], 0))

    def encode(vectors, mask, key):
      # A table of a row for each position: gradients of the whole one would be added up by group.
      ids = jnp.where(mask, 1 + jnp.arange(mask.size, dtype=jnp.int32).reshape(mask.shape), 0)
      own = vectors.reshape(-1, vectors.shape[-1])
      own = {"item": jnp.concatenate([jnp.zeros_like(own[:1]), own])}
      rows = {"hist_item": ids, "hist_mask": mask}
      return encode_positions({**variables, "tables": own}, rows, key)

    return by_length(encode, vectors, mask, key, groups)

  def draw_shared(variables, batch, key):
    return drawing.draw_shared(variables, batch, key, negatives)

  def draw_one_each(variables, batch, key):
    ids = drawing.sample(variables, key, batch["target_item"].shape)
    own = jnp.any(ids[:, :, None] == batch["hist_item"][:, None, :], axis=-1)
    own |= jnp.any(ids[:, :, None] == batch["target_item"][:, None, :], axis=-1)
    return {**batch, "negative_item": jnp.where(own, 0, ids)}

  def objective(variables, batch, key):
    if groups == 1:
      hidden = encode_positions(variables, batch, key)
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
    params = {"params": variables["params"]}
    return encoder.apply(params, variables["tables"], batch, train=False, newest=1)[:, 0]

  drawn, draw = {}, None
  if loss == "sampled_softmax":
    drawn = shared_fields(negatives, schema.fields["target_item"])
    draw = draw_shared
  elif loss == "bce":
    drawn = {"negative_item": Field("ids", schema.fields["target_item"].shape, "item")}
    draw = draw_one_each
  whole = ("item",) if loss == "full_softmax" else ()
  return Learner(
    schema.extend(**drawn), {"item": table}, init, objective, predictions(encode_user), draw,
    whole_tables=whole,
  )


def require_every_target(schema: Schema) -> None:
  """Raises ConfigError unless rows have a history and a target at every position."""
  require(schema, "hist_item", "hist_mask", "target_item")
  if schema.fields["target_item"].shape != schema.fields["hist_item"].shape:
    raise ConfigError(
      "The model predicts the next item at every position, and the batch has one target a row: take "
      "the view 'next_item'."
    )


def require(schema: Schema, *names: str) -> None:
  """Raises ConfigError unless the schema has all the fields `names`."""
  missing = [name for name in names if name not in schema.fields]
  if missing:
    raise ConfigError(
      f"The batch lacks {', '.join(map(repr, missing))}; it has {', '.join(sorted(schema.fields))}."
    )
