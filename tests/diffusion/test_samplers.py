"""Steps from noise to sample: hand numbers, exact recovery, the variance of the ancestral step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.diffusion import schedules
from recjax.diffusion.samplers import from_noise, preconditioned, sample, step_back
from recjax.diffusion.schedules import CLEAN, Cosine, add_noise, linear, start_from_noise


def ratios(*times):
  return linear().log_snr(jnp.array(times))


def test_ddim_by_hand():
  now, then = ratios(499, 399)
  start, noise = jnp.ones(1), jnp.full(1, 0.5)
  noised = add_noise(now, start, noise)
  mean, deviation = step_back(now, then, noised, start)
  np.testing.assert_allclose(mean, 0.8903219824127876, rtol=1e-6)
  assert deviation == 0
  mean, deviation = step_back(now, then, noised, start, eta=1.0)
  np.testing.assert_allclose(mean, 0.7077990511468358, rtol=2e-6)
  np.testing.assert_allclose(deviation, 0.7223110915297242, rtol=2e-6)


def test_cosine_ddim_by_hand():
  now, then = Cosine().log_snr(jnp.array([0.75, 0.5]))
  noised = add_noise(now, jnp.ones(1), jnp.full(1, 0.5))
  np.testing.assert_allclose(noised, 0.842359485715344, rtol=1e-6)
  mean, _ = step_back(now, then, noised, jnp.ones(1))
  np.testing.assert_allclose(mean, 1.0584634098612915, rtol=1e-6)


def test_ancestral_step_is_the_posterior_by_hand():
  start, noise = jnp.ones(1), jnp.full(1, 0.5)
  now, then = ratios(499, 498)
  mean, deviation = step_back(now, then, add_noise(now, start, noise), start, eta=1.0)
  np.testing.assert_allclose(mean, 0.7588748577654255, rtol=1e-5)
  np.testing.assert_allclose(deviation**2, 0.010031355414613688, rtol=2e-4)
  # Weights of x_0 and x_t at t = 9.
  now, then = ratios(9, 8)
  step = lambda x_0, x_t: step_back(now, then, jnp.full(1, x_t), jnp.full(1, x_0), eta=1.0)
  np.testing.assert_allclose(step(1.0, 0.0)[0], 0.147274, atol=2e-5)
  np.testing.assert_allclose(step(0.0, 1.0)[0], 0.852726, atol=2e-5)
  np.testing.assert_allclose(step(0.0, 1.0)[1] ** 2, 2.38e-4, rtol=2e-3)
  deviation = step_back(*ratios(1, 0), jnp.ones(1), jnp.ones(1), eta=1.0)[1]
  np.testing.assert_allclose(deviation**2, 5.5e-5, rtol=1e-2)


def test_the_last_step_returns_the_prediction():
  mean, deviation = step_back(ratios(0)[0], CLEAN, jnp.full(1, 9.0), jnp.full(1, 2.0), eta=1.0)
  assert mean == 2 and deviation == 0


@pytest.mark.parametrize("schedule", [linear(), Cosine()])
@pytest.mark.parametrize("first", [0, 3])
def test_a_perfect_denoiser_recovers_the_start_from_any_time(schedule, first):
  keys = jax.random.split(jax.random.key(0), 2)
  start, noise = (jax.random.normal(k, (4, 3)) for k in keys)
  times = schedule.path(8)[first:]
  noised = add_noise(schedule.log_snr(jnp.full(4, times[0])), start, noise)
  got = sample(lambda x, t: start, noised, schedule, times)
  np.testing.assert_allclose(got, start, atol=1e-5)
  # The true noise, too, as long as it stays the noise: the path of DDIM is a straight one.
  truth = from_noise(lambda x, t: noise, schedule)
  tolerance = 2e-2 if first == 0 else 1e-4
  np.testing.assert_allclose(sample(truth, noised, schedule, times), start, atol=tolerance)


def test_sampling_a_gaussian_with_its_own_denoiser():
  # x_0 ~ N(2, 0.5^2): the best denoiser is known, and samples must have that mean and deviation.
  schedule = linear()

  def denoise(x, time):
    signal, level = schedules.signal_and_noise(schedule.log_snr(time))
    return 2.0 + signal * 0.25 / (signal**2 * 0.25 + level**2) * (x - signal * 2.0)

  first, second = jax.random.split(jax.random.key(3))
  noise = jax.random.normal(first, (4000,))
  for eta, key in ((0.0, None), (1.0, second)):
    got = sample(denoise, noise, schedule, schedule.path(100), eta=eta, key=key)
    np.testing.assert_allclose([got.mean(), got.std()], [2.0, 0.5], atol=0.04)


def test_noise_of_steps_depends_on_the_key_alone_and_rematerialising_changes_nothing():
  schedule = linear(20)
  denoise = lambda x, time: 0.5 * x
  noise = jax.random.normal(jax.random.key(0), (2, 3))
  run = lambda **kwargs: sample(denoise, noise, schedule, schedule.path(5), eta=1.0, **kwargs)
  np.testing.assert_array_equal(run(key=jax.random.key(1)), run(key=jax.random.key(1)))
  assert not np.allclose(run(key=jax.random.key(1)), run(key=jax.random.key(2)))
  loss = lambda x, remat: sample(denoise, x, schedule, schedule.path(5), remat=remat).sum()
  np.testing.assert_allclose(
    jax.grad(loss)(noise, True), jax.grad(loss)(noise, False), rtol=1e-6
  )


def test_start_from_noise_of_a_network():
  schedule = linear()
  noised, time = jnp.ones((2, 3)), jnp.array([5, 700])
  got = from_noise(lambda x, t: 0.1 * x, schedule)(noised, time)
  np.testing.assert_array_equal(got, start_from_noise(schedule.log_snr(time), noised, 0.1 * noised))


def test_a_silent_network_leaves_the_best_linear_guess():
  """f = E[x_0 | x_t] of a normal x_0 whose coordinates have the deviation named."""
  width, schedule = 24, linear()
  make = lambda network: preconditioned(network, schedule, width**-0.5)
  silent = make(lambda noised, time: jnp.zeros_like(noised))
  time = jnp.array([[0, 9, 499, 999]])
  noised = jnp.ones((1, 4, width))
  made = silent(noised, time)[0, :, 0]
  a = np.array([0.9999, 0.998105, 0.078587, 0.000040])
  np.testing.assert_allclose(made, np.sqrt(a) / width / (a / width + 1 - a), rtol=2e-2)
  # Errors of the network weigh little where there is little noise.
  loud = make(lambda noised, time: jnp.ones_like(noised))
  share = (loud(noised, time) - silent(noised, time))[0, :, 0]
  assert (np.diff(share) > 0).all()
  np.testing.assert_allclose(share[-1], width**-0.5, rtol=1e-3)
  # It is given x_t in a scale of its own, and conditions as they are.
  network = lambda noised, time, condition: noised + condition
  seen = make(network)(noised, time, 2 * noised)[0, :, 0]
  expected = np.asarray(made) + np.asarray(share) * (2 + (a / width + 1 - a) ** -0.5)
  np.testing.assert_allclose(seen, expected, rtol=2e-2)
