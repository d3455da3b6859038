"""Unbroken runs that several tests compare with."""

import time

import pytest
import running


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
  """settings -> (workdir of a run on one device, its seconds with everything compiled before)."""
  made = {}

  def make(*settings):
    if settings not in made:
      folder = tmp_path_factory.mktemp("unbroken")
      running.run(folder / "cold", *settings)
      begun = time.monotonic()
      running.run(folder / "warm", *settings)
      made[settings] = folder / "warm", time.monotonic() - begun
      running.assert_same(folder / "cold", folder / "warm")
    return made[settings]

  return make
