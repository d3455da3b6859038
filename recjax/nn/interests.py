"""Several interest vectors of a user: extracted from a history, read out for a target, merged.

Interests are [B, K, D]. Two extractors, both after the code published with ComiRec:
 - `SelfAttentiveInterests`: K attentions over the history, whose scores know positions and whose
   values do not (Lin et al., ICLR 2017);
 - `dynamic_routing`: capsules (Sabour, Frosst and Hinton, NeurIPS 2017) that share out the history.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense

_EPSILON = 1e-9


class SelfAttentiveInterests(nn.Module):
  """V = A^T H with A = softmax over the history of W_2 tanh(W_1 (H + P)); W_1 widens to `hidden`.

  Attributes:
    interests: K.
    hidden: width between the two maps.
    length: of the longest history; P has a row for each position, the last for the newest. None for
      no positions: the order of a history then does not matter.
    stddev: of the initial P.
  """

  interests: int
  hidden: int
  length: int | None
  stddev: float = 0.02

  @nn.compact
  def __call__(self, history: jax.Array, mask: jax.Array) -> jax.Array:
    """Interests [B, K, D] of a history [B, L, D] under mask [B, L]; zero where nothing is real."""
    placed = history
    if self.length is not None:
      init = nn.initializers.normal(self.stddev)
      positions = self.param("position", init, (self.length, history.shape[-1]), jnp.float32)
      placed = history + positions[None, -history.shape[1] :]
    hidden = jnp.tanh(Dense(self.hidden, use_bias=False, name="hidden")(placed))
    scores = Dense(self.interests, use_bias=False, name="score")(hidden)
    weights = masked_softmax(
      jnp.swapaxes(scores, 1, 2),
      jnp.broadcast_to(mask[:, None], (mask.shape[0], self.interests, mask.shape[1])),
    )
    return jnp.einsum("bkl,bld->bkd", weights, history)


def squash(vectors: jax.Array) -> jax.Array:
  """|x|^2 / (1 + |x|^2) x / |x| along the last axis: shorter than one, zero stays zero."""
  square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * (square / (1.0 + square) * jax.lax.rsqrt(square + _EPSILON))


def dynamic_routing(
  votes: jax.Array, logits: jax.Array, mask: jax.Array, iterations: int
) -> jax.Array:
  """Capsules [B, K, D], each shorter than one, that share out the behaviours of a history.

    c = softmax over the K capsules of b, zero at padding
    v = squash(sum over the history of c u)
    b <- b + u . v                                   between two iterations

  Only the last iteration is differentiated: until then the votes u are constants.

  Args:
    votes: u, [B, K, L, D], or [B, 1, L, D] where all capsules get the same.
    logits: b at the start, [B, K, L] or [1, K, L]. Where all are equal and the votes are, too, the
      capsules stay equal for ever.
    mask: bool [B, L], the real behaviours.
    iterations: at least one.
  """
  real = mask[:, None].astype(votes.dtype)
  logits = jnp.broadcast_to(logits, (len(mask), *logits.shape[1:]))
  still = jax.lax.stop_gradient(votes)

  def capsules(votes, logits):
    shares = jax.nn.softmax(logits, axis=1) * real
    return squash(jnp.matmul(shares[:, :, None], votes)[:, :, 0])

  for _ in range(iterations - 1):
    logits = logits + jnp.matmul(still, capsules(still, logits)[..., None])[..., 0]
  return capsules(votes, logits)


def read_out(interests: jax.Array, targets: jax.Array) -> jax.Array:
  """Of interests [B, K, D] the one [B, D] that is nearest to targets [B, D] by dot product.

  The first of several. The choice itself carries no gradient.
  """
  nearest = jnp.argmax(jnp.einsum("bkd,bd->bk", interests, targets), axis=1)
  return jnp.take_along_axis(interests, nearest[:, None, None], axis=1)[:, 0]


def soft_read_out(interests: jax.Array, targets: jax.Array, sharpness: float) -> jax.Array:
  """Mean [B, D] of interests [B, K, D] by softmax over k of sharpness (v_k . t) for targets t [B, D].

  The larger `sharpness`, the nearer to `read_out`; the weights carry a gradient. (MIND's label-aware
  attention, Li et al. 2019, has a power in the place of the factor.)
  """
  scores = sharpness * jnp.einsum("bkd,bd->bk", interests, targets)
  return jnp.einsum("bk,bkd->bd", jax.nn.softmax(scores, axis=1), interests)


def best_scores(users: jax.Array, items: jax.Array) -> jax.Array:
  """Scores [B, n] of items [n, D]: dot products with the one vector [B, D] of a user, or the largest
  of those with several [B, K, D].

  Interests take turns, so nothing of size [B, K, n] exists.
  """
  if users.ndim == 2:
    return users @ items.T
  scores = users[:, 0] @ items.T
  for index in range(1, users.shape[1]):
    scores = jnp.maximum(scores, users[:, index] @ items.T)
  return scores
