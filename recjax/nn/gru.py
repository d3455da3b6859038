"""Gated recurrent units that step over padding as if it were not there, with and without attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.dense import Dense
from recjax.registry import unknown

EVOLUTIONS = ("aigru", "agru", "augru", "augru_code")


class GRU(nn.Module):
  """Gated recurrent unit (Cho et al. 2014, in the form with the reset gate after the product).

  r, z = sigmoid(x W + b + h U) for each of the two gates
  n    = tanh(x W_n + b_n + r * (h U_n + c_n))
  h'   = (1 - z) * n + z * h
  """

  width: int

  @nn.compact
  def __call__(self, inputs: jax.Array, mask: jax.Array) -> jax.Array:
    """States [B, L, width] after each of inputs [B, L, D], starting at zero.

    Where mask [B, L] is False the state is carried over unchanged, and the output is zero.
    """
    project, recurrent, bias = _weights(self, self.width)
    projected = project(inputs)

    def step(state, now):
      x, real = now
      update, new = _gates(state, x, recurrent, bias[None, :])
      state = jnp.where(real[:, None], (1 - update) * new + update * state, state)
      return state, state

    start = jnp.zeros((inputs.shape[0], self.width), projected.dtype)
    _, states = jax.lax.scan(step, start, (projected.swapaxes(0, 1), mask.T))
    return jnp.where(mask[:, :, None], states.swapaxes(0, 1), 0.0)


class AttentionalGRU(nn.Module):
  """A GRU steered by attention weights a in [0, 1], of each candidate to each input.

  With r, z and n of `GRU`, z being the share of the old state that is kept (Zhou et al., AAAI 2019,
  arXiv 1809.03672, has u = 1 - z):

  aigru        x <- a x
  agru         z <- 1 - a
  augru        1 - z <- a (1 - z)      a = 0 leaves the state as it is, a = 1 is a step of the GRU
  augru_code   z <- (1 - a) z          a = 0 is a step of the GRU, a = 1 forgets: the authors' code

  Attributes:
    width: of the state.
    kind: one of EVOLUTIONS.
  """

  width: int
  kind: str

  @nn.compact
  def __call__(self, inputs: jax.Array, mask: jax.Array, attention: jax.Array) -> jax.Array:
    """Last states [B, C, width] of inputs [B, L, D] under mask [B, L] and attention [B, C, L].

    Starts at zero, and stays there for an empty history. Inputs are projected once for all candidates.
    """
    if self.kind not in EVOLUTIONS:
      raise ConfigError(unknown("evolution", self.kind, EVOLUTIONS))
    project, recurrent, bias = _weights(self, self.width)
    projected, of_zero = project(inputs), project(jnp.zeros_like(inputs[:1, :1]))

    def step(state, now):
      x, real, weight = now
      x, weight = x[:, None], weight[:, :, None]
      if self.kind == "aigru":
        x = of_zero + weight * (x - of_zero)
      keep, new = _gates(state, x, recurrent, bias[None, None, :])
      if self.kind == "agru":
        keep = 1 - weight
      elif self.kind == "augru":
        keep = 1 - weight * (1 - keep)
      elif self.kind == "augru_code":
        keep = (1 - weight) * keep
      state = jnp.where(real[:, None, None], (1 - keep) * new + keep * state, state)
      return state, None

    start = jnp.zeros((*attention.shape[:2], self.width), projected.dtype)
    steps = (projected.swapaxes(0, 1), mask.T, jnp.moveaxis(attention, 2, 0).astype(projected.dtype))
    return jax.lax.scan(step, start, steps)[0]


def _weights(module: nn.Module, width: int):
  """Projection of the inputs [..., 3 width], recurrent matrix [width, 3 width], candidate's bias."""
  project = Dense(3 * width, name="input")
  orthogonal = nn.initializers.orthogonal()
  recurrent = module.param(
    "recurrent",
    lambda key: jnp.concatenate(
      [orthogonal(k, (width, width), jnp.float32) for k in jax.random.split(key, 3)], 1
    ),
  )
  return project, recurrent, module.param("candidate_bias", nn.initializers.zeros_init(), (width,))


def _gates(state, projected, recurrent, bias):
  """z, the share of the state to keep, and n; gates stand in the order reset, update, candidate."""
  x_reset, x_update, x_new = jnp.split(projected, 3, axis=-1)
  h_reset, h_update, h_new = jnp.split(state @ recurrent, 3, axis=-1)
  reset, update = jax.nn.sigmoid(x_reset + h_reset), jax.nn.sigmoid(x_update + h_update)
  return update, jnp.tanh(x_new + reset * (h_new + bias))
