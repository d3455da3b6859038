"""What a checkpoint that could not be read or written leaves to the garbage collector."""

import pytest

# Orbax's unfinished coroutines complain when they are collected, in whichever test runs by then: a
# module of tests that breaks storage says `pytestmark = leftovers.COLLECTED` and keeps them to itself.
COLLECTED = [
  pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning"
  ),
  pytest.mark.usefixtures("collected"),
]
