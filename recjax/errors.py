"""Errors that are meant for people: one sentence that names the cause and, where known, the cure."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator


class RecjaxError(ValueError):
  """A mistake in what recjax was given; `main` prints it without a traceback."""


class ConfigError(RecjaxError):
  """A config key, value or combination of values that cannot work."""


class DataError(RecjaxError):
  """Input data that cannot be used; the message names file, column and row."""


class StorageError(RecjaxError):
  """What cannot be written: the disk is full or read-only, a quota is reached, or it is not ours."""


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Raises StorageError where the system refuses to write `path`, beside it or, a folder, in it."""
  try:
    yield
  except Exception as error:
    reason = _refusal(error, path)
    if reason is None:
      raise
    raise StorageError(
      f"{path} cannot be written ({reason}); once that is mended, the same command goes on."
    ) from error


def _refusal(error: Exception, path: pathlib.Path) -> str | None:
  """What the system said, or None where the error is of another kind or about another file."""
  if isinstance(error, OSError):
    around = os.path.dirname(os.path.abspath(path))
    named = os.path.abspath(error.filename or path)
    if os.path.commonpath([around, named]) not in (around, named):
      return None
    # NumPy counts the bytes that were not taken, and keeps the reason to itself.
    return error.strerror or f"{error}: is the disk full?"
  number = re.search(r"os[_ ]error(?:_code=')?\D?(\d+)", str(error))
  return os.strerror(int(number[1])) if number else None
