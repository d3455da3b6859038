"""Early stopping by hand: patience, seeds that stop at different times, values that are no numbers."""

import numpy as np
import pytest

from recjax.errors import RecjaxError
from recjax.train.progress import Progress, progress_line


def test_each_seed_stops_where_it_would_alone():
  both = [(0.1, 0.5), (0.3, 0.4), (0.2, 0.3), (0.4, 0.9), (0.1, 0.1), (0.1, 0.1)]
  progress = Progress.create(2)
  improved = [progress.update(10 * (i + 1), np.array(v), patience=2) for i, v in enumerate(both)]
  # The second seed runs out at step 30; its 0.9 at step 40 no longer counts.
  assert [i.tolist() for i in improved] == [
    [True, True], [True, False], [False, False], [True, False], [False, False], [False, False]
  ]
  np.testing.assert_array_equal(progress.best, [0.4, 0.5])
  np.testing.assert_array_equal(progress.best_step, [40, 10])
  np.testing.assert_array_equal(progress.stopped, [1, 1])
  for seed in (0, 1):
    alone = Progress.create(1)
    for i, values in enumerate(both):
      if not alone.stopped.all():
        alone.update(10 * (i + 1), np.array([values[seed]]), patience=2)
    assert alone.best[0] == progress.best[seed] and alone.best_step[0] == progress.best_step[seed]


def test_a_tie_is_no_improvement_and_patience_zero_never_stops():
  progress = Progress.create(1)
  for step in range(1, 9):
    progress.update(step, np.array([0.5]), patience=0)
  assert progress.best_step[0] == 1 and progress.stopped[0] == 0


def test_a_value_that_is_no_number_stops_the_run():
  with pytest.raises(RecjaxError, match="step 7 is not finite"):
    Progress.create(1).update(7, np.array([np.nan]), patience=1)


def test_the_line_says_what_is_left():
  speed = {"steps_per_second": 2.0, "examples_per_second": 256.0, "data_wait": 0.031}
  line = progress_line(50, 250, {"loss": np.float32(1.5), "gradient_norm": np.float32(0.25)}, speed)
  expected = "step 50/250  loss 1.5000  |g| 0.250  256 examples/s  data wait 3%  eta 1m40s"
  assert line == expected
