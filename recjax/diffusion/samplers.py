"""Going from noise to a sample: one step from a time to an earlier one, and a path of such steps.

With eta = 0 a step is deterministic (DDIM); with eta = 1 and neighbouring times it is the ancestral
step of DDPM, whose mean is the mean of q(x_s | x_t, x_0).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from recjax.diffusion.schedules import (
  CLEAN,
  Schedule,
  along,
  noise_from_start,
  start_from_noise,
)

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t [B, ...], time [B]) -> x_0 [B, ...]


def from_noise(predict: Denoiser, schedule: Schedule) -> Denoiser:
  """A denoiser from a network that predicts the noise."""
  return lambda noised, time: start_from_noise(schedule.log_snr(time), noised, predict(noised, time))


def preconditioned(network: Callable, schedule: Schedule, deviation: float) -> Callable:
  """A denoiser from a network whose inputs and output have a variance of about one.

    f(x_t, t) = s^2 sqrt(a) / v x_t + s sqrt(1 - a) / sqrt(v) F(x_t / sqrt(v), t),  v = s^2 a + 1 - a

  The first term is the best linear guess at an x_0 of deviation s. So where there is little noise
  nothing changes much, whatever the network says; where there is much, the network alone decides.
  Karras et al., NeurIPS 2022, arXiv 2206.00364, in terms of a.

  Args:
    network: F, (x [B, ...], time, *conditions) -> [B, ...].
    schedule: gives the noise at each time.
    deviation: s, of a coordinate of x_0.

  Returns:
    (x_t [B, ...], time, *conditions) -> x_0 [B, ...]; the axes of time are the first ones of x_t.
  """
  s = np.float32(deviation)

  def denoise(noised, time, *conditions):
    signal, level = along(schedule.log_snr(time), noised)
    scale = jax.lax.rsqrt(jnp.square(s * signal) + jnp.square(level))
    made = network(noised * scale, time, *conditions)
    return signal * jnp.square(s * scale) * noised + level * s * scale * made

  return denoise


def step_back(
  now: jax.Array, then: jax.Array, noised: jax.Array, start: jax.Array, eta: float = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Mean [B, ...] and standard deviation of x_s given x_t and a prediction of x_0.

  Args:
    now: log signal-to-noise ratio of t, a scalar.
    then: that of s, which is higher; CLEAN at the end, where the mean is x_0 and the deviation 0.
    noised: x_t [B, ...].
    start: predicted x_0 [B, ...].
    eta: share of the ancestral noise, from 0 to 1.
  """
  # 1 - a_t / a_s and 1 - a_s, neither as a difference of numbers near 1.
  lost = -jnp.expm1(jax.nn.log_sigmoid(now) - jax.nn.log_sigmoid(then))
  remaining = jax.nn.sigmoid(-then)
  variance = eta**2 * remaining / jax.nn.sigmoid(-now) * lost
  noise = noise_from_start(now, noised, start)
  direction = jnp.sqrt(jnp.maximum(remaining - variance, 0)) * noise
  mean = jnp.sqrt(jax.nn.sigmoid(then)) * start + direction
  return mean, jnp.sqrt(variance)


def sample(
  denoise: Denoiser,
  noised: jax.Array,
  schedule: Schedule,
  times: np.ndarray,
  *,
  eta: float = 0.0,
  key: jax.Array | None = None,
  remat: bool = False,
) -> jax.Array:
  """Samples [B, ...] from x at times[0] [B, ...], stepping down `times` and then to a clean sample.

  Args:
    denoise: predicts x_0 from x_t and the times [B] of its rows.
    noised: where to begin; noise, or a noised sample to vary it.
    schedule: gives the noise at each time.
    times: falling times [S], S >= 1.
    eta: see `step_back`.
    key: for the noise of the steps; without a key only means are followed.
    remat: recompute each step when differentiating instead of keeping what is inside it.
  """
  times = jnp.asarray(times)
  ratios = schedule.log_snr(times)
  later = jnp.append(ratios[1:], CLEAN)

  def body(x, step):
    index, time, now, then = step
    start = denoise(x, jnp.broadcast_to(time, x.shape[:1]))
    x, deviation = step_back(now, then, x, start, eta)
    if key is not None:
      x = x + deviation * jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
    return x, None

  steps = (jnp.arange(len(times)), times, ratios, later)
  return jax.lax.scan(jax.checkpoint(body) if remat else body, noised, steps)[0]
