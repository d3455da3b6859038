"""Diffusion-DPO by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses.diffusion_preference import diffusion_dpo, noise_error


def pair(*values):
  return tuple(jnp.array([v], jnp.float32) for v in values)


def test_published_constants_by_hand():
  loss, inside = diffusion_dpo(*pair(0.1, 0.12, 0.1003, 0.1199), 2500.0)
  np.testing.assert_allclose(inside, 1.0, rtol=2e-4)
  np.testing.assert_allclose(loss, 0.3132616875182338, rtol=2e-4)
  slope = jax.grad(lambda m: diffusion_dpo(m, *pair(0.12, 0.1003, 0.1199), 2500.0)[0].sum())
  np.testing.assert_allclose(slope(jnp.array([0.1])), 672.3535534249878, rtol=2e-4)


def test_sum_over_dimensions_by_hand():
  total = lambda *errors: diffusion_dpo(*errors, 2.0)[0].sum()
  errors = pair(0.9, 1.3, 1.0, 1.2)
  np.testing.assert_allclose(total(*errors), 0.5130152523999526, rtol=1e-6)
  slopes = jax.grad(total, argnums=(0, 1, 2, 3))(*errors)
  np.testing.assert_allclose(slopes[0], 0.8026246797750958, rtol=1e-6)
  np.testing.assert_allclose(slopes[1], -0.8026246797750958, rtol=1e-6)
  assert slopes[2] == slopes[3] == 0


def test_reference_itself_gives_ln_2_and_swapping_a_pair_its_mirror():
  errors = pair(0.4, 0.7, 0.4, 0.7)
  np.testing.assert_allclose(diffusion_dpo(*errors, 9.0)[0], np.log(2), rtol=1e-7)
  w, l, rw, rl = pair(0.9, 1.3, 1.0, 1.2)
  (one, inside), (other, mirrored) = diffusion_dpo(w, l, rw, rl, 2.0), diffusion_dpo(l, w, rl, rw, 2.0)
  np.testing.assert_array_equal(inside, -mirrored)
  assert one + other >= 2 * np.log(2)


def test_error_is_a_mean_over_all_dimensions():
  noise = jnp.arange(12.0).reshape(2, 3, 2)
  np.testing.assert_allclose(noise_error(noise, jnp.zeros_like(noise)), [55 / 6, 451 / 6])
