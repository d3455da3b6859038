"""What click models share: candidates as columns, and the vectors of items and of their features.

An item may come with a category, or with several features at once: `hist_cat` is [B, L] or
[B, L, A] and `target_cat` likewise, all indexing one vocabulary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.nn.tables import TableSpec, take


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

  The weight of a candidate 0 becomes 0. Scoring needs neither label nor weight.
  """
  target = batch["target_item"]
  shape = target.shape if target.ndim == 2 else (*target.shape, 1)
  weight = batch.get("weight")
  weight = jnp.ones(shape[:1], jnp.float32) if weight is None else weight
  weight = jnp.broadcast_to(weight.reshape(shape[0], -1), shape)
  wide = {
    name: batch[name].reshape(*shape, *batch[name].shape[target.ndim :])
    for name in ("target_item", "target_cat", "label")
    if name in batch
  }
  real = (wide["target_item"] != 0).astype(weight.dtype)
  return {**batch, **wide, "weight": weight * real}
