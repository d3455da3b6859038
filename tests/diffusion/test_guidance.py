"""Guidance by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.diffusion.guidance import guided, guided_by_two, rescaled


@pytest.mark.parametrize("scale, expected", [(3, 1.1), (7.5, 2.45), (1, 0.5), (0, 0.2)])
def test_guided(scale, expected):
  np.testing.assert_allclose(guided(jnp.array([0.2]), jnp.array([0.5]), scale), expected, rtol=1e-6)


@pytest.mark.parametrize("user_scale, expected", [(0, 1.7), (1, 2.1), (2, 2.5), (4, 3.3)])
def test_two_scales(user_scale, expected):
  empty, text, user = (jnp.array([x]) for x in (0.1, 0.5, 0.9))
  np.testing.assert_allclose(guided_by_two(empty, text, user, 4, user_scale), expected, rtol=1e-6)


def test_rescaled_and_its_independence_of_the_batch():
  empty, text = jnp.array([[0.2, -0.1, 0.4]]), jnp.array([[0.5, 0.3, -0.2]])
  result = rescaled(guided(empty, text, 5), text, 0.7)
  np.testing.assert_allclose(result[0], [0.678768099711, 0.758623170266, -1.038115917205], rtol=1e-5)
  both = lambda x: jnp.concatenate([x, 100 * x])
  twice = rescaled(guided(both(empty), both(text), 5), both(text), 0.7)
  np.testing.assert_allclose(twice[0], result[0], rtol=1e-6)
