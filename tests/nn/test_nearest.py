"""The nearest by cosine: one sort of all cosines, whatever the blocks, and never all pairs."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.nearest import nearest, unit

RNG = np.random.default_rng(0)
# Few directions, and lengths that are powers of two, so that many cosines are equal to the bit.
DIRECTIONS = RNG.normal(size=(6, 3)).astype(np.float32)
KEYS = DIRECTIONS[RNG.integers(6, size=29)] * 2.0 ** RNG.integers(-3, 4, (29, 1)).astype(np.float32)
QUERIES = RNG.normal(size=(11, 3)).astype(np.float32)


def one_sort(queries, keys, k, leave_out, allowed):
  rows, cosines = np.zeros((len(queries), k), int), np.full((len(queries), k), -np.inf)
  for q, query in enumerate(queries):
    found = []
    for n, key in enumerate(keys):
      if allowed[n] and n != leave_out[q]:
        cosine = query @ key / (np.linalg.norm(query) * np.linalg.norm(key))
        found.append((-round(float(cosine), 5), n))
    found = sorted(found)[:k]
    rows[q, : len(found)] = [n for _, n in found]
    cosines[q, : len(found)] = [-c for c, _ in found]
  return rows, cosines


def test_equals_one_sort_with_ties_for_every_block():
  leave_out = np.array([-1, 3, 28, 0, 1, 2, 5, 7, -1, 9, 11], np.int32)
  allowed = RNG.random(29) < 0.7
  expected = one_sort(QUERIES, KEYS, 9, leave_out, allowed)
  for block, batch in ((5, 4), (29, 100)):
    rows, cosines = nearest(
      QUERIES, KEYS, 9, leave_out=leave_out, allowed=allowed, block=block, batch=batch
    )
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(cosines, expected[1], atol=2e-5)


def test_fewer_than_asked_for_end_with_minus_infinity():
  rows, cosines = nearest(QUERIES[:2], KEYS[:3], 3, leave_out=np.array([1, -1], np.int32))
  assert np.isneginf(cosines[0, 2]) and rows[0, 2] == 0 and 1 not in np.asarray(rows[0, :2])
  assert np.isfinite(cosines[1]).all() and sorted(rows[1].tolist()) == [0, 1, 2]


def test_length_does_not_matter_and_zero_is_near_to_nobody():
  huge = jnp.array([[3e30, 4e30], [0.0, 0.0]])
  np.testing.assert_allclose(unit(huge), [[0.6, 0.8], [0, 0]], rtol=1e-6)
  _, cosines = nearest(huge, jnp.array([[1e-20, 0.0]]), 1)
  np.testing.assert_allclose(cosines, [[0.6], [0]], rtol=1e-6)


def test_never_all_pairs():
  vectors = jnp.zeros((1000, 3))
  text = str(jax.make_jaxpr(lambda v: nearest(v, v, 5, block=64, batch=32))(vectors))
  assert "[32,64]" in text and "[1000,1000]" not in text and "[32,1000]" not in text
