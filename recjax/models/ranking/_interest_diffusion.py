"""Diffusion of interests: the loss of a denoiser, and variations of interests by noising and denoising.

`denoise` is (noised [N, K, D], time [N, K], context [N, K, D], channels [N, K, D]) -> interests
[N, K, D] in all functions, and interests have length one; see `nn.interest_generators`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from recjax.diffusion import schedules
from recjax.diffusion.samplers import sample

Denoise = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def denoising_loss(
  denoise: Denoise,
  schedule: schedules.Schedule,
  interests: jax.Array,
  channels: jax.Array,
  key: jax.Array,
) -> jax.Array:
  """Mean square error [N, K] of `denoise` at x_0 = interests [N, K, D], at random times."""
  of_time, of_noise = jax.random.split(key)
  time = schedule.draw(of_time, interests.shape[:2])
  noise = jax.random.normal(of_noise, interests.shape)
  noised = schedules.add_noise(schedule.log_snr(time), interests, noise)
  made = denoise(noised, time, interests, channels)
  return jnp.mean(jnp.square(made - interests), axis=-1)


def generate(
  denoise: Denoise,
  schedule: schedules.Schedule,
  interests: jax.Array,
  channels: jax.Array,
  times: np.ndarray,
  key: jax.Array | None = None,
  *,
  remat: bool = False,
) -> jax.Array:
  """Samples [N, K, D] from interests noised to times[0], stepped down `times` [S] and to the end.

  Without a key no noise is drawn: interests shrink to the mean at times[0], and means are followed.
  With `remat` each step is computed again when differentiating.
  """
  start = jnp.full(interests.shape[:2], times[0], jnp.int32)
  noise = jnp.zeros_like(interests)
  if key is not None:
    key, of_start = jax.random.split(key)
    noise = jax.random.normal(of_start, interests.shape)
  noised = schedules.add_noise(schedule.log_snr(start), interests, noise)
  flat = lambda x: x.reshape(-1, x.shape[-1])

  def step(x, time):
    time = time.reshape(interests.shape[:2])
    return flat(denoise(x.reshape(interests.shape), time, interests, channels))

  made = sample(step, flat(noised), schedule, times, eta=1.0, key=key, remat=remat)
  return made.reshape(interests.shape)
