"""From an extractor of several interests to a learner that predicts the one item of a row.

An extractor is a linen module

    extractor(tables, batch, train) -> [B, K, D], zero where a history is empty

Training reads out the interest that is nearest to the target (`nn.interests.read_out`), or with a
positive sharpness the interests' mean by nearness (`nn.interests.soft_read_out`), and scores with
that vector alone; predictions score with the best of all. Two losses, as in `_next_item`:

- sampled_softmax: cross-entropy over the target and drawn items that the whole batch shares. Touches
  only rows that the batch names.
- full_softmax: cross-entropy over every item.

A row without a history has no interests, and no weight in the loss. In training an extractor may sow
penalties of rows, [B], into the collection `penalties`, which are added to the rows' losses. An
`adjust` function may weigh rows anew by their interests, and add a penalty of the whole batch.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.softmax import full_softmax, sampled_softmax
from recjax.models.learner import Learner, Metrics, Objective, Variables
from recjax.models.retrieval._negatives import Negatives, shared_fields
from recjax.models.retrieval._next_item import require
from recjax.models.retrieval._vectors import predictions
from recjax.nn.interests import read_out, soft_read_out
from recjax.nn.tables import TableSpec, take
from recjax.registry import unknown

LOSSES = ("sampled_softmax", "full_softmax")


class Adjustment(NamedTuple):
  """What becomes of a batch's loss.

  Attributes:
    weights: [B] of the rows, in the place of 1 for each that counts; constants to gradients.
    penalty: scalar that is added to the loss of each row that counts.
    metrics: further (sum, weight) pairs to report.
    mutable: new values of further collections.
  """

  weights: jax.Array
  penalty: jax.Array | float = 0.0
  metrics: Metrics = {}
  mutable: Mapping[str, Any] = {}


# (variables, interests [B, K, D], rows that count [B] bool, key) -> Adjustment
Adjust = Callable[[Variables, jax.Array, jax.Array, jax.Array], Adjustment]


def build_interests(
  extractor: nn.Module,
  table: TableSpec,
  schema: Schema,
  counts: Mapping[str, np.ndarray] | None,
  *,
  loss: str,
  negatives: int,
  sampling: str,
  sharpness: float = 0.0,
  adjust: Adjust | None = None,
  collections: Mapping[str, Any] | None = None,
) -> Learner:
  """The learner of an extractor.

  Args:
    extractor: linen module as in the module's docstring; what it draws in training comes from the
      streams `routing` and `dropout`.
    table: spec of the table `item`.
    schema: has hist_item, hist_mask and one target_item a row.
    counts: training occurrences per id, read by popularity sampling's init.
    loss: one of LOSSES.
    negatives: items drawn for sampled_softmax.
    sampling: one of `_negatives.SAMPLINGS`.
    sharpness: of the soft read-out in training; 0 for the nearest interest alone.
    adjust: see the module's docstring.
    collections: further collections that `adjust` changes, as they start.

  Raises:
    ConfigError: for an unknown option, a view of another kind, and from init for missing counts.
  """
  if loss not in LOSSES:
    raise ConfigError(unknown("loss", loss, LOSSES))
  require_one_target(schema)
  size = schema.vocabularies["item"]
  drawing = Negatives(size, sampling, counts)

  def init(key, tables, batch):
    variables = extractor.init(key, tables, batch, train=False)
    statistics = {} if loss == "full_softmax" else drawing.statistics()
    further = {**(collections or {}), **({"statistics": statistics} if statistics else {})}
    return {"params": {}, **variables, **further}

  def encode(variables, batch, **how):
    return extractor.apply({"params": variables["params"]}, variables["tables"], batch, **how)

  def encode_user(variables, batch):
    """Interests of each history, [B, K, D]; exactly zero for an empty one."""
    return encode(variables, batch, train=False)

  def draw(variables, batch, key):
    return drawing.draw_shared(variables, batch, key, negatives)

  def objective(variables, batch, key):
    targets, rows = batch["target_item"], variables["tables"]["item"]
    positive = take(rows, targets)
    dropout_key, adjust_key = (jax.random.fold_in(key, i) for i in (1, 2))
    interests, sown = encode(
      variables, batch, train=True, rngs={"routing": key, "dropout": dropout_key},
      mutable=["penalties"],
    )
    if sharpness:
      queries = soft_read_out(interests, positive, sharpness)
    else:
      queries = read_out(interests, positive)
    real = (targets != 0) & jnp.any(batch["hist_mask"], axis=1)
    weights, metrics, mutable = real.astype(jnp.float32), {}, {}
    total, penalty = jnp.sum(weights), 0.0
    if adjust is not None:
      adjusted = adjust(variables, interests, real, adjust_key)
      weights = jax.lax.stop_gradient(adjusted.weights)
      penalty, metrics, mutable = adjusted.penalty, adjusted.metrics, adjusted.mutable
    penalty = penalty * total + sum(jnp.sum(weights * each) for each in jax.tree.leaves(sown))
    if loss == "full_softmax":
      value, hits = full_softmax(queries, rows, targets, weights, num_items=size - 1)
      return Objective(value + penalty, total, {"accuracy": (hits, total), **metrics}, mutable)
    drawn = batch["negative_item"][0]
    value = sampled_softmax(
      queries, positive, take(rows, drawn), targets, drawn,
      batch["target_log_q"], batch["negative_log_q"][0], weights,
    )
    return Objective(value + penalty, total, metrics, mutable)

  fields = {}
  if loss == "sampled_softmax":
    fields = shared_fields(negatives, schema.fields["target_item"])
  return Learner(
    schema.extend(**fields), {"item": table}, init, objective, predictions(encode_user),
    draw if fields else None, whole_tables=() if fields else ("item",),
  )


def require_one_target(schema: Schema) -> None:
  """Raises ConfigError unless rows have a history and one target each."""
  require(schema, "hist_item", "hist_mask", "target_item")
  if schema.fields["target_item"].shape or "label" in schema.fields:
    has = "candidates with labels" if "label" in schema.fields else "several targets a row"
    raise ConfigError(
      f"The model predicts one item from a history, and the batch has {has}: take the view 'prefixes'."
    )
