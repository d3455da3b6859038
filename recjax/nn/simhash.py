"""SimHash: vectors at a small angle share bits, and behaviours that share bits with a candidate add up.

    bit_k(x) = [r_k . x >= 0],  r_k ~ N(0, I), drawn once         P[bits differ] = angle / pi
    code_g(x): the tau bits of group g as one number;  collide_g(x, y) = [code_g(x) = code_g(y)]
    read(q, S) = 1/G sum_g N(sum_j collide_g(q, s_j) s_j)

Charikar, STOC 2002; Cao et al., CIKM 2022, arXiv 2205.10249. There are two exact ways to a reading:
`read_collisions` compares candidates with behaviours, `read_buckets` looks a candidate's codes up in
sums that were built without it. Codes are integers, so no gradient reaches candidates or rotations.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.multi_interest import normalize
from recjax.registry import unknown

NORMS = ("l2", "count", "none")
_EPSILON = 1e-6  # of squared lengths; the gradient of a normalised zero stays below 1e3
_CLIP = 1e-6  # keeps cosines off 1, where the slope of arccos is infinite


class Buckets(NamedTuple):
  """A history by code: sums float32 [..., G, 2^tau, D] and how many were added [..., G, 2^tau]."""

  sums: jax.Array
  counts: jax.Array


def check_groups(bits: int, group: int) -> None:
  """Raises ConfigError unless `bits` are groups of `group`; 0 makes one group that all share."""
  if group and bits % group:
    raise ConfigError(f"{bits} bits cannot be cut into groups of {group}: take a multiple.")


def hash_bits(vectors: jax.Array, rotations: jax.Array) -> jax.Array:
  """Bits bool [..., m] of vectors [..., D] under rotations [m, D]; zero counts as positive.

  In full precision on every device: a vector near a hyperplane must get the same bits wherever it is
  hashed again.
  """
  return jnp.matmul(vectors, jax.lax.stop_gradient(rotations).T, precision="highest") >= 0


def codes(vectors: jax.Array, rotations: jax.Array, group: int) -> jax.Array:
  """Codes int32 [..., G] below 2^group of vectors [..., D]; with group 0 all share one code."""
  if not group:
    return jnp.zeros((*vectors.shape[:-1], 1), jnp.int32)
  bits = hash_bits(vectors, rotations).reshape(*vectors.shape[:-1], -1, group)
  worth = (2 ** jnp.arange(group, dtype=jnp.int32)).reshape((1,) * vectors.ndim + (group,))
  return jnp.sum(bits * worth, axis=-1)


def hamming(left: jax.Array, right: jax.Array) -> jax.Array:
  """Bits float32 [B, C, L] in which bits [B, C, m] and [B, L, m] differ."""
  left, right = (2.0 * bits.astype(jnp.float32) - 1.0 for bits in (left, right))
  return 0.5 * (left.shape[-1] - jnp.einsum("bcm,blm->bcl", left, right))


def read_collisions(
  candidate_codes: jax.Array, history: jax.Array, history_codes: jax.Array, mask: jax.Array, norm: str
) -> jax.Array:
  """Readings [B, C, D] of history [B, L, D] where mask [B, L]; G times the work of one attention.

  Args:
    candidate_codes: [B, C, G].
    history: [B, L, D].
    history_codes: [B, L, G].
    mask: bool [B, L].
    norm: of each group's sum: "l2" makes its length one, "count" divides by the behaviours in it,
      "none" leaves it. A group without any gives zero.
  """
  same = candidate_codes[:, :, :, None] == jnp.swapaxes(history_codes, 1, 2)[:, None]
  same = (same & mask[:, None, None, :]).astype(history.dtype)
  return _mean(jnp.einsum("bcgl,bld->bcgd", same, history), jnp.sum(same, axis=-1), norm)


def build(history: jax.Array, history_codes: jax.Array, mask: jax.Array, group: int) -> Buckets:
  """Buckets [B, ...] of history [B, L, D] with codes [B, L, G] where mask [B, L]."""

  def one(history, history_codes, mask):
    groups, size = history_codes.shape[1], 2**group
    place = (jnp.arange(groups, dtype=jnp.int32)[:, None] * size + history_codes.T).reshape(-1)
    real = mask.astype(history.dtype)
    add = lambda x: jax.ops.segment_sum(
      jnp.broadcast_to(x[None], (groups, *x.shape)).reshape(-1, *x.shape[1:]), place, groups * size
    ).reshape(groups, size, *x.shape[1:])
    return Buckets(add(history * real[:, None]), add(real))

  return jax.vmap(one)(history, history_codes, mask)


def add(buckets: Buckets, vectors: jax.Array, codes: jax.Array, weight: jax.Array) -> Buckets:
  """Buckets [B, ...] after one behaviour [B, D] with codes [B, G] was added weight [B] times.

  A weight of -1 takes a behaviour out again, 0 changes nothing.
  """

  def one(buckets, vector, code, weight):
    at = (jnp.arange(code.shape[0], dtype=jnp.int32), code)
    sums = buckets.sums.at[at].add(jnp.broadcast_to(weight * vector, (code.shape[0], vector.shape[0])))
    return Buckets(sums, buckets.counts.at[at].add(weight))

  return jax.vmap(one)(buckets, vectors, codes, weight)


def read_buckets(buckets: Buckets, candidate_codes: jax.Array, norm: str) -> jax.Array:
  """Readings [B, C, D] of buckets [B, ...] for candidate_codes [B, C, G], equal to `read_collisions`.

  Takes no longer for longer histories. An empty bucket reads as zero, whatever rounding left in it.
  """

  def one(buckets, codes):
    at = (jnp.arange(codes.shape[-1], dtype=jnp.int32)[None, :], codes)
    return buckets.sums[at], buckets.counts[at]

  sums, counts = jax.vmap(one)(buckets, candidate_codes)
  return _mean(jnp.where(counts[..., None] > 0, sums, 0.0), counts, norm)


def expected_weights(
  candidates: jax.Array, history: jax.Array, mask: jax.Array, group: int
) -> jax.Array:
  """How likely each behaviour collides, (1 - angle / pi)^group: [B, C, L], zero at padding.

  What `count` readings of infinitely many bits weigh by, but for the constant. Like codes, it carries
  no gradient.
  """
  cosine = jnp.einsum("bcd,bld->bcl", _unit(candidates), _unit(history))
  limit = 1.0 - _CLIP
  angle = jnp.arccos(jnp.clip(cosine, -limit, limit))
  weights = jnp.where(mask[:, None, :], (1.0 - angle / jnp.pi) ** group, 0.0)
  return jax.lax.stop_gradient(weights)


def read_expected(weights: jax.Array, history: jax.Array, norm: str) -> jax.Array:
  """Readings [B, C, D] of history [B, L, D] by `expected_weights` [B, C, L], as of one group."""
  sums = jnp.einsum("bcl,bld->bcd", weights, history)
  return _mean(sums[:, :, None], jnp.sum(weights, axis=-1)[:, :, None], norm)


def _unit(vectors: jax.Array) -> jax.Array:
  return normalize(vectors, epsilon=_EPSILON)


def _mean(sums: jax.Array, counts: jax.Array, norm: str) -> jax.Array:
  """Mean over groups of sums [..., G, D] of counts [..., G] behaviours, each normalised."""
  if norm == "l2":
    sums = _unit(sums)
  elif norm == "count":
    sums = sums / jnp.where(counts > 0, counts, 1.0)[..., None]
  elif norm != "none":
    raise ConfigError(unknown("norm of a reading", norm, NORMS))
  return jnp.mean(sums, axis=-2)
