"""Top-k gathering: ties, masks, padding, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.nn.top_k import gather, recency, top_behaviours


def test_by_hand_with_ties_and_places_left_over():
  scores = jnp.array([[[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 9.0]]])
  allowed = jnp.array([[[1, 1, 1, 1], [1, 0, 1, 0]]], bool)
  place, real = top_behaviours(scores, allowed, 3)
  np.testing.assert_array_equal(place[0, 0], [2, 1, 3])
  np.testing.assert_array_equal(real, [[[1, 1, 1], [1, 1, 0]]])
  np.testing.assert_array_equal(place[0, 1, :2], [2, 0])
  values = jnp.arange(8.0).reshape(1, 4, 2)
  np.testing.assert_array_equal(gather(values, place)[0, 0], [[4, 5], [2, 3], [6, 7]])
  assert top_behaviours(scores, allowed, 9)[0].shape == (1, 2, 4)


def test_nothing_is_real_without_behaviours_and_no_gradient_reaches_scores():
  scores = jnp.full((1, 1, 3), jnp.nan)
  none = jnp.zeros((1, 1, 3), bool)
  assert not np.any(top_behaviours(scores, none, 2)[1])

  def total(scores, values):
    place, real = top_behaviours(scores, ~none, 2)
    return jnp.sum(gather(values, place) * real[..., None])

  slopes = jax.grad(total, (0, 1))(jnp.array([[[1.0, 0.0, 2.0]]]), jnp.ones((1, 3, 2)))
  np.testing.assert_array_equal(slopes[0], 0)
  np.testing.assert_array_equal(slopes[1][0], [[1, 1], [0, 0], [1, 1]])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8), st.integers(1, 9))
def test_equals_sorting(pairs, k):
  scores = np.array([s for s, _ in pairs], np.float32)
  allowed = np.array([a for _, a in pairs])
  place, real = top_behaviours(jnp.asarray(scores)[None, None], jnp.asarray(allowed)[None, None], k)
  found = [int(p) for p, r in zip(place[0, 0], real[0, 0], strict=True) if r]
  best = sorted(np.flatnonzero(allowed), key=lambda i: (-scores[i], -i))[:k]
  assert found == best


def test_recency_prefers_the_newest():
  mask = jnp.array([[0, 1, 1, 1], [1, 1, 0, 0]], bool)
  scores = jnp.broadcast_to(recency(mask)[:, None], (2, 1, 4))
  place, real = top_behaviours(scores, mask[:, None], 2)
  np.testing.assert_array_equal(place[:, 0], [[3, 2], [1, 0]])
  assert np.all(real)
