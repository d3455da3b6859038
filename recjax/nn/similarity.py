"""What given vectors of items say of a history: cosines, their histogram, and attention by both.

Vectors are frozen: int8 codes (a code c stands for c / 127), float16 or float32, and zero where an item
has none. No gradient reaches them.

The histogram (SimTier) is of Sheng et al., CIKM 2024, arXiv 2407.19467; the attention (SA-TA) of Wu et
al., 2025, arXiv 2512.07216.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense

_UNITS = 127  # code of 1 in int8
_BLOCK = 256  # behaviours


def vector_values(vectors: jax.Array) -> jax.Array:
  """Frozen vectors [..., M], coded or not, as float32."""
  values = jax.lax.stop_gradient(vectors).astype(jnp.float32)
  return values / _UNITS if vectors.dtype == jnp.int8 else values


def has_vector(vectors: jax.Array) -> jax.Array:
  """Which of vectors [..., M] are there at all: bool [...]."""
  return jnp.any(vectors != 0, axis=-1)


def cosine(candidates: jax.Array, history: jax.Array) -> jax.Array:
  """Cosines float32 [B, C, L] of candidates [B, C, M] with history [B, L, M]; 0 without a vector.

  Codes are multiplied as whole numbers. A long history of codes or of float16 is taken in blocks, so
  that no copy of it in wider numbers is ever whole.
  """
  candidates, history = map(jax.lax.stop_gradient, (candidates, history))
  if history.shape[1] <= _BLOCK or history.dtype == jnp.float32:
    return _cosine(candidates, history)
  one = lambda behaviour: _cosine(candidates, behaviour[:, None])[:, :, 0]
  return jnp.moveaxis(jax.lax.map(one, jnp.swapaxes(history, 0, 1), batch_size=_BLOCK), 0, 2)


def _cosine(candidates, history):
  coded = candidates.dtype == history.dtype == jnp.int8
  wide = jnp.int32 if coded else jnp.float32
  if not coded:
    candidates, history = candidates.astype(wide), history.astype(wide)
  dot = jnp.einsum("bcm,blm->bcl", candidates, history, preferred_element_type=wide)
  scale = _inverse_length(candidates)[:, :, None] * _inverse_length(history)[:, None]
  return jnp.clip(dot.astype(jnp.float32) * scale, -1.0, 1.0)


def _inverse_length(vectors):
  """1 / |x| of vectors [..., M], 0 for zero; scaled first, so that no square overflows."""
  values = vectors.astype(jnp.float32)
  largest = jnp.max(jnp.abs(values), axis=-1, keepdims=True)
  largest = jnp.where(largest > 0, largest, 1.0)
  square = jnp.sum(jnp.square(values / largest), axis=-1)
  length = jnp.sqrt(square) * largest[..., 0]
  return jnp.where(square > 0, 1.0 / jnp.where(square > 0, length, 1.0), 0.0)


def tiers(cosines: jax.Array, mask: jax.Array, steps: int) -> jax.Array:
  """How many of cosines [..., N] lie in each tier where mask [..., N]: float32 [..., 2 steps + 2].

  Tier steps + ceil(steps * cosine) is of width 1 / steps and open to the left: the first holds -1
  alone, the last but one what is above 1 - 1 / steps, the last nothing (cosines are clipped at 1).
  """
  place = jnp.ceil(jnp.clip(cosines, -1.0, 1.0) * steps).astype(jnp.int32) + steps
  hits = jax.nn.one_hot(place, 2 * steps + 2, dtype=jnp.float32)
  return jnp.sum(hits * mask[..., None].astype(jnp.float32), axis=-2)


class SimTier(nn.Module):
  """log(1 + count) of each tier, times a learned weight that starts uniform in (0, 1).

  Attributes:
    steps: tiers in a unit of cosine.
  """

  steps: int

  @nn.compact
  def __call__(self, cosines: jax.Array, mask: jax.Array) -> jax.Array:
    """Features [..., 2 steps + 2] of cosines [..., N] where mask [..., N]; zero for an empty mask."""
    weight = self.param("weight", nn.initializers.uniform(1.0), (2 * self.steps + 2,), jnp.float32)
    counts = tiers(jax.lax.stop_gradient(cosines), mask, self.steps)
    return jnp.log1p(counts) * weight.reshape((1,) * (counts.ndim - 1) + (-1,))


class SimilarityAwareAttention(nn.Module):
  """SA-TA: attention of a candidate to behaviours of its own, by ids and by cosines.

      q = silu(W_q v + b_q),  k_j, v_j likewise of x_j,  s_j = q . k_j,  b_j = cosine_j / tau
      w = softmax(g_1 s_j + g_2 b_j + g_3 s_j b_j),  o = sum_j w_j v_j

  g starts at 1. tau starts at .1 and is kept above 0 by its logarithm.

  Attributes:
    width: of q, k and v.
    similar: whether b is used; without, g = (1, 0, 0) and neither g nor tau is learned.
  """

  width: int
  similar: bool = True

  @nn.compact
  def __call__(
    self, candidates: jax.Array, behaviours: jax.Array, cosines: jax.Array, mask: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """o [B, C, width] and w [B, C, K]; both exactly zero where the mask is empty.

    Args:
      candidates: [B, C, D].
      behaviours: [B, C, K, D], those of each candidate.
      cosines: [B, C, K].
      mask: bool [B, C, K].
    """
    project = lambda name, x: jax.nn.silu(Dense(self.width, name=name)(x))
    query, key = project("query", candidates), project("key", behaviours)
    value = project("value", behaviours)
    scores = jnp.einsum("bcd,bckd->bck", query, key, preferred_element_type=jnp.float32)
    if self.similar:
      mix = self.param("mix", nn.initializers.ones_init(), (3,), jnp.float32)
      start = nn.initializers.constant(np.log(0.1))
      log_tau = self.param("log_tau", start, (), jnp.float32)
      scores = mixed_scores(scores, jax.lax.stop_gradient(cosines), mix, jnp.exp(log_tau))
    weights = masked_softmax(scores, mask)
    return jnp.einsum("bck,bckd->bcd", weights.astype(value.dtype), value), weights


def mixed_scores(
  scores: jax.Array, cosines: jax.Array, mix: jax.Array, tau: jax.Array | float
) -> jax.Array:
  """g_1 s + g_2 b + g_3 s b with b = cosine / tau, in the shape of scores and cosines [...]."""
  near = cosines / tau
  return mix[0] * scores + mix[1] * near + mix[2] * scores * near
