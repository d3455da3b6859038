"""Dropout: shares, means, streams, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.dropout import Dropout


def drop(x, rate, seed=0, **options):
  return Dropout(rate, **options).apply({}, x, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize(("rate", "dropped"), [(0.25, 64), (0.3, 77), (0.9, 230), (0.0001, 1)])
def test_share_and_scale_are_those_of_the_rounded_rate(rate, dropped):
  y = np.asarray(drop(jnp.ones((512, 515)), rate))
  kept = (256 - dropped) / 256
  assert set(np.unique(y)) == {np.float32(0), np.float32(1 / kept)}
  error = np.sqrt(kept * (1 - kept) / y.size)
  assert abs((y > 0).mean() - kept) < 4 * error


def test_entries_are_dropped_independently():
  kept = (np.asarray(drop(jnp.ones((4096, 8)), 0.5)) > 0).astype(float)
  correlations = np.corrcoef(kept.T) - np.eye(8)  # four neighbours share a word
  assert np.abs(correlations).max() < 5 / np.sqrt(4096)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7])
def test_any_width(width):
  y = np.asarray(drop(jnp.ones((400, width)), 0.5))
  assert y.shape == (400, width)
  assert np.all((y > 0).mean(axis=0) > 0.3)


def test_kinds_of_numbers_stay():
  for kind in (jnp.float32, jnp.bfloat16):
    assert drop(jnp.ones((4, 4), kind), 0.5).dtype == kind


def test_gradients_pass_where_values_do():
  x = jnp.arange(1.0, 65.0).reshape(8, 8)
  y = drop(x, 0.5)
  slope = jax.grad(lambda x: drop(x, 0.5).sum())(x)
  np.testing.assert_array_equal(slope, np.where(y > 0, 2.0, 0.0))


def test_seeds_differ_and_repeat():
  x = jnp.ones((16, 16))
  np.testing.assert_array_equal(drop(x, 0.5), drop(x, 0.5))
  assert not np.array_equal(drop(x, 0.5), drop(x, 0.5, seed=1))


def test_ends_of_the_range():
  x = jnp.ones((4, 4))
  assert drop(x, 0.0) is x
  assert Dropout(0.5, deterministic=True).apply({}, x) is x
  assert not np.any(drop(jnp.full((4, 4), jnp.inf), 1.0))
