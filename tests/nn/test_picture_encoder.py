"""The picture encoder: shapes, lengths, and what is in a picture rather than where."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.picture_encoder import PictureEncoder, patches


def test_any_leading_axes_lengths_and_shifts():
  module = PictureEncoder((4,), 3)
  pictures = np.zeros((2, 3, 10, 10), np.float32)
  pictures[:, :, 2:5, 2:5] = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
  rows = jnp.asarray(pictures.reshape(2, 3, 100))
  params = module.init(jax.random.key(0), rows)
  made = jax.jit(module.apply)(params, rows)
  assert made.shape == (2, 3, 3)
  np.testing.assert_allclose(np.linalg.norm(made, axis=-1), 1, atol=1e-4)
  np.testing.assert_allclose(module.apply(params, rows[1]), made[1], atol=1e-6)
  # Away from the edges one convolution of stride 1 and its largest value do not see a shift.
  moved = np.roll(pictures, (3, 2), (2, 3)).reshape(2, 3, 100)
  np.testing.assert_allclose(jax.jit(module.apply)(params, moved), made, atol=1e-5)
  slope = jax.grad(lambda p: module.apply(p, rows * 0).sum())(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_a_map_of_patches_is_a_convolution():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, 2)).astype(np.float32)
  for stride in (1, 2):
    got = np.asarray(patches(jnp.asarray(x), stride)) @ kernel.reshape(27, 2)
    for i in range(0, 5, stride):
      for j in range(0, 4, stride):
        value = sum(
          x[:, i + a - 1, j + b - 1] @ kernel[a, b]
          for a in range(3) for b in range(3)
          if 0 <= i + a - 1 < 5 and 0 <= j + b - 1 < 4
        )
        np.testing.assert_allclose(got[:, i // stride, j // stride], value, atol=1e-5)
