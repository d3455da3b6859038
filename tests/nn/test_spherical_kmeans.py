"""Spherical k-means: planted directions are found, a Lloyd step by hand, clusters that run empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.nn.spherical_kmeans import assign, spherical_kmeans


@pytest.fixture(scope="module")
def found():
  """Six directions of eight dimensions, twenty vectors of any length around each, two of zeros."""
  rng = np.random.default_rng(0)
  planted = np.tile(np.arange(6), 20)
  vectors = (np.eye(8)[planted] + 0.05 * rng.normal(size=(120, 8))) * rng.uniform(0.1, 9, (120, 1))
  vectors = np.concatenate([vectors, np.zeros((2, 8))]).astype(np.float32)
  run = jax.jit(lambda v: spherical_kmeans(v, 6, jax.random.key(1), iterations=4, block=7))
  return planted, vectors, jax.tree.map(np.asarray, run(vectors))


def test_planted_directions_are_found(found):
  planted, vectors, result = found
  pairs = {(int(p), int(c)) for p, c in zip(planted, result.cluster[:120], strict=True)}
  assert len(pairs) == 6 == len({c for _, c in pairs})
  assert result.cosine[:120].min() > 0.9 and (result.cosine[120:] == 0).all()
  np.testing.assert_allclose(np.linalg.norm(result.centroids, axis=1), 1, rtol=1e-5)


def test_centroids_are_the_means_of_their_members(found):
  _, vectors, result = found
  units = vectors[:120] / np.linalg.norm(vectors[:120], axis=1, keepdims=True)
  for g, centroid in enumerate(result.centroids):
    mean = units[result.cluster[:120] == g].sum(0)
    np.testing.assert_allclose(centroid, mean / np.linalg.norm(mean), atol=1e-5)
  cluster, cosine = assign(jnp.asarray(units), jnp.asarray(result.centroids), 50)
  products = units @ result.centroids.T
  np.testing.assert_array_equal(cluster, products.argmax(1))
  np.testing.assert_allclose(cosine, products.max(1), atol=1e-6)


def test_a_cluster_that_runs_empty_starts_again_at_the_farthest():
  # Of four equal vectors and two others, k-means++ finds all three; with five clusters two are empty.
  vectors = jnp.array([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1], [-1, 0]])
  result = jax.jit(lambda v: spherical_kmeans(v, 3, jax.random.key(0), 5))(vectors)
  assert len(set(result.cluster.tolist())) == 3 and np.allclose(result.cosine, 1)
  more = jax.jit(lambda v: spherical_kmeans(v, 5, jax.random.key(0), 5))(vectors)
  assert np.isfinite(np.asarray(more.centroids)).all() and np.allclose(more.cosine, 1)


def test_more_clusters_than_vectors():
  with pytest.raises(ConfigError, match="3 vectors cannot make 4 clusters."):
    spherical_kmeans(jnp.ones((3, 2)), 4, jax.random.key(0))
