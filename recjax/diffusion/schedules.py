"""How noisy a sample is at a time: schedules, and the algebra between start, noise and noised sample.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,    a_t in (0, 1) falling with t

A schedule maps a time to the log signal-to-noise ratio log(a / (1 - a)). Every function below takes
that number and nothing else, so it serves discrete and continuous time alike; and both a = sigmoid(r)
and 1 - a = sigmoid(-r) keep their precision in float32, where 1 - a alone would lose it near the start.
Ho, Jain and Abbeel, NeurIPS 2020, arXiv 2006.11239; Song, Meng and Ermon, ICLR 2021, arXiv 2010.02502.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from recjax.errors import ConfigError

CLEAN = np.float32(np.inf)  # the log signal-to-noise ratio of a sample without noise


class Schedule(Protocol):
  """Noise over time."""

  def log_snr(self, time: jax.Array) -> jax.Array:
    """Log signal-to-noise ratios, float32, in the shape of `time`."""

  def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Times to train at, of `shape`."""

  def path(self, count: int) -> np.ndarray:
    """`count` falling times [count] to sample along, from the noisiest."""


@dataclasses.dataclass(frozen=True)
class Discrete:
  """Times 0, ..., steps - 1, whose noise grows by given shares beta."""

  table: tuple[float, ...]  # log signal-to-noise ratio of each time

  @classmethod
  def of(cls, beta: np.ndarray) -> "Discrete":
    """From beta [steps], each in (0, 1): a_t is the product of 1 - beta up to t."""
    beta = np.asarray(beta, np.float64)
    if not ((beta > 0) & (beta < 1)).all():
      raise ConfigError("A noise schedule needs every beta between 0 and 1.")
    log_alpha = np.cumsum(np.log1p(-beta))
    return cls(tuple(log_alpha - np.log(-np.expm1(log_alpha))))

  @property
  def steps(self) -> int:
    """How many times there are."""
    return len(self.table)

  def log_snr(self, time):
    """See `Schedule`; time is int32 in 0, ..., steps - 1."""
    return jnp.asarray(self.table, jnp.float32)[time]

  def draw(self, key, shape):
    """Uniform over all times."""
    return jax.random.randint(key, shape, 0, self.steps, jnp.int32)

  def path(self, count):
    """Evenly spaced times that include the first and, last, 0."""
    if not 1 <= count <= self.steps:
      raise ConfigError(f"A schedule of {self.steps} steps cannot be sampled in {count}.")
    return np.round(np.linspace(self.steps - 1, 0, count)).astype(np.int32)


def linear(steps: int = 1000, low: float = 1e-4, high: float = 0.02) -> Discrete:
  """beta from `low` to `high`, evenly spaced (Ho et al.)."""
  return Discrete.of(np.linspace(low, high, steps))


def scaled_linear(steps: int = 1000, low: float = 0.00085, high: float = 0.012) -> Discrete:
  """sqrt(beta) evenly spaced, the schedule of Stable Diffusion."""
  return Discrete.of(np.linspace(low**0.5, high**0.5, steps) ** 2)


def exponential(steps: int = 1000, low: float = 1e-4, high: float = 0.02) -> Discrete:
  """log(beta) evenly spaced."""
  return Discrete.of(np.exp(np.linspace(np.log(low), np.log(high), steps)))


@dataclasses.dataclass(frozen=True)
class Cosine:
  """Continuous time from 0 to 1; a = cos^2 of the shifted time, clipped (Nichol and Dhariwal, ICML
  2021, arXiv 2102.09672; offset and clipping as in Stable Cascade)."""

  offset: float = 0.008
  clip: float = 1e-4  # a stays between clip and 1 - clip

  def log_snr(self, time):
    """See `Schedule`; time is float in 0, ..., 1."""
    angle = lambda t: (self.offset + t) / (1 + self.offset) * np.float32(np.pi / 2)
    signal = jnp.cos(angle(time)) ** 2 / np.cos(angle(0.0)) ** 2
    signal = jnp.clip(signal.astype(jnp.float32), self.clip, 1 - self.clip)
    # From both sides, since 1 - a loses precision near a = 1; clipped like a itself.
    sine = (jnp.sin(angle(time)) ** 2 - np.sin(angle(0.0)) ** 2) / np.cos(angle(0.0)) ** 2
    noise = jnp.clip(sine.astype(jnp.float32), self.clip, 1 - self.clip)
    return jnp.log(signal) - jnp.log(noise)

  def draw(self, key, shape):
    """Uniform over (0.001, 1], as Stable Cascade is trained."""
    return 1.0 - 0.999 * jax.random.uniform(key, shape, jnp.float32)

  def path(self, count):
    """Evenly spaced times from 1, without 0: the last step goes from 1 / count to a clean sample."""
    if count < 1:
      raise ConfigError(f"Sampling needs at least one step, not {count}.")
    return np.linspace(1.0, 0.0, count + 1, dtype=np.float32)[:-1]


SCHEDULES = {
  "linear": linear, "scaled_linear": scaled_linear, "exponential": exponential, "cosine": Cosine,
}


def signal_and_noise(log_snr: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(sqrt(a), sqrt(1 - a)) of log signal-to-noise ratios."""
  return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))


def add_noise(log_snr: jax.Array, start: jax.Array, noise: jax.Array) -> jax.Array:
  """x_t from x_0 [B, ...] and e [B, ...], with one ratio a row [B]."""
  signal, level = along(log_snr, start)
  return signal * start + level * noise


def noise_from_start(log_snr: jax.Array, noised: jax.Array, start: jax.Array) -> jax.Array:
  """The noise that leads from x_0 to x_t, both [B, ...]."""
  signal, level = along(log_snr, noised)
  return (noised - signal * start) / level


def start_from_noise(log_snr: jax.Array, noised: jax.Array, noise: jax.Array) -> jax.Array:
  """The x_0 that `noise` leads from to x_t, both [B, ...]."""
  signal, level = along(log_snr, noised)
  return (noised - level * noise) / signal


def velocity(log_snr: jax.Array, start: jax.Array, noise: jax.Array) -> jax.Array:
  """v = sqrt(a) e - sqrt(1 - a) x_0 (Salimans and Ho, ICLR 2022, arXiv 2202.00512)."""
  signal, level = along(log_snr, start)
  return signal * noise - level * start


def start_from_velocity(log_snr: jax.Array, noised: jax.Array, speed: jax.Array) -> jax.Array:
  """The x_0 that v and x_t belong to."""
  signal, level = along(log_snr, noised)
  return signal * noised - level * speed


def noise_from_velocity(log_snr: jax.Array, noised: jax.Array, speed: jax.Array) -> jax.Array:
  """The noise that v and x_t belong to."""
  signal, level = along(log_snr, noised)
  return level * noised + signal * speed


def min_snr_weight(log_snr: jax.Array, cap: float = 5.0) -> jax.Array:
  """min(SNR, cap) / SNR, for losses on the noise (Hang et al., ICCV 2023, arXiv 2303.09556)."""
  return jnp.minimum(1.0, cap * jnp.exp(-log_snr))


def along(log_snr: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Signal and noise of each row, with axes of one so that they scale values [B, ...]."""
  log_snr = jnp.asarray(log_snr)
  log_snr = log_snr.reshape(log_snr.shape + (1,) * (values.ndim - log_snr.ndim))
  return signal_and_noise(log_snr)
