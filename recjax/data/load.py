"""From `config.data` to an event log or a click table: the one entry point for all sources."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from recjax.config import typed
from recjax.data.click_table import ClickTable
from recjax.data.log import EventLog
from recjax.data.prepared import open_log, prepare
from recjax.data.sources.base import Common, cache_root, data_root
from recjax.errors import ConfigError
from recjax.registry import MODULES, resolve, unknown


def load(config: Mapping[str, Any] | Any) -> EventLog | ClickTable:
  """The data that `config.data` asks for; an event log is prepared and cached on first use.

  `name` is a registered source (`movielens_100k`, `planted`, `csv`, `tfds`), the name of a folder
  with interactions.parquet below the data root, or the path of such a folder (with a "/" in it).
  The other keys are those of the source's `Config`; `config` is that, or a mapping. Raises
  ConfigError for unknown names and keys, DataError for data that cannot be used.
  """
  options = data_config(config)
  module = _module(options.name)
  if module is resolve("source", "folder"):
    _check_folder(options)
  opened = module.open_source(options)
  if isinstance(opened, ClickTable):
    return opened
  return open_log(prepare(opened, cache_root(options.cache), options.core, options.duplicates))


def data_config(values: Mapping[str, Any] | Any) -> Any:
  """The `Config` of the source that `values["name"]` stands for, filled; touches no data.

  A filled `Config` is returned as it is. Keys of other sources are let go where they have their
  default value, so that an experiment can be given another data set by its name alone. Raises
  ConfigError for other unknown keys and for wrong types.
  """
  if isinstance(values, Common):
    return values
  values = dict(values)
  name = values.get("name")
  if not isinstance(name, str):
    raise ConfigError("config.data lacks the key 'name': which data set is meant?")
  cls = _module(name).Config
  own = {field.name for field in dataclasses.fields(cls)}
  for key in set(values) - own:
    if any(values[key] == default for default in _defaults(key)):
      del values[key]
  options = typed(cls, values, "config.data")
  if options.file_prefix and name in MODULES["source"]:
    raise ConfigError(f"config.data.file_prefix is for folders; {name!r} has no such files.")
  return options


def folders_below(root: Path) -> list[str]:
  """Names of the folders below `root` that hold interactions, sorted."""
  if not root.is_dir():
    return []
  return sorted(path.name for path in root.iterdir() if any(path.glob("*interactions.parquet")))


def _defaults(key: str) -> list[Any]:
  """Default values that sources give to a key of their own."""
  classes = [resolve("source", name).Config for name in MODULES["source"]]
  return [field.default for c in classes for field in dataclasses.fields(c) if field.name == key]


def _module(name: str) -> ModuleType:
  """The source module for a name: what is not registered is a folder."""
  return resolve("source", name if name in MODULES["source"] else "folder")


def _check_folder(options: Any) -> None:
  root = data_root(options.folder)
  folders = folders_below(root)
  if options.name in folders or "/" in options.name:
    return
  registered = set(MODULES["source"]) - {"folder"}
  raise ConfigError(
    f"{unknown('data set', options.name, [*registered, *folders])} Folders were sought in {root}."
  )
