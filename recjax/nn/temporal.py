"""When behaviours happened, seen from the target: positions and gaps as vectors, and what they meet.

    p_j: behaviours from j to the target, 1 for the newest, 0 for the target itself
    g_j: bucket of the seconds between behaviour and target
    e~_j = e_j + P[p_j] + T[1 + g_j],  v~ = v + P[0] + T[0]
    alpha = softmax_j(<e~_j, v~> / sqrt(D)),  s = sum_j alpha_j e~_j
    u = sum_j alpha_j (e~_j * v~) = s * v~

The product of the four, behaviour and target by what and by when, is that of Zhou et al., WWW 2024,
arXiv 2308.08487.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.target_attention import pool
from recjax.registry import unknown

ENCODINGS = ("none", "position", "gap", "both")
_DOUBLINGS = 21  # of a minute: the last bucket begins at two years
GAP_BUCKETS = _DOUBLINGS + 1


def target_positions(mask: jax.Array) -> jax.Array:
  """Positions int32 [B, L] relative to the target, which is 0 and after all behaviours of mask [B, L].

  The newest real behaviour has 1, the one before it 2, ..., wherever padding stands; 0 at padding.
  """
  real = mask.astype(jnp.int32)
  return jnp.cumsum(real[:, ::-1], axis=1, dtype=jnp.int32)[:, ::-1] * real


def gap_buckets(seconds: jax.Array) -> jax.Array:
  """Buckets int32 of gaps in seconds: 0 below a minute, k from 60 * 2^(k-1), the last without an end.

  There are GAP_BUCKETS; a gap below 0 counts as 0.
  """
  edges = jnp.asarray([60 * 2**k for k in range(_DOUBLINGS)], jnp.int32)
  return jnp.searchsorted(edges, seconds.astype(jnp.int32), side="right").astype(jnp.int32)


class TemporalEncoding(nn.Module):
  """Adds to behaviours and candidates what says when they are, in tables of their own.

  Attributes:
    kind: one of ENCODINGS.
    positions: rows of P beside the target's; older behaviours share the last.
    stddev: of the initial rows.
  """

  kind: str
  positions: int
  stddev: float

  @nn.compact
  def __call__(
    self, candidates: jax.Array, history: jax.Array, mask: jax.Array, gaps: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """v~ and e~ of candidates [B, C, D] and history [B, L, D] under mask [B, L].

    `gaps` are the seconds [B, L] from each behaviour to the target, for kinds that read them. e~ is
    zero at padding.
    """
    if self.kind not in ENCODINGS:
      raise ConfigError(unknown("encoding", self.kind, ENCODINGS))
    draw = nn.initializers.normal(self.stddev)
    rows = []
    if self.kind in ("position", "both"):
      rows.append(("position", self.positions, jnp.minimum(target_positions(mask), self.positions)))
    if self.kind in ("gap", "both"):
      rows.append(("gap", GAP_BUCKETS, 1 + gap_buckets(gaps)))
    for name, count, index in rows:
      table = self.param(name, draw, (1 + count, history.shape[-1]), jnp.float32)
      candidates = candidates + table[0][None, None]
      history = history + table[index]
    return candidates, history * mask[:, :, None].astype(history.dtype)


class Interaction(NamedTuple):
  """What a candidate makes of a history.

  Attributes:
    pooled: s [B, C, D], the weighted mean of behaviours.
    product: u [B, C, D], the weighted mean of products with the candidate.
    weights: alpha [B, C, L]; zero at padding.
  """

  pooled: jax.Array
  product: jax.Array
  weights: jax.Array


def target_interaction(
  candidates: jax.Array, history: jax.Array, mask: jax.Array, *, attention: bool = True
) -> Interaction:
  """The interaction of candidates v~ [B, C, D] and history e~ [B, L, D] under mask [B, L].

  Without `attention` all behaviours weigh the same. An empty history gives zeros. Products of
  behaviours and candidates are never made one by one, as their sum is s * v~.
  """
  scores = jnp.zeros((*candidates.shape[:2], history.shape[1]), jnp.float32)
  if attention:
    scores = jnp.einsum("bcd,bld->bcl", candidates, history, preferred_element_type=jnp.float32)
    scores = scores * candidates.shape[-1] ** -0.5
  pooled, weights = pool(scores, history, mask, "softmax")
  return Interaction(pooled, pooled * candidates, weights)
