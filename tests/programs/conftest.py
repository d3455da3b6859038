"""Unbroken runs that several tests compare with."""

import pytest
import running


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
  """settings -> workdir of the short run on one device."""
  made = {}

  def make(*settings):
    if settings not in made:
      made[settings] = tmp_path_factory.mktemp("unbroken") / "run"
      running.run(made[settings], *settings)
    return made[settings]

  return make
