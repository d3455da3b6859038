"""SimHash: numbers by hand, both readings against loops, updates, the law of collisions, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError
from recjax.nn import simhash

ROTATIONS = jnp.array([[1.0, 0.0], [0.5, 1.0], [1.0, -1.0], [0.0, 1.0]])
HISTORY = jnp.array([[[1.0, 0.1], [0.8, 0.9], [-1.0, 0.2], [0.2, -1.0]]])
CANDIDATE = jnp.array([[[1.0, 0.01]]])  # not (1, 0): zero counts as positive, by hand it does not
ALL = jnp.ones((1, 4), bool)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def read(candidates, history, mask, rotations, group, norm, buckets=False):
  code = functools.partial(simhash.codes, rotations=rotations, group=group)
  if buckets:
    built = simhash.build(history, code(history), mask, group)
    return simhash.read_buckets(built, code(candidates), norm)
  return simhash.read_collisions(code(candidates), history, code(history), mask, norm)


@pytest.mark.parametrize("buckets", [False, True])
def test_by_hand(buckets):
  # Bits of the candidate 1, 1, 1, 0; the last as the hand case has it, with a rotation turned.
  rotations = ROTATIONS.at[3].set(jnp.array([-0.02, 1.0]))
  bits = simhash.hash_bits(CANDIDATE, rotations)
  np.testing.assert_array_equal(bits[0, 0], [1, 1, 1, 0])
  got = lambda norm: read(CANDIDATE, HISTORY, ALL, rotations, 2, norm, buckets)[0, 0]
  np.testing.assert_allclose(got("l2"), [0.535137, -0.247469], atol=1e-6)
  np.testing.assert_allclose(got("none"), [1.0, 0.0], atol=1e-6)
  np.testing.assert_allclose(got("count"), [0.55, -0.25], atol=1e-6)
  with pytest.raises(ConfigError, match="Unknown norm of a reading 'l3'. Known: l2, none, count."):
    got("l3")


def random(seed, length=6, width=3, candidates=2, bits=6):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = jnp.asarray(rng.random((2, length)) < 0.7)
  return draw(2, candidates, width), draw(2, length, width), mask, draw(bits, width)


def by_loops(candidates, history, mask, rotations, group, norm):
  """The definition, behaviour by behaviour."""
  groups = max(rotations.shape[0] // group if group else 1, 1)
  bit = lambda x, g: [float(np.dot(rotations[g * group + k], x)) >= 0 for k in range(group)]
  result = np.zeros(candidates.shape)
  for b, c in np.ndindex(*candidates.shape[:2]):
    for g in range(groups):
      hit = [
        s for s, real in zip(history[b], mask[b], strict=True)
        if real and bit(s, g) == bit(candidates[b, c], g)
      ]
      total = np.sum(hit, axis=0) if hit else np.zeros(candidates.shape[-1])
      if norm == "l2":
        total = total / np.sqrt(np.sum(total**2) + 1e-6)
      elif norm == "count":
        total = total / max(len(hit), 1)
      result[b, c] += total / groups
  return result


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(3, "l2"), (2, "count"), (1, "none")]))
def test_both_readings_equal_loops(seed, kind):
  case, (group, norm) = random(seed), kind
  expected = by_loops(*map(np.asarray, case), group, norm)
  for buckets in (False, True):
    np.testing.assert_allclose(read(*case, group, norm, buckets), expected, atol=1e-5)


def test_group_0_is_mean_pooling():
  candidates, history, mask, rotations = random(0)
  total = jnp.einsum("bl,bld->bd", mask.astype(jnp.float32), history)
  mean = total / jnp.sum(mask, axis=1)[:, None]
  for buckets in (False, True):
    got = read(candidates, history, mask, rotations, 0, "count", buckets)
    np.testing.assert_allclose(got, np.broadcast_to(mean[:, None], got.shape), atol=1e-6)


def test_order_and_lengths_of_vectors_are_irrelevant_where_they_should_be():
  candidates, history, mask, rotations = random(1)
  expected = read(candidates, history, mask, rotations, 3, "l2")
  turned = read(candidates, history[:, ::-1], mask[:, ::-1], rotations, 3, "l2")
  np.testing.assert_allclose(turned, expected, atol=1e-6)
  scaled = read(7.0 * candidates, history, mask, rotations, 3, "l2")
  np.testing.assert_array_equal(scaled, expected)
  longer = simhash.codes(0.01 * history, rotations, 3)
  np.testing.assert_array_equal(longer, simhash.codes(history, rotations, 3))


def test_behaviours_like_the_candidate_collide_in_every_group():
  candidates, _, _, rotations = random(2, candidates=1)
  history = jnp.broadcast_to(candidates, (2, 5, 3))
  got = read(candidates, history, jnp.ones((2, 5), bool), rotations, 3, "l2")
  length = np.linalg.norm(candidates, axis=-1, keepdims=True)
  np.testing.assert_allclose(got, candidates / length, atol=1e-5)


@pytest.mark.parametrize(("norm", "buckets"), [("l2", False), ("l2", True), ("count", True)])
def test_no_collision_reads_zero_with_finite_gradients(norm, buckets):
  candidates, history, mask, rotations = random(3)
  candidates = jnp.broadcast_to(candidates[:, :1], candidates.shape)
  total = lambda q, s, m: jnp.sum(read(q, s, m, rotations, 3, norm, buckets))
  slope = jax.jit(jax.grad(total, (0, 1)))
  for case in (
    (candidates, history, mask & False),  # empty
    (candidates, -jnp.broadcast_to(candidates[:, :1], history.shape), mask),  # opposite
    (candidates, history * 0.0, mask),  # zero vectors
    (candidates * 0.0, history * 0.0, mask),
  ):
    np.testing.assert_array_equal(read(*case, rotations, 3, norm, buckets), 0.0)
    of_candidates, of_history = slope(*case)
    np.testing.assert_array_equal(of_candidates, 0.0)
    assert np.isfinite(of_history).all()


def test_rotations_get_no_gradient():
  candidates, history, mask, rotations = random(4)
  slope = jax.grad(lambda r: jnp.sum(read(candidates, history, mask, r, 3, "l2")))(rotations)
  np.testing.assert_array_equal(slope, 0.0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5))
def test_updates_equal_building_anew(seed, place):
  """One behaviour is taken out; put back in, the buckets are those of before."""
  _, history, mask, rotations = random(seed)
  code = simhash.codes(history, rotations, 2)
  rest = np.array(mask)
  rest[:, place] = False
  build, add = jax.jit(simhash.build, static_argnums=3), jax.jit(simhash.add)
  whole, without = build(history, code, mask, 2), build(history, code, jnp.asarray(rest), 2)
  weight = mask[:, place].astype(jnp.float32)
  removed = add(whole, history[:, place], code[:, place], -weight)
  again = add(removed, history[:, place], code[:, place], weight)
  for left, right in ((removed, without), (again, whole)):
    np.testing.assert_allclose(left.sums, right.sums, atol=1e-5)
    np.testing.assert_array_equal(left.counts, right.counts)


COLLISION = {
  0: (1, 1, 1, 1, 1),
  30: (0.833333, 0.694444, 0.578704, 0.401878, 0.161506),
  60: (0.666667, 0.444444, 0.296296, 0.131687, 0.017342),
  90: (0.5, 0.25, 0.125, 0.03125, 0.000977),
  120: (0.333333, 0.111111, 0.037037, 0.004115, 0.000017),
  180: (0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("degrees", COLLISION)
def test_collision_probabilities(degrees):
  angle = np.deg2rad(degrees)
  vectors = jnp.array([[[1.0, 0.0]]]), jnp.array([[[np.cos(angle), np.sin(angle)]]], jnp.float32)
  one = jnp.ones((1, 1), bool)
  got = [simhash.expected_weights(*vectors, one, group)[0, 0, 0] for group in (1, 2, 3, 5, 10)]
  # The cosine is kept off 1 by 1e-6, which is 1.4e-3 in the angle and 4.5e-4 of the probability.
  np.testing.assert_allclose(got, COLLISION[degrees], atol=6e-3)


def test_expected_weights_by_hand():
  cosine = np.array([0.9, 0.5, 0.0, -0.5])
  history = jnp.asarray(np.stack([cosine, np.sqrt(1 - cosine**2)], -1)[None], jnp.float32)
  candidate = jnp.array([[[2.0, 0.0]]])
  weights = simhash.expected_weights(candidate, history, ALL, 3)[0, 0]
  np.testing.assert_allclose(weights, [0.628176, 0.296296, 0.125, 0.037037], atol=1e-5)
  share = weights / weights.sum()
  np.testing.assert_allclose(share, [0.578160, 0.272705, 0.115047, 0.034088], atol=1e-5)
  entropies = []
  for group in (1, 2, 3, 5, 10):
    weights = simhash.expected_weights(candidate, history, ALL, group)[0, 0]
    share = np.asarray(weights / weights.sum(), np.float64)
    entropies.append(-(share * np.log(share)).sum())
  np.testing.assert_allclose(
    entropies, [1.330668, 1.196875, 1.035077, 0.736944, 0.294666], atol=1e-5
  )
  reading = simhash.read_expected(weights[None, None], history, "count")
  np.testing.assert_allclose(reading[0, 0], share @ np.asarray(history[0]), atol=1e-5)


def test_shares_of_colliding_groups_estimate_the_probability():
  """The mean error falls as one over the root of the number of bits, from .0983 with 24 of them."""
  rng = np.random.default_rng(0)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  candidate = jnp.asarray(unit(rng.normal(size=(1, 1, 16))), jnp.float32)
  items = jnp.asarray(unit(rng.normal(size=(1, 64, 16))), jnp.float32)
  truth = simhash.expected_weights(candidate, items, jnp.ones((1, 64), bool), 3)[0, 0]
  # One draw of 50 times 768 bits; codes of groups are independent, so that parts of it are draws, too.
  rotations = jnp.asarray(rng.normal(size=(50 * 768, 16)), jnp.float32)
  same = simhash.codes(items, rotations, 3) == simhash.codes(candidate, rotations, 3)
  same = np.asarray(same[0]).reshape(64, 50, -1)
  errors = [
    np.abs(same[:, :, : bits // 3].mean(-1) - np.asarray(truth)[:, None]).mean()
    for bits in (24, 48, 96, 192, 768)
  ]
  np.testing.assert_allclose(errors[0], 0.0983, rtol=0.15)
  scaled = np.array(errors) * np.sqrt([24, 48, 96, 192, 768])
  assert scaled.max() <= 1.15 * scaled.min(), errors


def test_hamming_distances():
  left, right = jnp.array([[[1, 0, 1]]], bool), jnp.array([[[1, 0, 1], [0, 1, 0], [1, 1, 1]]], bool)
  np.testing.assert_array_equal(simhash.hamming(left, right), [[[0, 3, 1]]])


def test_bits_that_make_no_groups_are_refused():
  simhash.check_groups(48, 3)
  simhash.check_groups(48, 0)
  with pytest.raises(ConfigError, match="48 bits cannot be cut into groups of 10"):
    simhash.check_groups(48, 10)
