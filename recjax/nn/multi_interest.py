"""Several interests of a history, each along a direction of its own: project, route, filter, pool."""

import math

import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.registry import unknown

ROUTINGS = ("top1", "soft")
ORDERS = ("routed_first", "topk_first")
DENOMINATORS = ("real", "length")


def normalize(vectors: jax.Array, axis: int = -1, epsilon: float = 1e-12) -> jax.Array:
  """Vectors of length one along `axis`; zero stays zero, with a gradient of 1 / sqrt(epsilon)."""
  square = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
  return vectors * jax.lax.rsqrt(square + epsilon)


def gram_schmidt(columns: jax.Array) -> jax.Array:
  """Orthonormal columns that span, one after another, what the columns [..., D, K] span.

  The classical process, each column projected twice: of all orthonormal bases with these spans it
  is the one whose inner products with the columns are positive, so that signs do not jump.
  Differentiable where the columns are independent; K steps of matrix products.
  """
  found: list[jax.Array] = []
  for column in jnp.split(columns, columns.shape[-1], axis=-1):
    if found:
      basis = jnp.concatenate(found, axis=-1)
      for _ in range(2):
        shares = jnp.einsum("...dk,...do->...ko", basis, column)
        column = column - jnp.einsum("...dk,...ko->...do", basis, shares)
    found.append(normalize(column, axis=-2))
  return jnp.concatenate(found, axis=-1)


def route_and_filter(
  relevance: jax.Array, mask: jax.Array, share: float, routing: str, order: str
) -> jax.Array:
  """What part of each behaviour goes to each channel, [..., L, K] between 0 and 1.

  A behaviour goes to the channel of its largest relevance (the first of several), or with
  routing="soft" to all of them by a softmax. A channel keeps its most relevant behaviours, at most
  `share` of the history's real ones (rounded up) and those that tie with the last of them:
  of those routed to it, or with order="topk_first" of the whole history, before routing. Hard
  choices carry no gradient.

  Args:
    relevance: [..., L, K].
    mask: bool [..., L], the real behaviours; others go nowhere.
    share: in (0, 1].
    routing: one of ROUTINGS.
    order: one of ORDERS.
  """
  real = jnp.broadcast_to(mask[..., None], relevance.shape)
  if routing == "top1":
    best = jnp.argmax(relevance, axis=-1)
    routed = real & (best[..., None] == jnp.arange(relevance.shape[-1]).reshape(
      (1,) * best.ndim + (-1,)
    ))
  elif routing == "soft":
    routed = real
  else:
    raise ConfigError(unknown("routing", routing, ROUTINGS))
  if order not in ORDERS:
    raise ConfigError(unknown("filter order", order, ORDERS))
  kept = routed & _largest(relevance, routed if order == "routed_first" else real, mask, share)
  if routing == "soft":
    return jnp.where(kept, jax.nn.softmax(relevance, axis=-1), 0.0)
  return jax.lax.stop_gradient(kept.astype(relevance.dtype))


def _largest(
  relevance: jax.Array, among: jax.Array, mask: jax.Array, share: float
) -> jax.Array:
  """True [..., L, K] where a channel's relevance is among the largest; see `route_and_filter`."""
  length = relevance.shape[-2]
  # Rounding errors of the product must not add one: 0.2 * 15 is above 3.
  most = max(math.ceil(share * length - 1e-3), 1)
  lowest = jnp.finfo(relevance.dtype).min
  values = jnp.where(among, jax.lax.stop_gradient(relevance), lowest)
  top = jax.lax.top_k(jnp.swapaxes(values, -1, -2), most)[0]
  quota = jnp.ceil(share * jnp.sum(mask, axis=-1, dtype=jnp.float32) - 1e-3)
  last = jnp.maximum(quota.astype(jnp.int32), 1)[..., None, None] - 1
  last = jnp.broadcast_to(last, (*top.shape[:-1], 1))
  threshold = jnp.swapaxes(jnp.take_along_axis(top, last, axis=-1), -1, -2)
  return among & (values >= threshold)


def aggregate(
  history: jax.Array,
  relevance: jax.Array,
  keep: jax.Array,
  mask: jax.Array,
  denominator: str,
) -> jax.Array:
  """Interests [B, C, K, D]: sums of keep * relevance * behaviour over the history, divided.

  Args:
    history: [B, L, D].
    relevance: [B, C, L, K].
    keep: [B, C, L, K], from `route_and_filter`.
    mask: bool [B, L].
    denominator: "real" divides by the number of real behaviours, "length" by L.
  """
  if denominator == "real":
    count = jnp.maximum(jnp.sum(mask, axis=1, dtype=history.dtype), 1.0)[:, None, None, None]
  elif denominator == "length":
    count = jnp.full((1, 1, 1, 1), history.shape[1], history.dtype)
  else:
    raise ConfigError(unknown("denominator", denominator, DENOMINATORS))
  return jnp.einsum("bclk,bld->bckd", relevance * keep, history) / count
