"""A start measured from outside, and what becomes of one that ends early."""

import cold_start
import pytest


@pytest.mark.slow
@pytest.mark.network
def test_the_first_step_comes_before_the_first_validation(tmp_path):
  found = cold_start.measure(1, tmp_path)
  for (seconds,) in found.values():
    assert 0 < seconds["first step"] < seconds["first validation"]
  anew, again = (seconds["first step"] for (seconds,) in found.values())
  assert again < anew


@pytest.mark.multiprocess
def test_a_run_that_ends_early_is_told(tmp_path, monkeypatch):
  monkeypatch.setitem(cold_start.SETTINGS, "train.batch_size", 0)
  with pytest.raises(SystemExit, match="ended before its first validation:\nrecjax: .*batch_size"):
    cold_start.start(tmp_path / "cache", tmp_path / "run")
