"""Arrays in files: what is written is what is read, scalars and transposed arrays too."""

import numpy as np

from recjax.train.arrays import load_arrays, save_arrays


def test_shapes_and_values_survive(tmp_path):
  matrix = np.arange(6.0).reshape(2, 3)
  save_arrays(tmp_path / "a.safetensors", {"a": {"scalar": np.float32(2), "turned": matrix.T}})
  found = load_arrays(tmp_path / "a.safetensors")["a"]
  assert found["scalar"].shape == () and found["scalar"] == 2
  np.testing.assert_array_equal(found["turned"], matrix.T)
