"""Schedules and the algebra of noised samples: published constants, inverses, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.diffusion import schedules
from recjax.errors import ConfigError


@pytest.mark.parametrize("schedule, values", [
  (schedules.linear(), {
    0: 0.9999, 1: 0.9997800920720721, 9: 0.998105, 99: 0.89701814567496, 399: 0.19514644493343236,
    499: 0.07858724288177824, 500: 0.07779665836502389, 999: 4.035829765375676e-05,
  }),
  (schedules.scaled_linear(), {0: 0.99915, 499: 0.2776696505, 999: 0.0046600985}),
])
def test_discrete_signal_by_hand(schedule, values):
  ratios = schedule.log_snr(jnp.array(list(values)))
  np.testing.assert_allclose(jax.nn.sigmoid(ratios), list(values.values()), rtol=2e-6)


def test_log_ratios_by_hand():
  got = schedules.linear().log_snr(jnp.array([0, 499]))
  np.testing.assert_allclose(got, [9.21024036697596, -2.461698715810472], rtol=1e-6)


def test_cosine_by_hand():
  times = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
  ratios = schedules.Cosine().log_snr(times)
  np.testing.assert_allclose(
    ratios,
    [9.21024036697596, 1.71135662023160, -0.0246268828115144, -1.78025133256055, -9.21024036697585],
    rtol=2e-6,
  )
  signal, level = schedules.signal_and_noise(ratios)
  np.testing.assert_allclose(signal[1:3], [0.9203326362391506, 0.7027400589411691], rtol=1e-6)
  np.testing.assert_allclose(level[1:3], [0.39113659848331145, 0.7114467018402448], rtol=1e-6)


def test_noise_keeps_its_precision_near_the_start():
  # 1 - a_0 = 1e-4; as a difference from 1 it would be off by 3e-4 of itself in float32.
  level = schedules.signal_and_noise(schedules.linear().log_snr(jnp.array(0)))[1]
  np.testing.assert_allclose(level**2, 1e-4, rtol=2e-6)


def test_noised_sample_and_velocity_by_hand():
  ratio = schedules.linear().log_snr(jnp.array([499]))
  start, noise = jnp.array([1.0]), jnp.array([0.5])
  noised = schedules.add_noise(ratio, start, noise)
  np.testing.assert_allclose(noised, 0.7602853992432965, rtol=1e-6)
  speed = schedules.velocity(ratio, start, noise)
  np.testing.assert_allclose(speed, -0.8197353912680978, rtol=1e-6)
  np.testing.assert_allclose(schedules.start_from_velocity(ratio, noised, speed), start, rtol=1e-6)
  np.testing.assert_allclose(schedules.noise_from_velocity(ratio, noised, speed), noise, rtol=1e-6)
  weight = schedules.min_snr_weight(ratio, 0.05)
  np.testing.assert_allclose(weight, 0.05 / 0.08528994446263685, rtol=1e-5)
  assert schedules.min_snr_weight(ratio, 5.0) == 1


def test_start_and_noise_are_inverse_and_per_row():
  schedule = schedules.linear()
  keys = jax.random.split(jax.random.key(0), 2)
  start, noise = (jax.random.normal(k, (3, 4, 5)) for k in keys)
  ratio = schedule.log_snr(jnp.array([0, 300, 999]))
  noised = schedules.add_noise(ratio, start, noise)
  alone = schedules.add_noise(ratio[1:2], start[1:2], noise[1:2])
  np.testing.assert_array_equal(noised[1], alone[0])
  np.testing.assert_allclose(schedules.noise_from_start(ratio, noised, start), noise, atol=2e-4)
  np.testing.assert_allclose(schedules.start_from_noise(ratio, noised, noise), start, atol=2e-4)


@pytest.mark.parametrize(
  "schedule", [schedules.linear(100), schedules.exponential(100), schedules.Cosine()]
)
def test_noise_grows_with_time_and_paths_fall(schedule):
  path = schedule.path(10)
  assert len(path) == 10 and (np.diff(path) < 0).all()
  assert (np.diff(schedule.log_snr(jnp.asarray(path))) > 0).all()
  drawn = schedule.draw(jax.random.key(1), (1000,))
  assert drawn.min() >= path[-1] * 0 and drawn.max() <= path[0]


def test_a_discrete_path_holds_both_ends():
  np.testing.assert_array_equal(schedules.linear(10).path(10), np.arange(10)[::-1])
  assert list(schedules.linear().path(3)) == [999, 500, 0]


def test_errors():
  with pytest.raises(ConfigError, match="every beta between 0 and 1"):
    schedules.linear(high=1.0)
  with pytest.raises(ConfigError, match="100 steps cannot be sampled in 101"):
    schedules.linear(100).path(101)
  with pytest.raises(ConfigError, match="at least one step, not 0"):
    schedules.Cosine().path(0)
