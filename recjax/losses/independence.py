"""How dependent vectors are over weighted samples, and sample weights that make them independent.

The Hilbert-Schmidt independence criterion (Gretton et al., ALT 2005) of two vectors, with kernel
matrices K and L of n samples and J = I - 1 1^T / n, is HSIC = tr(K J L J) / (n - 1)^2. Random Fourier
features (Rahimi and Recht, NIPS 2007)

    g_q(x) = sqrt(2) cos(omega_q . x + phi_q),   omega_q ~ N(0, 1 / sigma^2),  phi_q ~ U(0, 2 pi)

have a mean of g(x) g(y) over draws that is the Gaussian kernel exp(-|x - y|^2 / (2 sigma^2)), so HSIC
is near |Z_a^T J Z_b|^2 / (Q (n - 1))^2 for the features Z of Q draws, and no n x n matrix exists. Under
sample weights w of sum one the covariance is

    C_ab(w) = Z_a^T diag(w) Z_b - (Z_a^T w) (Z_b^T w)^T,   Omega(w) = sum over a < b of |C_ab(w)|^2

which is what StableNet (Zhang et al., CVPR 2021) makes small by its choice of w. The exact criterion
is `evaluate.dependence.hsic`.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.nn.attention import masked_softmax

_EPSILON = 1e-8
_MOMENTUM = 0.9  # of StableNet's code


class Features(NamedTuple):
  """Functions sqrt(2) cos(x projection + phases) of x [D]: projection [D, F], phases [F]."""

  projection: jax.Array
  phases: jax.Array


def vector_features(
  key: jax.Array, width: int, draws: int, bandwidth: jax.Array | float = 1.0
) -> Features:
  """Draws for the Gaussian kernel of whole vectors [width]; as many functions as `draws`."""
  omega, phi = jax.random.split(key)
  projection = jax.random.normal(omega, (width, draws)) / bandwidth
  return Features(projection, jax.random.uniform(phi, (draws,), maxval=2 * jnp.pi))


def coordinate_features(key: jax.Array, width: int, draws: int) -> Features:
  """`draws` functions of each coordinate alone, width * draws in all, as in StableNet.

  Their kernel is the sum over coordinates of Gaussian kernels of bandwidth one.
  """
  omega, phi = jax.random.split(key)
  frequencies = jax.random.normal(omega, (width, draws))
  projection = (jnp.eye(width)[:, :, None] * frequencies[None]).reshape(width, width * draws)
  return Features(projection, jax.random.uniform(phi, (width * draws,), maxval=2 * jnp.pi))


def fourier_features(values: jax.Array, features: Features) -> jax.Array:
  """Values of the functions at `values` [..., D]; [..., F]."""
  angles = jnp.einsum("...d,df->...f", values, features.projection)
  return jnp.sqrt(2.0) * jnp.cos(angles + features.phases.reshape((1,) * (angles.ndim - 1) + (-1,)))


def standardize(values: jax.Array, real: jax.Array) -> jax.Array:
  """Values [n, ..., D] with mean 0 and variance 1 of each number over the real samples [n].

  Mean and variance are constants to gradients; samples that are not real become 0.
  """
  real = real.reshape((-1,) + (1,) * (values.ndim - 1)).astype(values.dtype)
  count = jnp.maximum(jnp.sum(real), 1.0)
  still = jax.lax.stop_gradient(values)
  mean = jnp.sum(still * real, axis=0, keepdims=True) / count
  variance = jnp.sum(jnp.square(still - mean) * real, axis=0, keepdims=True) / count
  return (values - mean) * jax.lax.rsqrt(variance + _EPSILON) * real


def weighted_covariance(left: jax.Array, right: jax.Array, weights: jax.Array) -> jax.Array:
  """C [..., F, G] of features [..., n, F] and [..., n, G] under weights [n] of sum one."""
  mean = lambda z: jnp.einsum("...nf,n->...f", z, weights)
  both = jnp.einsum("...nf,n,...ng->...fg", left, weights, right)
  return both - mean(left)[..., :, None] * mean(right)[..., None, :]


def dependence(features: jax.Array, weights: jax.Array) -> jax.Array:
  """Omega, scalar, of features [K, n, F] of K vectors under weights [n]; zero for one vector."""
  pairs = list(itertools.combinations(range(len(features)), 2))
  if not pairs:
    return jnp.zeros((), features.dtype)
  first, second = (jnp.asarray(side) for side in zip(*pairs, strict=True))
  return jnp.sum(jnp.square(weighted_covariance(features[first], features[second], weights)))


def fourier_hsic(
  left: jax.Array,
  right: jax.Array,
  key: jax.Array,
  draws: int,
  bandwidths: tuple[jax.Array | float, jax.Array | float] = (1.0, 1.0),
) -> jax.Array:
  """HSIC of vectors [n, D] and [n, E], Gaussian kernels of these bandwidths, from `draws` features."""
  n = len(left)
  keys = jax.random.split(key)
  found = [
    fourier_features(values, vector_features(own, values.shape[-1], draws, bandwidth))
    for values, own, bandwidth in zip((left, right), keys, bandwidths, strict=True)
  ]
  covariance = weighted_covariance(*found, jnp.full((n,), 1.0 / n))
  return jnp.sum(jnp.square(covariance)) * (n / ((n - 1) * draws)) ** 2


def effective_size(weights: jax.Array) -> jax.Array:
  """Effective sample size 1 / sum w^2 of weights [n] of sum one: n if equal, 1 if one has all."""
  return 1.0 / jnp.maximum(jnp.sum(jnp.square(weights)), jnp.finfo(weights.dtype).tiny)


def independent_weights(
  features: jax.Array,
  real: jax.Array,
  *,
  spread: jax.Array | float,
  steps: int,
  rate: float,
  momentum: float = _MOMENTUM,
) -> tuple[jax.Array, jax.Array]:
  """Sample weights under which the vectors behind the features depend on each other less.

  Descends Omega(w) / Omega(uniform) + spread (n sum w^2 - 1), n real samples, w = softmax(theta), from
  theta = 0, and takes the best w on the way. Without the second term a few samples take all weight,
  which makes Omega zero for nothing; with it, as the value starts from one, the effective sample size
  is at least n spread / (1 + spread). A step is rate n / (1 + spread) times the (heavy-ball) gradient:
  independent of n, and as stable for any spread. Nothing is differentiated through.

  Args:
    features: [K, n, F] of K vectors; one vector leaves weights equal.
    real: bool [n]; the others get no weight.
    spread: lambda, how much equal weights are worth.
    steps: of the descent.
    rate: of the descent.
    momentum: of the descent; 0 for a plain one.

  Returns:
    Weights [n] of sum one (all zero where nothing is real), and Omega(w) / Omega(uniform).
  """
  features = jax.lax.stop_gradient(features)
  count = jnp.sum(real).astype(jnp.float32)
  start = jnp.zeros(real.shape, jnp.float32)
  weigh = lambda theta: masked_softmax(theta, real)
  before = jnp.maximum(dependence(features, weigh(start)), jnp.finfo(jnp.float32).tiny)
  if len(features) == 1:
    return weigh(start), jnp.ones((), jnp.float32)

  def objective(theta):
    weights = weigh(theta)
    equality = count * jnp.sum(jnp.square(weights)) - 1.0
    return dependence(features, weights) / before + spread * equality

  def step(_, carry):
    theta, velocity, best, least = carry
    value, slope = jax.value_and_grad(objective)(theta)
    best, least = jnp.where(value < least, theta, best), jnp.minimum(value, least)
    velocity = momentum * velocity + slope
    return theta - rate * count / (1.0 + spread) * velocity, velocity, best, least

  infinite = jnp.full((), jnp.inf, jnp.float32)
  theta, _, best, least = jax.lax.fori_loop(0, steps, step, (start, start, start, infinite))
  weights = weigh(jnp.where(objective(theta) < least, theta, best))
  return weights, dependence(features, weights) / before
