"""Users as tokens, and the branch that shows them to a frozen network.

Tokens [B, L, D] with a mask [B, L] come from an encoder; `UserBranch` makes keys and values of them for
every attention site of a host. Both value maps start at zero, so the network starts as it was.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.models.learner import Batch
from recjax.nn.decoupled_attention import Extra
from recjax.nn.dense import Dense


class PairEncoder(nn.Module):
  """Past comparisons to one token each: an MLP on both samples, their difference and the prompt.

  The way to users without a vision-language model; trained together with the branch.
  """

  width: int
  hidden: int

  @nn.compact
  def __call__(self, batch: Batch) -> jax.Array:
    """Tokens [B, N, width] of support_winner and support_loser [B, N, H, W, C] and their prompts."""
    winner, loser = batch["support_winner"], batch["support_loser"]
    flat = lambda x: x.reshape(*x.shape[:2], -1)
    prompts = [flat(x) for name, x in sorted(batch.items()) if name.startswith("support_text_")]
    x = jnp.concatenate([flat(winner), flat(loser), flat(winner - loser), *prompts], axis=-1)
    x = nn.gelu(Dense(self.hidden, name="hidden")(x))
    return Dense(self.width, name="output")(x)


class UserBranch(nn.Module):
  """Tokens [B, L, D] to keys and values at every site, without bias: a zero token adds nothing.

  Attributes:
    sites: attention sites with their widths.
    projection: width of a layer norm and linear map before, shared by all sites; 0 = none.
    positions: add to each token, after the projection, what it learns for its place.
  """

  sites: Mapping[str, int]
  projection: int = 0
  positions: bool = False

  @nn.compact
  def __call__(self, tokens: jax.Array, mask: jax.Array) -> Extra:
    """The branch for tokens that count where mask [B, L]."""
    if self.projection:
      tokens = Dense(self.projection, name="projection")(nn.LayerNorm(name="norm")(tokens))
    if self.positions:
      shape = (1, *tokens.shape[1:])
      tokens = tokens + self.param("position", nn.initializers.normal(0.02), shape, jnp.float32)
    maps = lambda part, start: {
      site: Dense(width, use_bias=False, kernel_init=start, name=f"{site}_{part}")(tokens)
      for site, width in self.sites.items()
    }
    keys = maps("key", nn.initializers.lecun_normal())
    return Extra(keys, maps("value", nn.initializers.zeros), mask)


def drop_tokens(mask: jax.Array, key: jax.Array, rate: float) -> jax.Array:
  """The mask [B, L] without a drawn share of tokens; a user's last one stays."""
  kept = mask & jax.random.bernoulli(key, 1.0 - rate, mask.shape)
  return jnp.where(jnp.any(kept, axis=1, keepdims=True), kept, mask)


def with_null(
  tokens: jax.Array, mask: jax.Array, null: jax.Array | None, absent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Tokens and mask with users who are `absent` [B], or have no token, replaced by the null user.

  Args:
    tokens: [B, L, D].
    mask: [B, L].
    null: learned tokens [N, D], put behind the user's own; None leaves such users without tokens.
    absent: bool [B].
  """
  gone = (absent | ~jnp.any(mask, axis=1))[:, None]
  mask = mask & ~gone
  if null is None:
    return tokens, mask
  both = jnp.concatenate([tokens, jnp.broadcast_to(null, (len(tokens), *null.shape))], axis=1)
  shown = jnp.broadcast_to(gone, (len(tokens), null.shape[0]))
  return both, jnp.concatenate([mask, shown], axis=1)
