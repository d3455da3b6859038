"""What self-attention over a history starts from: scaled item vectors and learned positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.dropout import Dropout
from recjax.nn.tables import take


def sequence_input(
  module: nn.Module,
  table: jax.Array,
  ids: jax.Array,
  mask: jax.Array,
  *,
  length: int,
  stddev: float,
  dropout: float,
  train: bool,
) -> jax.Array:
  """dropout(sqrt(D) E[i] + P), zero at padding: [B, L, D].

  Args:
    module: in whose compact method this is called; it gets the parameter `position`.
    table: E [V, D].
    ids: [B, L], the newest L positions of a history.
    mask: bool [B, L], real ones.
    length: of the longest history, at least L; the last position is the newest event's.
    stddev: of the initial positions.
    dropout: rate in training.
    train: whether to drop out.
  """
  width = table.shape[-1]
  positions = module.param(
    "position", nn.initializers.normal(stddev), (length, width), jnp.float32
  )[-ids.shape[1] :]
  x = take(table, ids) * np.float32(width**0.5) + positions[None]
  x = Dropout(dropout, deterministic=not train)(x)
  return x * mask[:, :, None].astype(jnp.float32)
