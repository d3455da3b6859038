"""Binary cross-entropy: numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses.binary import binary_cross_entropy


def test_hand_numbers():
  logits, labels = jnp.array([0.0, 2.0, -1.0]), jnp.array([1.0, 0.0, 1.0])
  each = np.array([0.6931472, 2.1269280, 1.3132617])
  loss, weight = binary_cross_entropy(logits, labels, jnp.array([1.0, 2.0, 0.0]))
  np.testing.assert_allclose(loss, each[0] + 2 * each[1], rtol=1e-6)
  assert weight == 3
  np.testing.assert_allclose(
    binary_cross_entropy(logits, labels, jnp.ones(3))[0], each.sum(), rtol=1e-6
  )


def test_large_logits_stay_finite():
  def f(z):
    return binary_cross_entropy(z, jnp.array([0.0, 1.0]), jnp.ones(2))[0]

  value, slope = jax.value_and_grad(f)(jnp.array([1e4, 1e4]))
  assert value == 1e4
  np.testing.assert_allclose(slope, [1.0, 0.0])


def test_gradient_is_probability_minus_label():
  def f(z):
    return binary_cross_entropy(z, jnp.array([1.0, 0.0]), jnp.array([3.0, 1.0]))[0]

  np.testing.assert_allclose(jax.grad(f)(jnp.zeros(2)), [-1.5, 0.5])
