"""The three layers of a Stage C block: convolution, time, attention.

    C   x + W_2 grn(gelu(W_1 [norm(depthwise 3x3 (x)); skip]))
        grn(h) = gamma (h n) + beta + h,  n = g / (mean over channels of g + 1e-6),  g = |h| over H, W
    T   x (1 + a) + b,  (a, b) = sum over conditions of W_c emb_c
    A   x + W_o attention(q = z, k = v = [z, W silu(clip)]),  z = norm(x) as H W tokens

Normalisation has no parameters, eps 1e-6; gelu is the exact one. In A the image attends to itself and
to the condition in one softmax. A branch of an `Extra` is added before W_o, from the same queries, with
a softmax of its own. Pernias et al., ICLR 2024, arXiv 2306.00637 (Würstchen); layers as in the code of
Stable Cascade. Samples are [B, H, W, C]; a 1x1 convolution is a `Dense` over channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.diffusion.host import Added
from recjax.nn.decoupled_attention import decoupled_attention
from recjax.nn.dense import Dense

xavier = nn.initializers.xavier_uniform()
scaled_xavier = lambda scale: nn.initializers.variance_scaling(scale, "fan_avg", "uniform")


def norm(x: jax.Array) -> jax.Array:
  """x over its last axis with mean 0 and variance 1; statistics in float32."""
  wide = x.astype(jnp.float32)
  wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


class ResponseNorm(nn.Module):
  """Global response normalisation: channels compete by their norm over the image."""

  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to the same; the norms in float32."""
    weight = lambda name: self.param(name, nn.initializers.zeros, (x.shape[-1],)).astype(self.dtype)
    squares = jnp.sum(x.astype(jnp.float32) ** 2, axis=(1, 2), keepdims=True)
    # The inner `where` keeps the gradient of an all-zero channel finite.
    response = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    share = response / (jnp.mean(response, axis=-1, keepdims=True) + 1e-6)
    along = lambda v: v[None, None, None, :]
    return along(weight("gamma")) * (x * share.astype(x.dtype)) + along(weight("beta")) + x


class Convolution(nn.Module):
  """Layer C."""

  depth: int  # blocks of the way down, for the initial scale
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, skip: jax.Array | None = None) -> jax.Array:
    """x [B, H, W, C], skip of the same shape or none; returns x's shape."""
    width = x.shape[-1]
    h = nn.Conv(
      width, (3, 3), padding=1, feature_group_count=width,
      dtype=self.dtype, kernel_init=xavier, name="depthwise",
    )(x)
    h = norm(h)
    if skip is not None:
      h = jnp.concatenate([h, skip], axis=-1)
    h = Dense(4 * width, dtype=self.dtype, kernel_init=xavier, name="widen")(h)
    h = ResponseNorm(self.dtype, name="response")(jax.nn.gelu(h, approximate=False))
    init = scaled_xavier(1 / self.depth)
    return x + Dense(width, dtype=self.dtype, kernel_init=init, name="narrow")(h)


class Time(nn.Module):
  """Layer T."""

  names: Sequence[str]  # of the conditions
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, embeddings: Sequence[jax.Array]) -> jax.Array:
    """x [B, H, W, C], one embedding [B, E] for each name; returns x's shape."""
    total = 0.0
    for name, embedding in zip(self.names, embeddings, strict=True):
      dense = Dense(
        2 * x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros, name=name
      )
      total = total + dense(embedding)
    scale, shift = jnp.split(total[:, None, None, :], 2, axis=-1)
    return x * (1 + scale) + shift


class Attention(nn.Module):
  """Layer A."""

  heads: int
  site: str  # name under which an `Extra` has keys and values for this layer
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, clip: jax.Array, extra: Added) -> jax.Array:
    """x [B, H, W, C], clip [B, L, D]; returns x's shape."""
    batch, *_, width = x.shape
    # Query, key and value are one matrix in the published weights, with its fan out of 3 C.
    project = lambda name, init=xavier: Dense(width, dtype=self.dtype, kernel_init=init, name=name)
    joint = lambda name: project(name, scaled_xavier(0.5))
    image = norm(x).reshape(batch, -1, width)
    both = jnp.concatenate([image, project("condition")(jax.nn.silu(clip))], axis=1)
    mixed = decoupled_attention(
      joint("query")(image), joint("key")(both), joint("value")(both), self.heads, self.site, extra
    )
    return x + project("output")(mixed).reshape(x.shape)


class Block(nn.Module):
  """C, T and A."""

  heads: int
  depth: int
  conditions: Sequence[str]
  dtype: Any

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    skip: jax.Array | None,
    embeddings: Sequence[jax.Array],
    clip: jax.Array,
    extra: Added,
  ) -> jax.Array:
    """x [B, H, W, C] to the same shape; see the layers. The site is this module's name."""
    x = Convolution(self.depth, self.dtype, name="convolution")(x, skip)
    x = Time(self.conditions, self.dtype, name="time")(x, embeddings)
    return Attention(self.heads, self.name, self.dtype, name="attention")(x, clip, extra)
