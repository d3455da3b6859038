"""Labels of watching and chances of slots, by hand and by loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjax.data import watch_time
from recjax.errors import DataError

SECONDS, DURATION = np.array([5.0, 10.0, 6.0, 30.0]), np.array([10.0, 10.0, 30.0, 30.0])


def test_ratios_and_halves_by_hand():
  np.testing.assert_allclose(watch_time.watch_ratio(SECONDS, DURATION), [0.5, 1, 0.2, 1])
  np.testing.assert_allclose(watch_time.watch_ratio(SECONDS * 3, DURATION), [1, 1, 0.6, 1])
  np.testing.assert_array_equal(watch_time.watched_half(SECONDS, DURATION), [1, 1, 0, 1])
  assert np.argmax(SECONDS) == 3  # raw seconds put the longest video first


def test_quantiles_by_hand():
  """Two bins of durations; within the second, two equal times share their place."""
  seconds = np.array([5.0, 10, 1, 30, 30, 6])
  duration = np.array([10.0, 10, 10, 31, 32, 33])
  found = watch_time.duration_quantiles(seconds, duration, 2)
  np.testing.assert_allclose(found, np.array([3, 5, 1, 4, 4, 1]) / 6)


@given(st.integers(0, 100), st.integers(1, 12))
def test_the_mean_of_every_bin_is_a_half(seed, bins):
  rng = np.random.default_rng(seed)
  duration = rng.lognormal(3, 0.6, 200)
  seconds = np.round(duration * rng.random(200))
  label = watch_time.duration_quantiles(seconds, duration, bins)
  order = np.argsort(duration)
  np.testing.assert_allclose(label.mean(), 0.5)
  # Ordered by duration, the bins follow one another.
  edges = np.searchsorted(duration[order], np.quantile(duration, np.arange(bins + 1) / bins))
  edges[-1] = 200
  for start, end in zip(edges[:-1], edges[1:], strict=True):
    rows = order[start:end]
    np.testing.assert_allclose(label[rows].mean(), 0.5)
    assert 0 < label[rows].min() and label[rows].max() < 1
    assert (np.diff(label[rows][np.argsort(seconds[rows])]) >= 0).all()


def test_chances_of_slots_and_what_they_correct():
  slot = np.tile([1, 2, 3], 4)
  watched = np.array([1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0.0])
  chances = watch_time.slot_chances(watched, slot, 3)
  np.testing.assert_allclose(chances[1:], [1, 0.5, 0.25])
  assert np.isnan(chances[0])
  np.testing.assert_allclose(watch_time.inverse_chances(chances, slot[:3]), [1, 2, 4])
  np.testing.assert_allclose(watch_time.inverse_chances(chances, slot[:3], 3.0), [1, 2, 3])
  # Where all slots are alike nothing is corrected.
  alike = watch_time.slot_chances(np.ones(12), slot, 3)
  np.testing.assert_array_equal(watch_time.inverse_chances(alike, slot), 1)
  with pytest.raises(DataError, match="Nothing was watched at random in slot 2"):
    watch_time.slot_chances(np.where(slot == 2, 0, watched), slot, 3)
