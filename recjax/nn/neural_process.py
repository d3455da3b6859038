"""Blocks of attentive neural processes: what a few observations say about a function elsewhere.

    h_c = MLP([obs_c, code_tc])                              tokens, one a target t and context c
    r_t = sum_c softmax_c(q_t . k_tc / sqrt(d)) V h_c         deterministic path
    s_t = mean_c h'_c,  g = ReLU(Dense(s_t))                  latent path, with tokens of its own
    z_t ~ N(Dense(g), (0.1 + 0.9 sigmoid(Dense(g)))^2)

Garnelo et al. 2018 (arXiv 1807.01622) and Kim et al., ICLR 2019 (arXiv 1901.05761). A target has
contexts of its own, told by a mask [B, T, C], and the code of a context may depend on the target
(its time relative to the moment asked for). No contexts at all give r = 0 and s = 0.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.errors import ConfigError
from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense


def fourier_code(times: jax.Array, frequencies: int) -> jax.Array:
  """[sin(2 pi f t), cos(2 pi f t)] for f = 1/2, 1, 3/2, ...; times [...] to [..., 2 frequencies]."""
  rates = np.pi * np.arange(1, frequencies + 1, dtype=np.float32)
  angles = times[..., None] * jnp.expand_dims(jnp.asarray(rates), tuple(range(times.ndim)))
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class TimeCode(nn.Module):
  """ReLU(Dense(fourier_code(times)))."""

  width: int
  frequencies: int = 8

  @nn.compact
  def __call__(self, times: jax.Array) -> jax.Array:
    """Times [...] to codes [..., width]."""
    return nn.relu(Dense(self.width)(fourier_code(times, self.frequencies)))


class ContextTokens(nn.Module):
  """Two ReLU layers over [observation, code]; what an observation alone gives is computed once."""

  width: int

  @nn.compact
  def __call__(self, observations: jax.Array, codes: jax.Array) -> jax.Array:
    """Observations [B, C, F] and codes [B, T, C, G] to tokens [B, T, C, width]."""
    of_observation = Dense(self.width, name="observation")(observations)
    of_code = Dense(self.width, use_bias=False, name="code")(codes)
    hidden = nn.relu(of_observation[:, None] + of_code)
    return nn.relu(Dense(self.width, name="output")(hidden))


class AttentivePath(nn.Module):
  """The deterministic path: multi-head attention of targets over their contexts.

  Keys are linear in codes and observations and values in tokens, so both maps move to the target's
  side of the attention, and nothing of size [B, T, C, D] is made here. `heads` must divide `width`.
  """

  width: int
  heads: int = 4

  def __post_init__(self):
    if self.heads < 1 or self.width % self.heads:
      raise ConfigError(f"{self.heads} heads cannot share the width {self.width} evenly.")
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    queries: jax.Array,
    observations: jax.Array,
    codes: jax.Array,
    tokens: jax.Array,
    mask: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """What the contexts say to each target.

    Args:
      queries: [B, T, Q].
      observations: [B, C, F], keys that do not depend on the target; F may be 0.
      codes: [B, T, C, G], keys that do.
      tokens: [B, T, C, W], values.
      mask: bool [B, T, C], the contexts of each target.

    Returns:
      [B, T, width], zero for a target without contexts, and the weights [B, T, heads, C].
    """
    part = self.width // self.heads
    split = lambda name, size: self.param(
      name, nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2)), (size, self.heads, part)
    )
    q = Dense(self.width, name="query")(queries).reshape(*queries.shape[:2], self.heads, part)
    q = q * np.float32(part**-0.5)
    toward_code = jnp.einsum("bthd,ghd->bthg", q, split("key_code", codes.shape[-1]))
    scores = jnp.einsum("bthg,btcg->bthc", toward_code, codes)
    if observations.shape[-1]:
      kernel = split("key_observation", observations.shape[-1])
      toward = jnp.einsum("bthd,fhd->bthf", q, kernel)
      scores = scores + jnp.einsum("bthf,bcf->bthc", toward, observations)
    weights = masked_softmax(scores, jnp.broadcast_to(mask[:, :, None], scores.shape))
    mixed = jnp.einsum("bthc,btcw->bthw", weights, tokens)
    values = jnp.einsum("bthw,whd->bthd", mixed, split("value", tokens.shape[-1]))
    return values.reshape(*queries.shape[:2], self.width), weights


class LatentPath(nn.Module):
  """The latent path: a diagonal Gaussian from the mean of tokens, deviations within (0.1, 1)."""

  width: int

  @nn.compact
  def __call__(self, summary: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation [..., width] from a summary [..., W], see `summarise`."""
    hidden = nn.relu(Dense((summary.shape[-1] + self.width) // 2, name="hidden")(summary))
    mean = Dense(self.width, name="mean")(hidden)
    return mean, deviation_of(Dense(self.width, name="deviation")(hidden))


def deviation_of(activation: jax.Array) -> jax.Array:
  """0.1 + 0.9 sigmoid(a): neither collapses nor explodes."""
  return 0.1 + 0.9 * jax.nn.sigmoid(activation)


def summarise(
  tokens: jax.Array, mask: jax.Array, more: jax.Array | None = None
) -> jax.Array:
  """Mean of the tokens [B, T, C, W] under mask [B, T, C], zero where there are none; [B, T, W].

  `more` [B, T, W] is one further token of each target, which turns a prior into a posterior.
  """
  real = mask.astype(tokens.dtype)
  total = jnp.einsum("btc,btcw->btw", real, tokens)
  count = jnp.sum(real, axis=-1)
  if more is not None:
    total, count = total + more, count + 1.0
  return total / jnp.maximum(count, 1.0)[..., None]


def wasserstein(
  mean_p: jax.Array, deviation_p: jax.Array, mean_q: jax.Array, deviation_q: jax.Array
) -> jax.Array:
  """Squared 2-Wasserstein distance of diagonal Gaussians [..., Z], summed over Z; [...]."""
  return jnp.sum((mean_p - mean_q) ** 2 + (deviation_p - deviation_q) ** 2, axis=-1)


def gaussian_kl(
  mean_p: jax.Array, deviation_p: jax.Array, mean_q: jax.Array, deviation_q: jax.Array
) -> jax.Array:
  """KL(p || q) of diagonal Gaussians [..., Z] in nats, summed over Z; [...]."""
  ratio = (deviation_p / deviation_q) ** 2
  shift = ((mean_p - mean_q) / deviation_q) ** 2
  return 0.5 * jnp.sum(ratio + shift - 1.0 - jnp.log(ratio), axis=-1)


def attention_entropy(weights: jax.Array) -> jax.Array:
  """Entropy in nats of weights [..., C], the zeros of padding left out; [...]."""
  return -jnp.sum(jax.scipy.special.xlogy(weights, jnp.maximum(weights, 1e-30)), axis=-1)
