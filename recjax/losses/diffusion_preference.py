"""Preferences between two samples of a diffusion network: Diffusion-DPO.

Wallace et al., CVPR 2024, arXiv 2311.12908. With m the squared error of the noise prediction of the
network in training and r that of the frozen reference, on winner w and loser l of a pair,

    inside = -strength ((m_w - m_l) - (r_w - r_l)),   loss = -log sigmoid(inside)

Both samples of a pair share time and noise. In the authors' code m is a mean over dimensions and
strength = 2500 (beta 5000 times one half); with a sum over d dimensions it is 2500 / d.
"""

import jax
import jax.numpy as jnp


def noise_error(noise: jax.Array, predicted: jax.Array) -> jax.Array:
  """Mean squared error [B] over all dimensions but the first."""
  error = jnp.square(noise.astype(jnp.float32) - predicted.astype(jnp.float32))
  return jnp.mean(error, axis=tuple(range(1, error.ndim)))


def diffusion_dpo(
  winner: jax.Array,
  loser: jax.Array,
  reference_winner: jax.Array,
  reference_loser: jax.Array,
  strength: float,
) -> tuple[jax.Array, jax.Array]:
  """Losses [B] and what is inside the sigmoid [B], from four errors [B].

  The reference gets no gradient. inside > 0 means that the pair is ordered as its label says.
  """
  reference = jax.lax.stop_gradient(reference_winner - reference_loser)
  inside = -strength * ((winner - loser) - reference)
  return jax.nn.softplus(-inside), inside
