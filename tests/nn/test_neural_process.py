"""Neural-process blocks: Gaussians by hand, sets as sets, empty sets, a NumPy twin of the attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.nn import neural_process as process

B, T, C, F, G, W = 2, 3, 4, 5, 6, 8


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


OBSERVATIONS, CODES, QUERIES = random(B, C, F), random(B, T, C, G), random(B, T, F)
MASK = jnp.asarray(np.random.default_rng(1).random((B, T, C)) < 0.6).at[0, 0].set(False)


@pytest.fixture(scope="module")
def paths():
  """(attention's function of a context set, latent's), with fixed parameters, jitted."""
  token, path = process.ContextTokens(W), process.AttentivePath(W, heads=2)
  latent, key = process.LatentPath(5), jax.random.key(0)
  tokens = token.init(key, OBSERVATIONS, CODES)
  of_path = path.init(key, QUERIES, OBSERVATIONS, CODES, random(B, T, C, W), MASK)
  of_latent = latent.init(key, random(B, T, W))

  @jax.jit
  def run(observations, codes, mask):
    made = token.apply(tokens, observations, codes)
    r_d, weights = path.apply(of_path, QUERIES, observations, codes, made, mask)
    return r_d, weights, latent.apply(of_latent, process.summarise(made, mask))

  return run, (token, tokens), (path, of_path), (latent, of_latent)


def test_distances_by_hand():
  one = jnp.array([0.0, 1.0]), jnp.array([0.5, 0.5])
  other = jnp.array([0.0, 0.0]), jnp.array([1.0, 0.5])
  assert process.wasserstein(*one, *other) == pytest.approx(1.25)
  assert process.gaussian_kl(*one, *other) == pytest.approx(2.3181472, abs=1e-6)
  for distance in (process.wasserstein, process.gaussian_kl):
    assert distance(*one, *one) == 0
    apart = distance(random(50, 3), jnp.full((50, 3), 0.4), random(50, 3, seed=1), jnp.ones((50, 3)))
    assert (apart > 0).all() and apart.shape == (50,)


def test_deviations_stay_between_a_tenth_and_one():
  deviation = process.deviation_of(jnp.array([-1e4, -3.0, 0.0, 3.0, 1e4]))
  np.testing.assert_allclose(deviation[2], 0.55, rtol=1e-6)
  assert (deviation >= 0.1).all() and (deviation <= 1.0).all()
  assert (np.diff(deviation) > 0).all()


def test_order_and_repetition_of_contexts_change_nothing(paths):
  run = paths[0]
  r_d, weights, (mean, deviation) = run(OBSERVATIONS, CODES, MASK)
  order = np.array([2, 0, 3, 1])
  again = run(OBSERVATIONS[:, order], CODES[:, :, order], MASK[:, :, order])
  np.testing.assert_allclose(again[0], r_d, atol=1e-6)
  np.testing.assert_allclose(again[1], weights[..., order], atol=1e-6)
  for left, right in zip(again[2], (mean, deviation), strict=True):
    np.testing.assert_allclose(left, right, atol=1e-6)
  twice = lambda x, axis: jnp.concatenate([x, x], axis)
  double = run(twice(OBSERVATIONS, 1), twice(CODES, 2), twice(MASK, 2))
  np.testing.assert_allclose(double[0], r_d, atol=1e-6)
  np.testing.assert_allclose(double[2][0], mean, atol=1e-6)
  np.testing.assert_allclose(double[2][1], deviation, atol=1e-6)


def test_no_contexts_give_zero_and_a_fixed_gaussian(paths):
  run, _, _, (latent, of_latent) = paths
  r_d, weights, (mean, deviation) = run(OBSERVATIONS, CODES, jnp.zeros_like(MASK))
  np.testing.assert_array_equal(r_d, 0)
  np.testing.assert_array_equal(weights, 0)
  of_zero = latent.apply(of_latent, jnp.zeros((W,)))
  np.testing.assert_allclose(mean[1, 2], of_zero[0], rtol=1e-6)
  np.testing.assert_allclose(deviation[1, 2], of_zero[1], rtol=1e-6)
  slope = jax.grad(lambda x: sum(jnp.sum(y) for y in jax.tree.leaves(run(x, CODES, MASK))))(
    OBSERVATIONS
  )
  assert np.isfinite(slope).all()


def test_masked_contexts_do_not_matter(paths):
  run = paths[0]
  shown = MASK.any(axis=1)[..., None]
  left = run(OBSERVATIONS, CODES, MASK)
  right = run(jnp.where(shown, OBSERVATIONS, 9.0), jnp.where(MASK[..., None], CODES, -9.0), MASK)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), left, right)


def test_attention_is_that_of_a_plain_twin(paths):
  """Keys and values made for every pair and head, softmax and sums in loops."""
  _, (token, of_token), (path, of_path), _ = paths
  tokens = token.apply(of_token, OBSERVATIONS, CODES)
  r_d, weights = path.apply(of_path, QUERIES, OBSERVATIONS, CODES, tokens, MASK)
  p = jax.tree.map(np.asarray, of_path["params"])
  query = QUERIES @ p["query"]["kernel"] + p["query"]["bias"][None, None]
  for b, t, h in np.ndindex(B, T, 2):
    own = np.flatnonzero(MASK[b, t])
    q = np.asarray(query[b, t]).reshape(2, W // 2)[h]
    scores = [
      q @ (CODES[b, t, c] @ p["key_code"][:, h] + OBSERVATIONS[b, c] @ p["key_observation"][:, h])
      / np.sqrt(W // 2)
      for c in own
    ]
    weight = np.exp(scores) / np.exp(scores).sum() if len(own) else np.zeros(0)
    np.testing.assert_allclose(weights[b, t, h, own], weight, rtol=1e-4)
    value = sum(w * (tokens[b, t, c] @ p["value"][:, h]) for w, c in zip(weight, own, strict=True))
    np.testing.assert_allclose(r_d[b, t].reshape(2, -1)[h], value, rtol=1e-4, atol=1e-6)


def test_a_further_token_makes_a_posterior():
  tokens = random(1, 2, 3, W)
  mask = jnp.array([[[True, False, True], [False, False, False]]])
  own = random(1, 2, W)
  prior, posterior = process.summarise(tokens, mask), process.summarise(tokens, mask, own)
  np.testing.assert_allclose(prior[0, 0], (tokens[0, 0, 0] + tokens[0, 0, 2]) / 2, rtol=1e-6)
  both = tokens[0, 0, 0] + tokens[0, 0, 2] + own[0, 0]
  np.testing.assert_allclose(posterior[0, 0], both / 3, rtol=1e-6)
  np.testing.assert_array_equal(prior[0, 1], 0)
  np.testing.assert_allclose(posterior[0, 1], own[0, 1], rtol=1e-6)


def test_a_target_that_is_its_own_context_moves_nothing(paths):
  """C and C with T are one set where T is C: the distance is exactly zero."""
  _, _, _, (latent, of_latent) = paths
  token = random(1, 1, 1, W)
  mask = jnp.ones((1, 1, 1), bool)
  prior = latent.apply(of_latent, process.summarise(token, mask))
  posterior = latent.apply(of_latent, process.summarise(token, mask, token[:, :, 0]))
  assert process.wasserstein(*posterior, *prior)[0, 0] == 0
  assert process.gaussian_kl(*posterior, *prior)[0, 0] == 0


def test_fourier_code_by_hand():
  code = process.fourier_code(jnp.array([0.0, 0.5, -0.5]), 2)
  expected = [[0, 0, 1, 1], [1, 0, 0, -1], [-1, 0, 0, -1]]  # sin pi t, sin 2 pi t, then cosines
  np.testing.assert_allclose(code, expected, atol=1e-6)


def test_entropy_by_hand():
  weights = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
  np.testing.assert_allclose(process.attention_entropy(weights), [np.log(2), 0, 0], atol=1e-6)


def test_heads_must_share_the_width():
  with pytest.raises(ConfigError, match="3 heads cannot share the width 8 evenly"):
    process.AttentivePath(8, heads=3)
