"""Correlations of behaviours and clicks: numbers by hand, loops, and what planted clicks must show."""

import numpy as np
import pytest

from recjax.data.load import load
from recjax.evaluate.correlation import (
  click_correlations,
  learned_correlations,
  mutual_information,
  to_unit_range,
)


def test_mutual_information_by_hand():
  assert mutual_information(30, 10, 50, 50) == pytest.approx(0.124511, abs=1e-6)
  assert mutual_information(20, 20, 50, 50) == pytest.approx(0, abs=1e-12)
  assert mutual_information(0, 0, 50, 50) == 0
  assert mutual_information(50, 0, 50, 50) == pytest.approx(1)
  assert np.isnan(mutual_information(0, 0, 0, 0))
  grid = mutual_information(np.array([[30, 20]]), np.array([[10, 20]]), 50, 50)
  np.testing.assert_allclose(grid, [[0.124511, 0]], atol=1e-6)


def test_rows_are_counted_by_position_and_category():
  rng = np.random.default_rng(0)
  mask = rng.random((300, 5)) < 0.7
  columns = {
    "hist_cat": rng.integers(1, 4, (300, 5)), "hist_mask": mask,
    "target_cat": rng.integers(1, 3, 300), "label": rng.integers(0, 2, 300).astype(np.float32),
  }
  got = click_correlations(columns, 1, (1, 3), 3)
  rows = np.flatnonzero(columns["target_cat"] == 1)
  for index, category in enumerate((1, 3)):
    for position in (1, 2, 3):
      table = np.zeros((2, 2))
      for row in rows:
        real = columns["hist_cat"][row][mask[row]]
        there = len(real) >= position and real[-position] == category
        table[int(there), int(columns["label"][row])] += 1
      joint = table / table.sum()
      bits = sum(
        joint[i, j] * np.log2(joint[i, j] / (joint[i].sum() * joint[:, j].sum()))
        for i in (0, 1) for j in (0, 1) if joint[i, j]
      )
      assert got[index, position - 1] == pytest.approx(bits)
  assert np.isnan(click_correlations(columns, 9, (1,), 2)).all()


def test_what_planted_recency_holds():
  """The target's own category says most, and less the older it is; others say next to nothing."""
  data = load({"name": "planted", "generator": "recency", "num_categories": 8})
  grids = [
    click_correlations(data.parts["train"], target, [target, target % 8 + 1], 6)
    for target in range(1, 9)
  ]
  own, other = np.mean(grids, axis=0)
  assert (np.diff(own) < 0).all()
  assert own[0] > 5 * other[0]


def test_learned_correlations_by_hand():
  behaviours = np.array([[1.0, 2.0], [0.0, 1.0]])
  positions = np.array([[0.5, 0.0], [0.0, -0.5]])
  got = learned_correlations(behaviours, np.array([1.0, -1.0]), positions, np.array([0.1, 0.2]))
  # The older behaviour at 2, the newer at 1.
  np.testing.assert_allclose([got[0, 1], got[1, 0]], [1.516749, 0.813519], atol=1e-6)
  flat = learned_correlations(behaviours, np.array([1.0, -1.0]), 0 * positions, np.zeros(2))
  np.testing.assert_array_equal(flat[:, 0], flat[:, 1])


def test_to_unit_range():
  np.testing.assert_allclose(to_unit_range(np.array([[2.0, 4.0], [3.0, 2.0]])), [[0, 1], [0.5, 0]])
  np.testing.assert_array_equal(to_unit_range(np.full((2, 2), 7.0)), 0)
