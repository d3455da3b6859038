"""Normalisation of features over a batch that may hold padding."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.registry import unknown

NORMS = ("none", "affine", "batch", "layer")


class Moments(nn.Module):
  """Mean and biased variance of each feature over the real entries of a batch.

  In training those of the batch, through which gradients flow; running averages of them, kept in
  the collection `batch_stats`, are moved by 1 - momentum. Otherwise the running averages, so that a
  score does not depend on what else is in the batch. A batch without real entries moves nothing.
  Under jit over a mesh the batch is the global one.

  The first 1 / (1 - momentum) batches weigh the same, so that where the averages begin, mean 0 and
  variance 1, is forgotten at once: after 150 steps at a momentum of .99, a fifth of it would still be
  in the average of a feature of small variance.
  """

  momentum: float = 0.99

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [F] of x [..., F] where mask [...] is True."""
    features = x.shape[-1:]
    mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
    variance = self.variable("batch_stats", "variance", jnp.ones, features, jnp.float32)
    steps = self.variable("batch_stats", "steps", jnp.zeros, (), jnp.float32)
    if not train:
      return mean.value, variance.value
    axes = tuple(range(x.ndim - 1))
    real = jnp.broadcast_to(mask, x.shape[:-1])[..., None].astype(jnp.float32)
    x = x.astype(jnp.float32)
    count = jnp.sum(real)
    batch_mean = jnp.sum(x * real, axes) / jnp.maximum(count, 1.0)
    centred = (x - jnp.expand_dims(batch_mean, axes)) * real
    batch_variance = jnp.sum(jnp.square(centred), axes) / jnp.maximum(count, 1.0)
    if not self.is_initializing():
      real_batch = (count > 0).astype(jnp.float32)
      steps.value += real_batch
      rate = real_batch * jnp.maximum(1.0 - self.momentum, 1.0 / jnp.maximum(steps.value, 1.0))
      mean.value += rate * (jax.lax.stop_gradient(batch_mean) - mean.value)
      variance.value += rate * (jax.lax.stop_gradient(batch_variance) - variance.value)
    return batch_mean, batch_variance


class Normalize(nn.Module):
  """One of NORMS over the last axis: nothing, a learned scale and shift, or batch or layer norm.

  "affine" is what published click models get from a batch norm whose running statistics are never
  updated.
  """

  kind: str

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    """x [..., F] normalised; "batch" counts only the entries where mask [...] is True."""
    if self.kind == "none":
      return x
    if self.kind == "layer":
      return nn.LayerNorm(name="layer")(x)
    if self.kind not in NORMS:
      raise ConfigError(unknown("norm", self.kind, NORMS))
    axes = tuple(range(x.ndim - 1))
    if self.kind == "batch":
      mean, variance = Moments(name="moments")(x, mask, train=train)
      x = x - jnp.expand_dims(mean, axes)
      x = x * jnp.expand_dims(jax.lax.rsqrt(variance + 1e-5), axes)
    scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:], jnp.float32)
    shift = self.param("shift", nn.initializers.zeros_init(), x.shape[-1:], jnp.float32)
    return x * jnp.expand_dims(scale, axes) + jnp.expand_dims(shift, axes)
