"""Pooling of states with weights that depend on the states alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense


def attention_pool(
  scores: jax.Array, states: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """States [..., N, D] averaged with softmax weights of scores [..., N] among mask [..., N].

  Returns [..., D] and the weights [..., N]; both exactly zero where nothing is real.
  """
  weights = masked_softmax(scores, mask)
  return jnp.einsum("...n,...nd->...d", weights.astype(states.dtype), states), weights


class AttentionPool(nn.Module):
  """Additive attention: scores w . tanh(W h + b) of every state h.

  W maps to the width `hidden`, or, where that is 0, to the width of the states.
  """

  hidden: int = 0

  @nn.compact
  def __call__(self, states: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pools states [..., N, D] under mask [..., N]; see `attention_pool`."""
    hidden = jnp.tanh(Dense(self.hidden or states.shape[-1], name="hidden")(states))
    scores = Dense(1, use_bias=False, name="score")(hidden)[..., 0]
    return attention_pool(scores, states, mask)
