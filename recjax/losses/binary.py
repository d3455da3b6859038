"""Binary cross-entropy from logits, as a sum and its weight."""

import jax
import jax.numpy as jnp


def binary_cross_entropy(
  logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sum of w (softplus(z) - y z) in nats, and the sum of w; all three arguments have one shape.

  Labels may be any probability in [0, 1]. Where the weight is zero, label and logit have no effect.
  """
  logits = logits.astype(jnp.float32)
  weights = weights.astype(jnp.float32)
  losses = jax.nn.softplus(logits) - labels.astype(jnp.float32) * logits
  return jnp.sum(weights * losses), jnp.sum(weights)
