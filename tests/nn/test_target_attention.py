"""Local activation unit: hand numbers, the exact split of its first layer, masks, linearity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.nn.target_attention import (
  LocalActivationUnit,
  SparseTargetAttention,
  TargetAttention,
  pool,
)

VALUES = jnp.array([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
SCORES = jnp.array([[[0.5, -0.2, 1.0]]])
MASK = jnp.array([[True, True, False]])


def test_pool_hand_numbers():
  interest, weights = pool(SCORES, VALUES, MASK, "none")
  np.testing.assert_allclose(interest[0, 0], [0.5, -0.4], atol=1e-6)
  np.testing.assert_allclose(weights[0, 0], [0.5, -0.2, 0.0], atol=1e-6)
  interest, weights = pool(SCORES, VALUES, MASK, "softmax")
  np.testing.assert_allclose(interest[0, 0], [0.668188, 0.663624], atol=1e-6)
  np.testing.assert_allclose(weights[0, 0], [0.668188, 0.331812, 0.0], atol=1e-6)
  interest, weights = pool(SCORES, VALUES, MASK, "relu")
  np.testing.assert_allclose(interest[0, 0], [0.5, 0.0], atol=1e-6)
  np.testing.assert_allclose(weights[0, 0], [0.5, 0.0, 0.0], atol=1e-6)
  with pytest.raises(ConfigError, match="Unknown normalize"):
    pool(SCORES, VALUES, MASK, "soft")


@pytest.mark.parametrize("normalize", ["none", "relu", "softmax"])
def test_an_empty_history_gives_zero_and_finite_gradients(normalize):
  def total(scores, values):
    return jnp.sum(jnp.square(pool(scores, values, MASK & False, normalize)[0] + 1.0))

  interest, weights = pool(SCORES, VALUES, MASK & False, normalize)
  assert not np.any(interest) and not np.any(weights)
  for slope in jax.grad(total, (0, 1))(SCORES, VALUES):
    np.testing.assert_array_equal(slope, 0)


def case(normalize="none", activation="sigmoid", scale=False):
  rng = np.random.default_rng(0)
  history = jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)
  candidates = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
  mask = jnp.array([[0, 1, 1, 1, 1], [1, 1, 0, 0, 1]], bool)
  counted = jnp.ones((2, 4), bool)
  unit = LocalActivationUnit((6, 5), activation, normalize, scale)
  variables = unit.init(jax.random.key(0), candidates, history, mask, counted, train=False)
  # Large last weights, so that differences are seen.
  variables["params"]["score"]["kernel"] = jnp.asarray(rng.normal(size=(5, 1)), jnp.float32)

  @jax.jit
  def apply(candidates, history, mask):
    counted = jnp.ones(candidates.shape[:2], bool)
    return unit.apply(variables, candidates, history, mask, counted, train=False)

  return apply, variables["params"], candidates, history, mask


@pytest.mark.parametrize("scale", [False, True])
def test_the_split_first_layer_equals_the_concatenation(scale):
  apply, params, candidates, history, mask = case(scale=scale)
  v = jnp.broadcast_to(candidates[:, :, None], (2, 4, 5, 3))
  e = jnp.broadcast_to(history[:, None], (2, 4, 5, 3))
  x = jnp.concatenate([v, e, v - e, v * e], axis=-1)
  x = jax.nn.sigmoid(x @ params["kernel"] + params["bias"][None, None, None])
  dense = params["dense_1"]
  x = jax.nn.sigmoid(x @ dense["kernel"] + dense["bias"][None, None, None])
  scores = (x @ params["score"]["kernel"])[..., 0] + params["score"]["bias"][None, None]
  scores = jnp.where(mask[:, None], scores, 0.0) * (3**-0.5 if scale else 1.0)
  interest, weights = apply(candidates, history, mask)
  np.testing.assert_allclose(weights, scores, atol=1e-5)
  np.testing.assert_allclose(interest, jnp.einsum("bcl,bld->bcd", scores, history), atol=1e-5)


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_many_candidates_equal_one_at_a_time(normalize):
  apply, _, candidates, history, mask = case(normalize)
  interest, weights = apply(candidates, history, mask)
  for c in range(4):
    one, one_weights = apply(candidates[:, c : c + 1], history, mask)
    np.testing.assert_allclose(one[:, 0], interest[:, c], atol=1e-6)
    np.testing.assert_allclose(one_weights[:, 0], weights[:, c], atol=1e-6)


@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_doubling_every_behaviour_doubles_the_interest_unless_normalised(normalize):
  apply, _, candidates, history, mask = case(normalize)
  once, _ = apply(candidates, history, mask)
  twice, _ = apply(
    candidates, jnp.concatenate([history, history], 1), jnp.concatenate([mask, mask], 1)
  )
  np.testing.assert_allclose(twice, (2.0 if normalize == "none" else 1.0) * once, atol=1e-5)


def test_statistics_of_the_activation_count_real_pairs_only():
  # A masked behaviour and an uncounted candidate may hold anything.
  unit = LocalActivationUnit((4,), "dice", "none")
  rng = np.random.default_rng(0)
  history = jnp.asarray(rng.normal(size=(2, 3, 2)), jnp.float32)
  candidates = jnp.asarray(rng.normal(size=(2, 2, 2)), jnp.float32)
  mask = jnp.array([[0, 1, 1], [1, 1, 1]], bool)
  counted = jnp.array([[1, 0], [1, 1]], bool)
  variables = unit.init(jax.random.key(0), candidates, history, mask, counted, train=False)

  def moved(candidates, history):
    return unit.apply(
      variables, candidates, history, mask, counted, train=True, mutable=["batch_stats"]
    )[1]

  clean = moved(candidates, history)
  dirty = moved(candidates.at[0, 1].set(50.0), history.at[0, 0].set(-70.0))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def attention_case(heads=2, keep=0):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  candidates, history = draw(2, 3, 4), draw(2, 5, 4)
  allowed = jnp.broadcast_to(jnp.array([[0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)[:, None], (2, 3, 5))
  params = {name: {"kernel": draw(4, 4)} for name in ("query", "key", "value")}

  @jax.jit
  def apply(candidates, history, allowed, relevance=None):
    unit = TargetAttention(heads, keep)
    return unit.apply({"params": params}, candidates, history, allowed, relevance)

  return apply, params, candidates, history, allowed


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("given", [False, True])
def test_multi_head_attention_equals_loops(keep, given):
  apply, params, candidates, history, allowed = attention_case(keep=keep)
  relevance = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 5)), jnp.float32)
  got = np.asarray(apply(candidates, history, allowed, relevance if given else None))
  kernels = {name: np.asarray(params[name]["kernel"]) for name in params}
  for c in range(3):
    for head in range(2):
      part = slice(2 * head, 2 * head + 2)
      query = (np.asarray(candidates[0, c]) @ kernels["query"])[part]
      keys = (np.asarray(history[0]) @ kernels["key"])[:, part]
      values = (np.asarray(history[0]) @ kernels["value"])[:, part]
      scores = keys @ query / np.sqrt(2)
      deciding = np.asarray(relevance[0, c]) if given else scores
      found = sorted(range(1, 5), key=lambda j: -deciding[j])[: keep or 4]
      weights = np.exp(scores[found]) / np.exp(scores[found]).sum()
      np.testing.assert_allclose(got[0, c, part], weights @ values[found], atol=1e-5)
  np.testing.assert_array_equal(got[1], 0)


def test_attention_to_nothing_gives_zero_and_zero_gradients_to_keys():
  apply, _, candidates, history, allowed = attention_case(keep=2)
  total = lambda c, h: jnp.sum(jnp.square(apply(c, h, allowed & False) + 1.0))
  for slope in jax.grad(total, (0, 1))(candidates, history):
    np.testing.assert_array_equal(slope, 0)
  slope = jax.grad(lambda h: jnp.sum(apply(candidates, h, allowed)))(history)
  assert not np.any(slope[1]) and not np.any(slope[0, 0]) and np.any(slope[0, 1:])


def sparse(params, candidates, history, mask, width, normalize="relu", residual=True):
  unit = SparseTargetAttention(width, normalize, residual)
  return unit.apply({"params": params}, candidates, history, mask)


def plain(matrices, *names):
  return {n: {"kernel": m} if n != "key" else m for n, m in zip(names, matrices, strict=True)}


NAMES = ("query", "key", "value", "output")


def test_sparse_attention_by_hand():
  params = plain([jnp.eye(2)] * 4, *NAMES)
  history = jnp.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [5.0, 5.0]]])
  mask = jnp.array([[True, True, True, False]])
  got, weights = sparse(params, jnp.array([[[1.0, 2.0]]]), history, mask, 2)
  np.testing.assert_allclose(weights[0, 0], [0.707107, 1.414214, 0, 0], atol=1e-6)
  np.testing.assert_allclose(got[0, 0], [1.707107, 3.414214], atol=1e-6)


@pytest.mark.parametrize("normalize", ["relu", "softmax", "none"])
@pytest.mark.parametrize("residual", [True, False])
def test_folded_attention_equals_keys_and_values(normalize, residual):
  rng = np.random.default_rng(0)
  matrices = [rng.normal(size=shape) / 2 for shape in ((4, 6), (4, 6), (4, 6), (6, 4))]
  candidates, history = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))
  mask = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
  params = plain([jnp.asarray(m, jnp.float32) for m in matrices], *NAMES)
  cast = lambda x: jnp.asarray(x, jnp.float32)
  got = sparse(params, cast(candidates), cast(history), jnp.asarray(mask), 6, normalize, residual)[0]
  query, keys, values = candidates @ matrices[0], history @ matrices[1], history @ matrices[2]
  for c in range(3):
    scores = np.array([query[0, c] @ keys[0, j] / np.sqrt(6) for j in range(5)])
    weights = {"relu": np.maximum(scores, 0), "none": scores, "softmax": np.exp(scores)}[normalize]
    weights = weights * mask[0] / (weights[mask[0]].sum() if normalize == "softmax" else 1)
    expected = (weights @ values[0]) @ matrices[3] + residual * candidates[0, c]
    np.testing.assert_allclose(got[0, c], expected, atol=1e-4)
  # Nothing to find: the candidate, exactly.
  np.testing.assert_array_equal(got[1], cast(candidates)[1] if residual else 0)


def test_sparse_attention_finds_nothing_below_zero_and_has_no_order():
  params = plain([jnp.eye(2)] * 4, *NAMES)
  history = jnp.array([[[-1.0, -2.0], [-3.0, 0.5], [-1.0, 0.0]]])
  mask, candidates = jnp.ones((1, 3), bool), jnp.array([[[1.0, 2.0]]])
  np.testing.assert_array_equal(sparse(params, candidates, history, mask, 2)[0], candidates)
  history = jnp.array([[[1.0, 2.0], [3.0, -0.5], [1.0, 0.0]]])
  one = sparse(params, candidates, history, mask, 2)[0]
  other = sparse(params, candidates, history[:, ::-1], mask, 2)[0]
  np.testing.assert_allclose(one, other, atol=1e-6)
