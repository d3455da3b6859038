"""The block of Transformers over histories: self-attention and a feed-forward network."""

from collections.abc import Callable

import flax.linen as nn
import jax

from recjax.nn.attention import HistoryAttention
from recjax.nn.dense import Dense
from recjax.nn.dropout import Dropout

LAYOUTS = ("pre", "post", "original")


class EncoderBlock(nn.Module):
  """Attention and Dense-activation-Dense with their residual sums, in one of LAYOUTS.

    pre        x <- x + Attention(LN(x));  x <- x + FFN(LN(x))
    post       x <- LN(x + Attention(x));  x <- LN(x + FFN(x))
    original   q = LN(x);  y = LN(q + Attention(q, x));  y + FFN(y), as in SASRec's code

  Every sub-layer's output and the attention weights are dropped out.

  Attributes:
    heads: of the attention; must divide the width.
    hidden: width within the feed-forward network.
    dropout: rate in training.
    norm: one of LAYOUTS.
    causal: whether a position sees no later one.
    activation: of the feed-forward network; its result is dropped out, too.
    epsilon: added to variances by the layer norms.
  """

  heads: int
  hidden: int
  dropout: float
  norm: str = "pre"
  causal: bool = True
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  epsilon: float = 1e-6

  @nn.compact
  def __call__(
    self, x: jax.Array, mask: jax.Array, *, train: bool, newest: int | None = None
  ) -> jax.Array:
    """x [B, L, D] and mask [B, L] to [B, L, D], or to the newest positions [B, newest, D] alone."""
    attention = HistoryAttention(self.heads, self.dropout, causal=self.causal, name="attention")
    attention_norm = nn.LayerNorm(self.epsilon, name="attention_norm")
    ffn_norm = nn.LayerNorm(self.epsilon, name="ffn_norm")

    def drop(y):
      return Dropout(self.dropout, deterministic=not train)(y)

    def ffn(y):
      y = drop(self.activation(Dense(self.hidden, name="ffn_in")(y)))
      return drop(Dense(x.shape[-1], name="ffn_out")(y))

    wanted = lambda y: y if newest is None else y[:, -newest:]
    if self.norm == "original":
      normed = attention_norm(wanted(x))
      y = ffn_norm(normed + attention(normed, x, mask, train=train))
      return y + ffn(y)
    if self.norm == "post":
      own = wanted(x)
      own = attention_norm(own + drop(attention(own, x, mask, train=train)))
      return ffn_norm(own + ffn(own))
    normed = attention_norm(x)
    x = wanted(x) + drop(attention(wanted(normed), normed, mask, train=train))
    return x + ffn(ffn_norm(x))
