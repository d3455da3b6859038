"""Pooling of a history with weights that depend on the candidate."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.activations import Activation
from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense, product
from recjax.nn.top_k import gather, top_behaviours
from recjax.registry import unknown

NORMALIZERS = ("none", "relu", "softmax")


def pool(
  scores: jax.Array, values: jax.Array, mask: jax.Array, normalize: str
) -> tuple[jax.Array, jax.Array]:
  """Weighted sums of a history, and the weights.

  Args:
    scores: [B, C, L], one for each candidate and behaviour.
    values: [B, L, D].
    mask: bool [B, L].
    normalize: "none" takes the scores as weights, so that their sum measures how much interest
      there is; "relu" those above zero; "softmax" makes the weights of a candidate sum to one.

  Returns:
    [B, C, D] and [B, C, L]; both exactly zero for an empty history.
  """
  real = jnp.broadcast_to(mask[:, None, :], scores.shape)
  if normalize == "none":
    weights = jnp.where(real, scores, 0.0)
  elif normalize == "relu":
    weights = jnp.where(real, jax.nn.relu(scores), 0.0)
  elif normalize == "softmax":
    weights = masked_softmax(scores, real)
  else:
    raise ConfigError(unknown("normalize", normalize, NORMALIZERS))
  return jnp.einsum("bcl,bld->bcd", weights.astype(values.dtype), values), weights


class LocalActivationUnit(nn.Module):
  """DIN's local activation unit (Zhou et al., KDD 2018, arXiv 1706.06978, section 4.3).

      score(v, e) = Dense_1(act(Dense(... act(Dense([v, e, v - e, v * e])))))

  The first layer is computed as (W1 + W3) v + (W2 - W3) e + W4 (v * e), the same function: the
  first two terms once a candidate and once a behaviour, and the concatenation never exists.

  Attributes:
    hidden: widths.
    activation: one of `activations.ACTIVATIONS`.
    normalize: one of NORMALIZERS.
    scale: whether to divide the scores by sqrt(D), as the authors' code does before its softmax.
  """

  hidden: tuple[int, ...]
  activation: str
  normalize: str
  scale: bool = False

  @nn.compact
  def __call__(
    self,
    candidates: jax.Array,
    history: jax.Array,
    mask: jax.Array,
    candidate_mask: jax.Array,
    *,
    train: bool,
  ) -> tuple[jax.Array, jax.Array]:
    """Pools history [B, L, D] under mask [B, L] for each of candidates [B, C, D].

    candidate_mask [B, C] says which candidates count in batch statistics. Returns the interests
    [B, C, D] and the weights [B, C, L].
    """
    width = history.shape[-1]
    glorot = nn.initializers.glorot_uniform()
    kernel = self.param("kernel", glorot, (4 * width, self.hidden[0]), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.hidden[0],), jnp.float32)
    of_candidate, of_behaviour, of_difference, of_product = jnp.split(kernel, 4)
    x = (product(candidates, of_candidate + of_difference) + bias[None, None])[:, :, None]
    x = x + product(history, of_behaviour - of_difference)[:, None]
    x = x + product(candidates[:, :, None] * history[:, None], of_product)
    real = candidate_mask[:, :, None] & mask[:, None, :]
    x = Activation(self.activation, name="activation_0")(x, real, train=train)
    for index, hidden in enumerate(self.hidden[1:], start=1):
      x = Dense(hidden, kernel_init=glorot, name=f"dense_{index}")(x)
      x = Activation(self.activation, name=f"activation_{index}")(x, real, train=train)
    # Without a softmax the weights add up over the history: start them near zero, or the interest
    # starts as L times the mean behaviour.
    last = glorot if self.normalize == "softmax" else nn.initializers.normal(0.01)
    scores = Dense(1, kernel_init=last, name="score")(x)[..., 0].astype(jnp.float32)
    if self.scale:
      scores = scores * width**-0.5
    return pool(scores, history, mask, self.normalize)


class TargetAttention(nn.Module):
  """Multi-head scaled dot-product attention of candidates to the behaviours most worth it.

  Attributes:
    heads: divides the width.
    keep: K, behaviours that a candidate attends to; 0 for all.
  """

  heads: int
  keep: int = 0

  @nn.compact
  def __call__(
    self,
    candidates: jax.Array,
    history: jax.Array,
    allowed: jax.Array,
    relevance: jax.Array | None = None,
  ) -> jax.Array:
    """What candidates [B, C, D] find in history [B, L, D] where allowed [B, C, L]: [B, C, D].

    `relevance` [B, C, L] decides which K are kept, without a gradient; by default each head keeps those
    of its own largest scores. Zero where nothing is allowed.
    """
    rows, several, width = candidates.shape
    heads = self.heads

    def split(name, x):
      x = Dense(width, use_bias=False, name=name)(x).reshape(*x.shape[:2], heads, width // heads)
      return jnp.swapaxes(x, 1, 2).reshape(rows * heads, x.shape[1], -1)

    query, key, value = split("query", candidates), split("key", history), split("value", history)
    scores = jnp.einsum("bcd,bld->bcl", query, key, preferred_element_type=jnp.float32)
    scores, real = scores * (width // heads) ** -0.5, jnp.repeat(allowed, heads, axis=0)
    if self.keep and self.keep < history.shape[1]:
      chosen = scores if relevance is None else jnp.repeat(relevance, heads, axis=0)
      place, real = top_behaviours(chosen, real, self.keep)
      weights = masked_softmax(jnp.take_along_axis(scores, place, axis=-1), real)
      mixed = jnp.einsum("bck,bckd->bcd", weights.astype(value.dtype), gather(value, place))
    else:
      weights = masked_softmax(scores, real)
      mixed = jnp.einsum("bcl,bld->bcd", weights.astype(value.dtype), value)
    mixed = jnp.swapaxes(mixed.reshape(rows, heads, several, -1), 1, 2)
    return mixed.reshape(rows, several, width)


class SparseTargetAttention(nn.Module):
  """Attention of candidates to what scores above zero, with the candidate added (Li et al., WWW 2025
  workshop, arXiv 2504.17699).

      s_j = (W_q v) . (W_k x_j) / sqrt(A),  w_j = max(s_j, 0),  o = W_o sum_j w_j W_v x_j + v

  W_k acts on the query and W_v on the sum, the same function: neither keys nor values of behaviours
  exist.

  Attributes:
    width: A.
    normalize: one of NORMALIZERS; "relu" is the above.
    residual: whether v is added.
  """

  width: int
  normalize: str = "relu"
  residual: bool = True

  @nn.compact
  def __call__(
    self, candidates: jax.Array, history: jax.Array, mask: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """o [B, C, D] and w [B, C, L] of candidates [B, C, D], history [B, L, D], mask [B, L]."""
    size, init = history.shape[-1], nn.initializers.glorot_normal()
    dense = lambda name, width: Dense(width, use_bias=False, kernel_init=init, name=name)
    key = self.param("key", init, (size, self.width), jnp.float32)
    query = dense("query", self.width)(candidates) @ key.T
    scores = jnp.einsum("bcd,bld->bcl", query, history, preferred_element_type=jnp.float32)
    mixed, weights = pool(scores * self.width**-0.5, history, mask, self.normalize)
    mixed = dense("output", size)(dense("value", self.width)(mixed))
    return mixed + candidates if self.residual else mixed, weights
