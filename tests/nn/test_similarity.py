"""Cosines of frozen vectors, SimTier, SA-TA: numbers by hand, twins, limits, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn.similarity import (
  SimilarityAwareAttention,
  SimTier,
  cosine,
  has_vector,
  mixed_scores,
  tiers,
  vector_values,
)

COUNT = jax.jit(tiers, static_argnums=2)
COSINE = jax.jit(cosine)


def tier(value):
  return int(np.argmax(COUNT(np.array([value], np.float32), np.ones(1, bool), 10)))


def test_tiers_by_hand():
  cases = {0.95: 20, 0.91: 20, 0.90: 19, 0.05: 11, 0.0: 10, -0.05: 10, -0.999: 1, -1.0: 0, 1.0: 20}
  assert {value: tier(value) for value in cases} == cases
  # What rounding puts above 1 stays in the tier of 1.
  assert tier(np.nextafter(np.float32(1), np.float32(2))) == 20
  counts = tiers(jnp.array([0.95, 0.91, 1, 0.45, 0]), jnp.ones(5, bool), 10)
  assert {int(i): float(counts[i]) for i in np.flatnonzero(counts)} == {20: 3, 15: 1, 10: 1}


def test_features_by_hand_and_without_behaviours():
  module = SimTier(10)
  made = module.init(jax.random.key(0), jnp.zeros((1, 4)), jnp.ones((1, 4), bool))["params"]["weight"]
  assert made.shape == (22,) and 0 <= made.min() < 0.3 and 0.7 < made.max() <= 1
  ones = {"params": {"weight": jnp.ones(22)}}
  cosines = jnp.array([[0.95, 0.91, 1, 0.45, 0]])
  features = module.apply(ones, cosines, jnp.ones((1, 5), bool))[0]
  expected = np.zeros(22)
  expected[[20, 15, 10]] = 1.386294, 0.693147, 0.693147
  np.testing.assert_allclose(features, expected, atol=1e-6)
  np.testing.assert_array_equal(module.apply(ones, cosines, jnp.zeros((1, 5), bool)), 0)
  slope = jax.grad(lambda c: module.apply(ones, c, jnp.ones((1, 5), bool)).sum())(cosines)
  np.testing.assert_array_equal(slope, 0)


# On the device subnormal numbers are 0.
COSINES = st.floats(-1, 1, width=32, allow_subnormal=False)


@settings(max_examples=15, deadline=None)
@given(
  st.lists(st.tuples(COSINES, st.booleans()), min_size=8, max_size=8),
  st.permutations(range(8)), st.sampled_from((1, 5, 10)),
)
def test_tiers_count_what_is_real_in_any_order(pairs, order, steps):
  cosines = np.array([c for c, _ in pairs], np.float32)
  mask = np.array([m for _, m in pairs])
  counts = np.asarray(COUNT(cosines, mask, steps))
  assert counts.shape == (2 * steps + 2,) and counts.sum() == mask.sum() and counts[-1] == 0
  mixed = COUNT(cosines[list(order)], mask[list(order)], steps)
  np.testing.assert_array_equal(mixed, counts)
  twin = np.zeros(2 * steps + 2)
  for c in cosines[mask]:
    twin[int(np.ceil(np.float32(c) * np.float32(steps))) + steps] += 1
  np.testing.assert_array_equal(twin, counts)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32])
def test_cosines_equal_a_slow_loop(dtype):
  rng = np.random.default_rng(0)
  draw = lambda *shape: (rng.normal(size=shape) * (40 if dtype == np.int8 else 1)).astype(dtype)
  left, right = draw(2, 3, 5), draw(2, 4, 5)
  right[0, 1], left[1, 2] = 0, 0
  got = cosine(jnp.asarray(left), jnp.asarray(right))
  assert got.dtype == jnp.float32
  for b in range(2):
    for c in range(3):
      for j in range(4):
        x, y = left[b, c].astype(np.float64), right[b, j].astype(np.float64)
        size = np.linalg.norm(x) * np.linalg.norm(y)
        assert got[b, c, j] == pytest.approx(x @ y / size if size else 0.0, abs=1e-6)
  np.testing.assert_array_equal(has_vector(jnp.asarray(right))[0], [1, 0, 1, 1])
  slope = jax.grad(lambda y: cosine(y, y).sum() + vector_values(y).sum(), allow_int=True)(left)
  if dtype != np.int8:
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("dtype", [np.int8, np.float16])
def test_long_histories_go_in_blocks_and_are_never_copied_whole(dtype):
  rng = np.random.default_rng(0)
  left = jnp.asarray(rng.integers(-9, 9, (4, 2, 128)), dtype)
  right = jnp.asarray(rng.integers(-9, 9, (4, 2100, 128)), dtype)
  run = COSINE.lower(left, right).compile()
  parts = [COSINE(left, right[:, start : start + 210]) for start in range(0, 2100, 210)]
  np.testing.assert_allclose(run(left, right), np.concatenate(parts, axis=2), atol=1e-6)
  wide = 4 * right.size
  assert run.memory_analysis().temp_size_in_bytes < wide


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-18, 1e18))
def test_lengths_do_not_matter(seed, scale):
  rng = np.random.default_rng(seed)
  left, right = rng.normal(size=(1, 2, 4)), rng.normal(size=(1, 3, 4))
  expected = COSINE(jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32))
  # The product of the lengths stays a number of float32.
  got = COSINE(jnp.asarray(left / scale, jnp.float32), jnp.asarray(right * scale, jnp.float32))
  np.testing.assert_allclose(got, expected, atol=1e-5)
  assert np.abs(got).max() <= 1


def test_codes_are_127ths():
  np.testing.assert_allclose(vector_values(jnp.array([127, -127, 0], jnp.int8)), [1, -1, 0])


def test_mixed_scores_by_hand():
  s, c = jnp.array([0.2, -0.1, 0.5]), jnp.array([0.8, 0.3, -0.2])
  logits = mixed_scores(s, c, jnp.ones(3), 0.1)
  np.testing.assert_allclose(logits, [9.8, 2.6, -2.5], atol=1e-5)
  np.testing.assert_allclose(jax.nn.softmax(logits), [0.999249, 0.000746, 0.000005], atol=5e-7)
  alone = jax.nn.softmax(mixed_scores(s, c, jnp.array([1.0, 0, 0]), 0.1))
  np.testing.assert_allclose(alone, [0.323554, 0.239694, 0.436752], atol=1e-6)


def attention(similar=True, width=3):
  rng = np.random.default_rng(1)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = jnp.asarray(rng.random((2, 2, 5)) < 0.6)
  inputs = draw(2, 2, 4), draw(2, 2, 5, 4), jnp.tanh(draw(2, 2, 5)), mask
  module = SimilarityAwareAttention(width, similar)
  return module, module.init(jax.random.key(0), *inputs), inputs


def test_attention_equals_a_slow_loop():
  module, variables, (query, facts, cosines, mask) = attention()
  mask = mask.at[0, 0].set(False).at[1, 1].set(True)
  out, weights = module.apply(variables, query, facts, cosines, mask)
  params = jax.tree.map(np.asarray, variables["params"])
  assert float(params["log_tau"]) == pytest.approx(np.log(0.1)) and (params["mix"] == 1).all()

  def project(name, x):
    y = x @ params[name]["kernel"] + params[name]["bias"]
    return y / (1 + np.exp(-y))

  for b in range(2):
    for c in range(2):
      real = np.flatnonzero(mask[b, c])
      expected, total = np.zeros(3), 0.0
      for j in real:
        s = project("query", np.asarray(query[b, c])) @ project("key", np.asarray(facts[b, c, j]))
        near = float(cosines[b, c, j]) / 0.1
        weight = np.exp(s + near + s * near)
        total += weight
        expected += weight * project("value", np.asarray(facts[b, c, j]))
      np.testing.assert_allclose(out[b, c], expected / max(total, 1e-30), atol=1e-5)
      assert float(weights[b, c].sum()) == pytest.approx(float(len(real) > 0), abs=1e-5)
  np.testing.assert_array_equal(out[0, 0], 0)


def test_cosines_alone_leave_queries_and_keys_without_a_gradient():
  module, variables, inputs = attention()
  params = {**variables["params"], "mix": jnp.array([0.0, 1.0, 0.0])}
  slopes = jax.jit(jax.grad(lambda p: module.apply({"params": p}, *inputs)[0].sum()))(params)
  for name in ("query", "key"):
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(slopes[name]))
  assert np.any(slopes["value"]["kernel"]) and slopes["log_tau"] != 0


def test_without_similarity_cosines_say_nothing():
  module, variables, (query, facts, cosines, mask) = attention(similar=False)
  assert set(variables["params"]) == {"query", "key", "value"}
  first = module.apply(variables, query, facts, cosines, mask)
  second = module.apply(variables, query, facts, -cosines, mask)
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_order_of_behaviours_says_nothing():
  module, variables, (query, facts, cosines, mask) = attention()
  order = np.array([3, 0, 4, 1, 2])
  mixed = module.apply(variables, query, facts[:, :, order], cosines[:, :, order], mask[:, :, order])
  plain = module.apply(variables, query, facts, cosines, mask)
  np.testing.assert_allclose(mixed[0], plain[0], atol=1e-6)
  np.testing.assert_allclose(mixed[1], plain[1][:, :, order], atol=1e-6)
