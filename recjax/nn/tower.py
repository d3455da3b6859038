"""The multi-layer perceptron on top of click models."""

import flax.linen as nn
import jax

from recjax.nn.activations import Activation
from recjax.nn.dense import Dense
from recjax.nn.dropout import Dropout
from recjax.nn.normalize import Normalize


class CTRTower(nn.Module):
  """norm -> (Dense -> activation -> dropout) for each hidden width -> Dense(1), a logit.

  Attributes:
    hidden: widths.
    activation: one of `activations.ACTIVATIONS`.
    norm: one of `normalize.NORMS`, of the input.
    dropout: rate after each hidden layer.
  """

  hidden: tuple[int, ...]
  activation: str
  norm: str
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    """Logits [...] for x [..., F]; batch statistics are over the entries where mask [...]."""
    x = Normalize(self.norm, name="norm")(x, mask, train=train)
    for index, width in enumerate(self.hidden):
      x = Dense(width, kernel_init=nn.initializers.glorot_uniform(), name=f"dense_{index}")(x)
      x = Activation(self.activation, name=f"activation_{index}")(x, mask, train=train)
      x = Dropout(self.dropout, deterministic=not train)(x)
    return Dense(1, kernel_init=nn.initializers.glorot_uniform(), name="logit")(x)[..., 0]
