"""The identity whose gradient is turned round: what trains features against a classifier on them."""

import functools

import jax


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def reverse_gradient(x: jax.Array, scale: float) -> jax.Array:
  """x [...] as it is; its gradient is multiplied by -scale (Ganin and Lempitsky, 2015)."""
  return x


def _forward(x, scale):
  return x, None


def _backward(scale, _, gradient):
  return (-scale * gradient,)


reverse_gradient.defvjp(_forward, _backward)
