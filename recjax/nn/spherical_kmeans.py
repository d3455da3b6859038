"""Clusters of directions: k-means on the sphere (Dhillon and Modha, Machine Learning 2001).

    c(x) = argmax over g of x . C_g,   C_g = sum of the x of cluster g, at length 1

Started by k-means++ (Arthur and Vassilvitskii, SODA 2007): the next centroid is a vector drawn with
probability in proportion to 1 - x . C for its nearest centroid so far, half the squared distance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.errors import ConfigError
from recjax.nn.nearest import unit


class Clusters(NamedTuple):
  """What was found.

  Attributes:
    centroids: float32 [G, D], of length 1.
    cluster: int32 [N], that of each vector.
    cosine: float32 [N] of each vector with its centroid; 0 for a vector of zeros, in cluster 0.
  """

  centroids: jax.Array
  cluster: jax.Array
  cosine: jax.Array


def spherical_kmeans(
  vectors: jax.Array, clusters: int, key: jax.Array, iterations: int = 20, block: int = 16_384
) -> Clusters:
  """Clusters of vectors [N, D] of any length; pure, the same for the same key.

  A cluster that loses all its vectors starts again at one of those farthest from their centroids, the
  first such cluster at the farthest of all. Products exist for one block of vectors at a time.

  Args:
    vectors: [N, D].
    clusters: G.
    key: of the start.
    iterations: how often centroids are computed anew.
    block: vectors compared with all centroids at once.

  Raises:
    ConfigError: more clusters than vectors.
  """
  if clusters > len(vectors):
    raise ConfigError(f"{len(vectors)} vectors cannot make {clusters} clusters.")
  points = unit(vectors)
  there = jnp.any(points != 0, axis=-1)

  def move(_, centroids):
    cluster, cosine = assign(points, centroids, block)
    member = jnp.where(there, cluster, clusters)
    sums = jax.ops.segment_sum(points, member, clusters + 1)[:clusters]
    size = jnp.bincount(member, length=clusters + 1)[:clusters]
    far = jax.lax.top_k(jnp.where(there, -cosine, -jnp.inf), clusters)[1]
    empty = size == 0
    again = points[far[jnp.cumsum(empty) - 1]]
    return jnp.where(empty[:, None], again, unit(sums))

  centroids = jax.lax.fori_loop(0, iterations, move, _start(points, there, clusters, key))
  cluster, cosine = assign(points, centroids, block)
  return Clusters(centroids, cluster, cosine)


def assign(points: jax.Array, centroids: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
  """For points [N, D] the centroid of [G, D] with the largest product, int32 [N], and that product."""

  def near(point):
    products = jnp.matmul(centroids, point, precision="highest")
    best = jnp.argmax(products)
    return best.astype(jnp.int32), products[best]

  return jax.lax.map(near, points, batch_size=min(block, len(points)))


def _start(points, there, clusters, key):
  """k-means++: centroids [G, D] among the points that are there."""
  draw = lambda number, weight: points[
    jax.random.categorical(jax.random.fold_in(key, number), jnp.log(weight))
  ]
  first = draw(0, there.astype(jnp.float32))
  product = lambda centroid: jnp.matmul(points, centroid, precision="highest")

  def add(number, state):
    centroids, cosine = state
    chosen = draw(number, jnp.where(there, jnp.maximum(1.0 - cosine, 0.0), 0.0))
    return centroids.at[number].set(chosen), jnp.maximum(cosine, product(chosen))

  centroids = jnp.zeros((clusters, points.shape[1]), jnp.float32).at[0].set(first)
  return jax.lax.fori_loop(1, clusters, add, (centroids, product(first)))[0]
