"""Errors that are meant for people: one sentence that names the cause and, where known, the cure."""


class RecjaxError(ValueError):
  """A mistake in what recjax was given; `main` prints it without a traceback."""


class ConfigError(RecjaxError):
  """A config key, value or combination of values that cannot work."""


class DataError(RecjaxError):
  """Input data that cannot be used; the message names file, column and row."""
