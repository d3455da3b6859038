"""Self-attention over histories whose padding may be anywhere."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dropout import Dropout


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax over the last axis of scores [..., N] among the entries of mask (same shape).

  An empty mask gives weights of exactly zero and a zero gradient, never NaN.
  """
  scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  return jnp.where(mask, jax.nn.softmax(scores, axis=-1), 0.0)


class CausalSelfAttention(nn.Module):
  """Multi-head scaled dot-product attention in which no position sees a later one or padding.

  `heads` must divide the width. Weights are computed in float32 and dropped out at rate `dropout`.
  With `project` the heads' results are mapped once more. Callers that make the collection
  `intermediates` mutable find the `weights` [B, heads, L, L] there, before dropout.
  """

  heads: int
  dropout: float = 0.0
  project: bool = True
  kernel_init: Callable[..., jax.Array] = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self, queries: jax.Array, values: jax.Array, mask: jax.Array, *, train: bool
  ) -> jax.Array:
    """Attends from queries [B, L, D] to values [B, L, D] where mask [B, L]; returns [B, L, D].

    A position before the first real one has nothing to attend to: what it gets is zero, or with
    `project` the output bias.
    """
    batch, length, width = queries.shape

    def split(name, inputs):
      dense = nn.Dense(width, kernel_init=self.kernel_init, name=name)
      return dense(inputs).reshape(batch, length, self.heads, -1)

    q, k, v = split("query", queries), split("key", values), split("value", values)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    scores = scores * (width // self.heads) ** -0.5
    causal = jnp.tril(jnp.ones((length, length), bool))
    allowed = causal[None, None] & mask[:, None, None, :]
    weights = masked_softmax(scores, jnp.broadcast_to(allowed, scores.shape))
    self.sow("intermediates", "weights", weights)
    weights = Dropout(self.dropout, deterministic=not train)(weights).astype(v.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, width)
    if not self.project:
      return mixed
    return nn.Dense(width, kernel_init=self.kernel_init, name="output")(mixed)
