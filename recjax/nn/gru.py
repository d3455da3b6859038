"""A gated recurrent unit that steps over padding as if it were not there."""

import flax.linen as nn
import jax
import jax.numpy as jnp


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
    projected = nn.Dense(3 * self.width, name="input")(inputs)
    orthogonal = nn.initializers.orthogonal()
    recurrent = self.param(
      "recurrent",
      lambda key: jnp.concatenate(
        [orthogonal(k, (self.width, self.width), jnp.float32) for k in jax.random.split(key, 3)], 1
      ),
    )
    bias = self.param("candidate_bias", nn.initializers.zeros_init(), (self.width,))

    def step(state, now):
      x, real = now
      x_reset, x_update, x_new = jnp.split(x, 3, axis=-1)
      h_reset, h_update, h_new = jnp.split(state @ recurrent, 3, axis=-1)
      reset = jax.nn.sigmoid(x_reset + h_reset)
      update = jax.nn.sigmoid(x_update + h_update)
      new = jnp.tanh(x_new + reset * (h_new + bias[None, :]))
      state = jnp.where(real[:, None], (1 - update) * new + update * state, state)
      return state, state

    start = jnp.zeros((inputs.shape[0], self.width), projected.dtype)
    _, states = jax.lax.scan(step, start, (projected.swapaxes(0, 1), mask.T))
    return jnp.where(mask[:, :, None], states.swapaxes(0, 1), 0.0)
