"""What models of long histories share: a short part of the newest behaviours, and the tower."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.models.ranking._click import item_vectors
from recjax.nn.target_attention import LocalActivationUnit
from recjax.nn.top_k import recency, top_behaviours
from recjax.nn.tower import CTRTower


def real_history(tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> jax.Array:
  """Vectors [B, L, D] of the history, zero at padding."""
  return item_vectors(tables, batch, "hist") * batch["hist_mask"][:, :, None].astype(jnp.float32)


def newest(history: jax.Array, mask: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """The newest real behaviours [B, N, D] of history [B, L, D], newest last, and which are real.

  N is the smaller of count and L; what is left over comes first, and is zero.
  """
  place, real = newest_places(mask, count)
  return jnp.take_along_axis(history, place[:, :, None], axis=1) * real[:, :, None], real


def newest_places(mask: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Places [B, N] of the newest real behaviours, newest last, and which are real; see `newest`."""
  place, real = top_behaviours(recency(mask)[:, None], mask[:, None], count)
  return place[:, 0, ::-1], real[:, 0, ::-1]


def same_category(batch: Mapping[str, jax.Array]) -> jax.Array:
  """True [B, C, L] where behaviour and candidate share a category, the same of several."""
  wanted, known = batch["target_cat"][:, :, None], batch["hist_cat"][:, None]
  same = (wanted == known) & (known != 0)
  return jnp.any(same.reshape(*same.shape[:3], -1), axis=-1)


class LongShortTower(nn.Module):
  """z = MLP(norm([q, long, q * long, short, q * short])), short being DIN's unit with a softmax.

  Attributes:
    unit_hidden: hidden widths of the unit; without any there is no short part.
    hidden: hidden widths of the tower.
    activation: of the tower.
    norm: of the tower's input.
    dropout: rate after each hidden layer.
  """

  unit_hidden: tuple[int, ...]
  hidden: tuple[int, ...]
  activation: str
  norm: str
  dropout: float

  @nn.compact
  def __call__(
    self,
    candidates: jax.Array,
    long: jax.Array | None,
    recent: jax.Array,
    real: jax.Array,
    counted: jax.Array,
    *,
    train: bool,
  ) -> jax.Array:
    """Logits [B, C].

    Args:
      candidates: q [B, C, D].
      long: interests in the long history [B, C, D], if any.
      recent: the newest behaviours [B, N, D].
      real: bool [B, N].
      counted: bool [B, C], candidates that count in batch statistics.
      train: whether to drop out and move statistics.
    """
    features = [candidates]
    if long is not None:
      features += [long, candidates * long]
    if self.unit_hidden:
      unit = LocalActivationUnit(self.unit_hidden, "prelu", "softmax", name="unit")
      short = unit(candidates, recent, real, counted, train=train)[0]
      features += [short, candidates * short]
    tower = CTRTower(self.hidden, self.activation, self.norm, self.dropout, name="tower")
    return tower(jnp.concatenate(features, axis=-1), counted, train=train)
