"""The contrast of all nodes: by hand, against obvious loops, and in blocks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses.node_contrast import node_contrast

ALL = np.ones(2, bool)


def twin(anchors, views, valid, temperature, times=1.0):
  """The formula in float64 with loops; `times` multiplies the sums over others."""
  unit = lambda x: x / (np.linalg.norm(x) or 1.0)
  f = lambda a, b: math.exp(float(unit(a) @ unit(b)) / temperature)
  nodes = np.flatnonzero(valid)
  losses = []
  for i in nodes:
    own = f(anchors[i], views[i])
    rest = sum(f(anchors[i], anchors[j]) + f(anchors[i], views[j]) for j in nodes if j != i)
    losses.append(-math.log(own / (own + times * rest)))
  return np.mean(losses)


def random(seed, count=13):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(2, count, 4)), rng.random(count) < 0.8


def test_two_nodes_by_hand():
  value = node_contrast(jnp.eye(2), jnp.eye(2), ALL, 1.0)
  np.testing.assert_allclose(value, 0.5514447, rtol=1e-6)  # log((e + 2) / e)


@pytest.mark.parametrize("block", [1, 5, 13, 1024])
def test_equals_the_loops_in_blocks_of_any_size(block):
  (anchors, views), valid = random(0)
  value = node_contrast(jnp.asarray(anchors), jnp.asarray(views), valid, 0.4, block=block)
  np.testing.assert_allclose(value, twin(anchors, views, valid, 0.4), rtol=1e-5)


def test_gradients_do_not_depend_on_blocks_nor_reach_what_is_not_valid():
  (anchors, views), valid = random(1)

  def gradients(block):
    loss = functools.partial(node_contrast, valid=valid, temperature=0.3, block=block)
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(jnp.asarray(anchors), jnp.asarray(views))

  for whole, parts in zip(gradients(13), gradients(4), strict=True):
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    assert not np.asarray(whole)[~valid].any() and np.abs(whole[valid]).max() > 1e-3


def test_lengths_do_not_matter_and_zero_is_no_nan():
  (anchors, views), valid = random(2)
  valid[0] = True
  loss = functools.partial(node_contrast, valid=valid, temperature=0.5)
  scale = np.random.default_rng(3).uniform(0.1, 9.0, (2, 13, 1))
  np.testing.assert_allclose(
    loss(jnp.asarray(anchors), jnp.asarray(views)),
    loss(jnp.asarray(anchors * scale[0]), jnp.asarray(views * scale[1])), rtol=1e-5,
  )
  views[0] = 0.0
  value, gradient = jax.value_and_grad(lambda v: loss(jnp.asarray(anchors), v))(jnp.asarray(views))
  np.testing.assert_allclose(value, twin(anchors, views, valid, 0.5), rtol=1e-5)
  assert np.isfinite(gradient).all()


def test_a_sample_is_corrected_for_the_pool():
  (anchors, views), valid = random(4)
  value = node_contrast(jnp.asarray(anchors), jnp.asarray(views), valid, 0.4, pool=101)
  times = 100.0 / (valid.sum() - 1)
  np.testing.assert_allclose(value, twin(anchors, views, valid, 0.4, times), rtol=1e-5)
