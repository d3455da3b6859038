"""Guidance: predictions with and without a condition, combined to follow the condition more closely.

Ho and Salimans, 2022, arXiv 2207.12598. All functions work on predictions [B, ...] of one kind.
"""

import jax
import jax.numpy as jnp


def guided(empty: jax.Array, conditional: jax.Array, scale: float | jax.Array) -> jax.Array:
  """empty + scale (conditional - empty): 0 ignores the condition, 1 is the plain conditional."""
  return empty + scale * (conditional - empty)


def guided_by_two(
  empty: jax.Array,
  text: jax.Array,
  user: jax.Array,
  text_scale: float | jax.Array,
  user_scale: float | jax.Array,
) -> jax.Array:
  """Separate scales for the text and, on top of it, the user; user_scale 0 leaves the user out.

  Args:
    empty: prediction without any condition.
    text: prediction given the text.
    user: prediction given text and user.
    text_scale: of the step from empty to text.
    user_scale: of the step from text to user.
  """
  return empty + text_scale * (text - empty) + user_scale * (user - text)


def rescaled(guidance: jax.Array, conditional: jax.Array, share: float) -> jax.Array:
  """`guidance` mixed, by `share`, with itself at the standard deviation of `conditional`.

  Deviations are those of each sample, so that a sample does not depend on its batch.
  """
  axes = tuple(range(1, guidance.ndim))
  deviation = lambda x: jnp.std(x, axis=axes, keepdims=True)
  scaled = guidance * deviation(conditional) / (deviation(guidance) + 1e-9)
  return share * scaled + (1 - share) * guidance
