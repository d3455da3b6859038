"""Causal attention: guarded empty rows, causality, padding, a NumPy twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.attention import HistoryAttention, SelfAttention, masked_softmax


def test_masked_softmax_hand_numbers():
  weights = masked_softmax(jnp.array([0.5, -0.2, 1.0]), jnp.array([True, True, False]))
  np.testing.assert_allclose(weights, [0.668188, 0.331812, 0.0], atol=1e-6)


def test_masked_softmax_of_nothing_is_zero_with_zero_gradient():
  def total(scores):
    return jnp.sum(masked_softmax(scores, jnp.zeros((2, 3), bool)) * 7.0)

  value, slope = jax.value_and_grad(total)(jnp.array([[1.0, 2.0, 3.0], [9.0, -9.0, 0.0]]))
  assert value == 0
  np.testing.assert_array_equal(slope, 0)


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(3, 6, 8)), jnp.float32)
  mask = jnp.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
  module = HistoryAttention(heads=2)
  return module, module.init(jax.random.key(0), x, x, mask, train=False), x, mask


def test_equals_a_numpy_twin(case):
  module, variables, x, mask = case
  p = jax.tree.map(np.asarray, variables["params"])
  x, mask = np.asarray(x), np.asarray(mask)
  q, k, v = (x @ p[n]["kernel"] + p[n]["bias"] for n in ("query", "key", "value"))
  expected = np.zeros_like(x)
  for b in range(3):
    for t in range(6):
      keys = [j for j in range(t + 1) if mask[b, j]]
      for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        if keys:
          s = np.array([q[b, t, part] @ k[b, j, part] for j in keys]) / 2.0
          w = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
          expected[b, t, part] = sum(a * v[b, j, part] for a, j in zip(w, keys, strict=True))
  expected = expected @ p["output"]["kernel"] + p["output"]["bias"]
  got = module.apply(variables, x, x, mask, train=False)
  np.testing.assert_allclose(got, expected, atol=2e-6)


def test_no_gradient_from_later_positions_or_padding(case):
  module, variables, x, mask = case

  def output(x):
    return jnp.sum(module.apply(variables, x, x, mask, train=False)[:, 3])

  slope = np.asarray(jax.grad(output)(x))
  assert np.isfinite(slope).all()
  assert not slope[:, 4:].any() and not slope[0, :2].any() and not slope[2].any()
  assert slope[0, 2].any() and slope[1, 0].any()


def test_self_attention_equals_a_numpy_twin_and_knows_no_order():
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.normal(size=(2, 3, 5, 6)), jnp.float32)
  mask = jnp.asarray(rng.random((2, 3, 5)) < 0.6).at[0, 1].set(False)
  module = SelfAttention(heads=2, width=4)
  variables = module.init(jax.random.key(0), x, mask)
  kernels = {n: np.asarray(p["kernel"]) for n, p in variables["params"].items()}
  assert {n: k.shape for n, k in kernels.items()} == dict.fromkeys(("query", "key", "value"), (6, 4))
  q, k, v = (np.asarray(x) @ kernels[n] for n in ("query", "key", "value"))
  expected = np.zeros((2, 3, 5, 4))
  for a, b, t, h in np.ndindex(2, 3, 5, 2):
    part, real = slice(2 * h, 2 * h + 2), np.flatnonzero(np.asarray(mask)[a, b])
    if len(real):
      weight = np.exp(k[a, b, real, part] @ q[a, b, t, part] / 2**0.5)
      expected[a, b, t, part] = weight / weight.sum() @ v[a, b, real, part]
  np.testing.assert_allclose(module.apply(variables, x, mask), expected, atol=2e-6)
  order = rng.permutation(5)
  shuffled = module.apply(variables, x[:, :, order], mask[:, :, order])
  np.testing.assert_allclose(shuffled, expected[:, :, order], atol=2e-6)


def test_without_causality_all_that_is_real_is_seen(case):
  _, variables, x, mask = case
  module = HistoryAttention(heads=2, causal=False)
  run = lambda x: module.apply(variables, x, x, mask, train=False)
  slope = np.asarray(jax.grad(lambda x: jnp.sum(run(x)[:, 3]))(x))
  seen = np.abs(slope).max(axis=-1) > 0
  np.testing.assert_array_equal(seen[:2], mask[:2])
  # Turning rows around turns results around: there are no positions.
  np.testing.assert_allclose(run(jnp.tile(x[1:2, ::-1], (3, 1, 1)))[1, ::-1], run(x)[1], atol=2e-6)
