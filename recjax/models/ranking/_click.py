"""What click models share: candidates as columns, vectors of items and features, and the learner.

An item may come with a category, or with several features at once: `hist_cat` is [B, L] or
[B, L, A] and `target_cat` likewise, all indexing one vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.models.learner import Learner, Metrics, Objective, Variables
from recjax.nn.tables import TableSpec, take
from recjax.registry import unknown


class Outcome(NamedTuple):
  """What the network of a click model makes of B histories with C candidates each.

  Attributes:
    logits: [B, C].
    weights: what each behaviour weighs for each candidate, [B, C, L]; None for models without.
    losses: auxiliary losses by name, [B] for those of a history or [B, C].
    measures: further metrics as (sum, weight).
  """

  logits: jax.Array
  weights: jax.Array | None = None
  losses: Mapping[str, jax.Array] = {}
  measures: Metrics = {}


def item_tables(
  schema: Schema, item_width: int, category_width: int, stddev: float
) -> dict[str, TableSpec]:
  """Tables `item` and `category` of the widths given; a width of 0 leaves a table out.

  Raises:
    ConfigError: no table is left, or the batch lacks a field that a click model reads.
  """
  needed = ["hist_item", "hist_mask", "target_item", "label", "weight"]
  if category_width:
    needed += ["hist_cat", "target_cat"]
  missing = [name for name in needed if name not in schema.fields]
  if missing:
    cure = " Without categories set category_width=0." if "hist_cat" in missing else ""
    raise ConfigError(f"The batch lacks {', '.join(map(repr, missing))}.{cure}")
  if not (item_width or category_width):
    raise ConfigError("An item needs a vector: item_width or category_width must be above 0.")
  tables = {}
  if item_width:
    tables["item"] = TableSpec("item", item_width, stddev)
  if category_width:
    tables["category"] = TableSpec(schema.fields["hist_cat"].vocabulary, category_width, stddev)
  return tables


def item_vectors(
  tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], prefix: str
) -> jax.Array:
  """Vectors [..., D] of the items in the fields `prefix`_item and, with categories, _cat.

  Vectors of several categories are laid side by side.
  """
  items = batch[f"{prefix}_item"]
  vectors = []
  if "item" in tables:
    vectors.append(take(tables["item"], items))
  if "category" in tables:
    categories = take(tables["category"], batch[f"{prefix}_cat"])
    vectors.append(categories.reshape(*items.shape, -1))
  return jnp.concatenate(vectors, axis=-1)


def columns(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """The batch with a candidate axis in every field about candidates: target_*, label, weight.

  The weight of a candidate 0 becomes 0. Scoring needs neither label nor weight. target_time [B] is the
  moment of the request, one for all its candidates, and stays as it is.
  """
  target = batch["target_item"]
  shape = target.shape if target.ndim == 2 else (*target.shape, 1)
  weight = batch.get("weight")
  weight = jnp.ones(shape[:1], jnp.float32) if weight is None else weight
  weight = jnp.broadcast_to(weight.reshape(shape[0], -1), shape)
  wide = {
    name: value.reshape(*shape, *value.shape[target.ndim :])
    for name, value in batch.items()
    if name == "label" or (name.startswith("target_") and name != "target_time")
  }
  real = (wide["target_item"] != 0).astype(weight.dtype)
  return {**batch, **wide, "weight": weight * real}


def history_width(schema: Schema, item_width: int, category_width: int) -> int:
  """Width of `item_vectors` for tables of these widths."""
  if not category_width:
    return item_width
  several = schema.fields["target_cat"].shape[len(schema.fields["target_item"].shape) :]
  return item_width + category_width * (several[0] if several else 1)


def check_names(*options: tuple[str, str, Iterable[str]]) -> None:
  """Raises ConfigError for the first (kind, name, known) whose name is not known."""
  for kind, name, known in options:
    if name not in known:
      raise ConfigError(unknown(kind, name, known))


def click_learner(
  module: nn.Module,
  schema: Schema,
  tables: Mapping[str, TableSpec],
  *,
  factors: Mapping[str, float] | None = None,
  fields: Mapping[str, Field] | None = None,
  draw: Callable | None = None,
  predict: Mapping[str, Callable] | None = None,
  explains: bool = False,
  penalty: Callable[[Variables], jax.Array] | None = None,
) -> Learner:
  """The learner of a network (tables, batch, *, train) -> Outcome, whose batch is `columns`.

  One batch row is a history with one candidate (target_item []) or several ([C]). The loss is the log
  loss of the logits plus, for each name in `factors`, that factor times the auxiliary loss of the name;
  all are weighted sums over candidates, so that parts of a batch add up.

  Args:
    module: its collections other than `params` are kept; `batch_stats` moves in training.
    schema: of the view's batches.
    tables: specs.
    factors: of auxiliary losses; a name that the network does not return in training is an error.
    fields: what `draw` adds.
    draw: see `Learner`.
    predict: further prediction functions.
    explains: whether the network returns `weights`, given as predict["explain"], [B, L] or [B, C, L].
    penalty: variables to a scalar that the mean loss grows by; it may read whole tables, which then
      cannot be trained by rows.
  """
  factors = dict(factors or {})

  def apply(variables, batch, **options):
    collections = {name: value for name, value in variables.items() if name != "tables"}
    return module.apply(collections, variables["tables"], columns(batch), **options)

  def init(key, tables, batch):
    return module.init(key, tables, columns(batch), train=False)

  def loss(variables, batch, key):
    wide = columns(batch)
    made, mutable = apply(
      variables, batch, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    value, weight = binary_cross_entropy(made.logits, wide["label"], wide["weight"])
    metrics = {"log_loss": (value, weight)}
    for name, factor in factors.items():
      each = made.losses[name]
      each = each if each.ndim == 2 else jnp.broadcast_to(each[:, None], made.logits.shape)
      part = jnp.sum(each * wide["weight"])
      value = value + factor * part
      metrics[name] = (part, weight)
    if penalty is not None:
      # The step divides by the weight, also where it adds up parts of a batch.
      part = penalty(variables) * weight
      value = value + part
      metrics["penalty"] = (part, weight)
    return Objective(value, weight, {**metrics, **made.measures}, mutable)

  def score(variables, batch):
    """Logits of target_item [B] or [B, C], in its shape."""
    return apply(variables, batch, train=False).logits.reshape(batch["target_item"].shape)

  def explain(variables, batch):
    """What each behaviour weighs for each candidate, [B, L] or [B, C, L]; zero at padding."""
    weights = apply(variables, batch, train=False).weights
    return weights.reshape(*batch["target_item"].shape, -1)

  predictions = {"score": score, **({"explain": explain} if explains else {}), **(predict or {})}
  whole = () if penalty is None else tuple(tables)
  schema = schema.extend(**(fields or {}))
  return Learner(schema, tables, init, loss, predictions, draw, whole_tables=whole)
