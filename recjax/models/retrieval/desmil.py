"""Improving Multi-Interest Network with Stable Learning. Liu Z., Luo, Zeng, Liu Q., Chang, Kong, Chen,
arXiv 2207.07910 (2022); and, of overlapping authors, Deep Stable Multi-Interest Learning for
Out-of-distribution Sequential Recommendation (DESMIL), arXiv 2304.05615 (2023). After the abstracts:
neither the bodies nor any official code could be read, so the equations put together what they name.

Interests V [B, K, D] are those of ComiRec, by self-attention or by routing; the one nearest to the
target predicts it. Interests that depend on each other in training mislead where the dependence
is another one, so samples are weighted such that it vanishes. For each batch, V constant:

    z_k = g(standardised v_k),  g = sqrt(2) cos(omega x + phi), Q draws for each of D coordinates
    Omega(w) = sum over a < b of |Z_a^T diag(w) Z_b - (Z_a^T w) (Z_b^T w)^T|^2,  w = softmax(theta)
    theta from 0: E steps down Omega(w) / Omega(uniform) + lambda (n sum w^2 - 1)
    L = sum over i of n w_i l_i,  l a sampled softmax, w constant

(`losses.independence`). With mode="penalty" Omega(uniform) is a part of the model's loss instead, and
samples count alike.

Where we depart from the papers, or decide for them, and why:
- Dependence is measured by random Fourier features as in StableNet (Zhang et al., CVPR 2021), the
  nearest method with code; the exact criterion is what `evaluate.interests` reports. StableNet takes
  all pairs of features; here those of one interest are left alone, as the abstract speaks of
  dependence among interests.
- theta starts anew in each batch, and no memory of earlier batches is kept: rows of different batches
  have no order in which they could be averaged. Batches (parts of them with train.micro_batches)
  should have 128 rows or more.
- The term with lambda is needed: without it one sample takes all weight. The trade-off is relative to
  the dependence at the start, and the best iterate is kept, so that the effective sample size is at
  least n lambda / (1 + lambda).
- Until `warmup_steps` samples count alike, since untrained interests tell nothing.
- "Only the most important interest" is the nearest to the target, as in ComiRec; a positive `sharpness`
  reads out softly.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.losses.independence import (
  coordinate_features,
  dependence,
  effective_size,
  fourier_features,
  independent_weights,
  standardize,
)
from recjax.models.learner import Learner
from recjax.models.retrieval import comirec
from recjax.models.retrieval._interests import Adjustment
from recjax.ranges import Count, Positive, Weight
from recjax.registry import unknown

MODES = ("reweight", "penalty")


@dataclasses.dataclass(frozen=True)
class Config(comirec.Config):
  """What can be chosen beside what ComiRec has."""

  name: str = "desmil"
  mode: str = "reweight"  # reweight, sample weights | penalty, a term of the model's loss
  features: Positive = 5  # Q, functions drawn for each coordinate
  spread: Weight = 0.3  # lambda, what equal weights are worth
  weight_steps: Count = 20  # E
  weight_rate: Weight = 0.05  # of the steps; theta moves by n / (1 + lambda) times as much
  penalty: Weight = 1.0  # mode=penalty: factor of the mean squared covariance of features
  warmup_steps: Count = 0  # steps before dependence matters
  sharpness: Weight = 0.0  # of a soft read-out; 0 for the nearest interest alone


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; see `_interests.build_interests` for fields, losses and errors.

  Metrics: `effective_sample_size`, of n rows that count; `dependence_ratio`, Omega(w) / Omega(uniform);
  `dependence`, Omega(uniform) divided by the number of pairs of features.
  """
  if config.mode not in MODES:
    raise ConfigError(unknown("mode", config.mode, MODES))
  per_pair = max(config.interests * (config.interests - 1) // 2, 1)
  per_pair *= (config.width * config.features) ** 2

  def adjust(variables, interests, real, key):
    step = variables["progress"]["steps"]
    active = step >= config.warmup_steps
    functions = coordinate_features(key, config.width, config.features)
    standard = jnp.swapaxes(standardize(interests, real), 0, 1)
    features = fourier_features(standard, functions)
    count = jnp.sum(real).astype(jnp.float32)
    equal = real / jnp.maximum(count, 1.0)
    mean_square = dependence(features, equal) / per_pair
    one = jnp.ones((), jnp.float32)
    metrics = {"dependence": (mean_square, one)}
    mutable = {"progress": {"steps": step + 1}}
    if config.mode == "penalty":
      penalty = jnp.where(active, config.penalty, 0.0) * mean_square
      return Adjustment(real.astype(jnp.float32), penalty, metrics, mutable)
    weights, ratio = independent_weights(
      features, real, spread=config.spread, steps=config.weight_steps, rate=config.weight_rate
    )
    weights = jnp.where(active, weights, equal)
    metrics["effective_sample_size"] = (effective_size(weights) * jnp.any(real), one)
    metrics["dependence_ratio"] = (jnp.where(active, ratio, 1.0), one)
    return Adjustment(count * weights, 0.0, metrics, mutable)

  return comirec.build(
    config, schema, counts, sharpness=config.sharpness, adjust=adjust,
    collections={"progress": {"steps": jnp.zeros((), jnp.int32)}},
  )
