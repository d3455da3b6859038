"""Activations of click models: PReLU and the data-adaptive Dice."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.normalize import Moments
from recjax.registry import unknown

ACTIVATIONS = ("sigmoid", "relu", "prelu", "dice", "dice_layer")


class Activation(nn.Module):
  """One of ACTIVATIONS, with one slope `alpha` a feature where the kind learns one.

  prelu   f(s) = p s + (1 - p) alpha s with p = [s > 0]; alpha starts at 0.25
  dice    the same with p = sigmoid((s - E[s]) / sqrt(Var[s] + 1e-8)), E and Var as in `Moments`;
          alpha starts at 0 (Zhou et al., KDD 2018, arXiv 1706.06978)
  dice_layer   the same with E and Var over the features of each entry, and 1e-12 added to Var; alpha
          starts at -0.25 (the code of Wu et al., 2025, arXiv 2512.07216)
  """

  kind: str

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    """x [..., F] to its shape; Dice's statistics are over the entries where mask [...] is True."""
    if self.kind == "sigmoid":
      return jax.nn.sigmoid(x)
    if self.kind == "relu":
      return jax.nn.relu(x)
    axes = tuple(range(x.ndim - 1))
    if self.kind == "dice_layer":
      wide = x.astype(jnp.float32)
      centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
      variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
      gate = jax.nn.sigmoid(centred * jax.lax.rsqrt(variance + 1e-12)).astype(x.dtype)
      start = -0.25
    elif self.kind == "prelu":
      gate, start = (x > 0).astype(x.dtype), 0.25
    elif self.kind == "dice":
      mean, variance = Moments(name="moments")(x, mask, train=train)
      scale = jnp.expand_dims(jax.lax.rsqrt(variance + 1e-8), axes)
      gate, start = jax.nn.sigmoid((x - jnp.expand_dims(mean, axes)) * scale).astype(x.dtype), 0.0
    else:
      raise ConfigError(unknown("activation", self.kind, ACTIVATIONS))
    alpha = self.param("alpha", nn.initializers.constant(start), x.shape[-1:], jnp.float32)
    return x * (gate + (1 - gate) * jnp.expand_dims(alpha, axes).astype(x.dtype))
