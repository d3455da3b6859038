"""Cross-attention with a second, separate branch: two softmaxes, one sum.

    Z = softmax(Q K^T / sqrt(d)) V + scale * softmax(Q K'^T / sqrt(d)) V'

Ye et al., 2023, arXiv 2308.06721 (IP-Adapter): K and V come from the text and stay frozen, K' and V'
from another condition. One softmax over both kinds of keys would make them compete; two do not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.nn.attention import masked_softmax


class Extra(NamedTuple):
  """What a network adds to its attention: keys and values by attention site.

  Attributes:
    key: site -> [B, L, D], split into the heads of the site.
    value: site -> [B, L, D].
    mask: bool [B, L], False where a token does not count; a row without tokens adds zero.
    scale: weight of the branch, a scalar or [B].
  """

  key: dict[str, jax.Array]
  value: dict[str, jax.Array]
  mask: jax.Array
  scale: float | jax.Array = 1.0


def attend(
  query: jax.Array, key: jax.Array, value: jax.Array, heads: int, mask: jax.Array | None = None
) -> jax.Array:
  """Multi-head attention of query [B, S, D] to key and value [B, L, D] where mask [B, L].

  Softmax in float32; returns [B, S, D], zero where a row's mask is empty.
  """
  batch, width = query.shape[0], query.shape[-1]
  split = lambda x: x.reshape(batch, x.shape[1], heads, width // heads)
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk", split(query), split(key), preferred_element_type=jnp.float32
  )
  scores = scores * (width // heads) ** -0.5
  if mask is None:
    weights = jax.nn.softmax(scores, axis=-1)
  else:
    weights = masked_softmax(scores, jnp.broadcast_to(mask[:, None, None, :], scores.shape))
  mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), split(value))
  return mixed.reshape(query.shape)


def decoupled_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  heads: int,
  site: str,
  extra: Extra | Sequence[Extra] | None,
) -> jax.Array:
  """Attention to key and value plus the branch of every `extra` that has this site; [B, S, D].

  Several extras are as many softmaxes, whose outputs add up with their own scales.
  """
  mixed = attend(query, key, value, heads)
  for one in branches(extra):
    if site in one.key:
      branch = attend(query, one.key[site], one.value[site], heads, one.mask)
      scale = jnp.asarray(one.scale, branch.dtype)
      mixed += scale.reshape(scale.shape + (1,) * (branch.ndim - scale.ndim)) * branch
  return mixed


def branches(extra: Extra | Sequence[Extra] | None) -> tuple[Extra, ...]:
  """What is added, as a tuple: nothing, one branch or several."""
  if extra is None:
    return ()
  return (extra,) if isinstance(extra, Extra) else tuple(extra)
