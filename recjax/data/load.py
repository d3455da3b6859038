"""From `config.data` to an event log or a table of examples: the one entry point for all sources."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from recjax.config import data_config
from recjax.data.click_table import ClickTable
from recjax.data.log import EventLog
from recjax.data.preference_table import PreferenceTable
from recjax.data.prepared import open_log, prepare
from recjax.data.sources.base import Source, cache_root, data_root
from recjax.errors import ConfigError
from recjax.registry import MODULES, resolve, unknown


def load(config: Mapping[str, Any] | Any) -> EventLog | ClickTable | PreferenceTable:
  """The data that `config.data` asks for; an event log is prepared and cached on first use.

  `name` is a registered source (`movielens_100k`, `planted`, `csv`, `tfds`), the name of a folder
  with interactions.parquet below the data root, the path of such a folder (with a "/" in it), or a
  Parquet file of interactions.
  The other keys are those of the source's `Config`; `config` is that, or a mapping. Raises
  ConfigError for unknown names and keys, DataError for data that cannot be used.
  """
  options = data_config(config)
  module = _module(options.name)
  if module is resolve("source", "folder"):
    _check_folder(options)
  elif options.file_prefix:
    raise ConfigError(f"config.data.file_prefix is for folders; {options.name!r} is none.")
  opened = module.open_source(options)
  if not isinstance(opened, Source):
    return opened
  prepared = prepare(
    opened, cache_root(options.cache), options.core, options.duplicates,
    most_popular=options.most_popular,
  )
  return open_log(prepared)


def folders_below(root: Path) -> list[str]:
  """Names of the folders below `root` that hold interactions, sorted."""
  if not root.is_dir():
    return []
  return sorted(path.name for path in root.iterdir() if any(path.glob("*interactions.parquet")))


def _module(name: str) -> ModuleType:
  """The source module for a name: what is not registered is a folder."""
  return resolve("source", name if name in MODULES["source"] else "folder")


def _check_folder(options: Any) -> None:
  root = data_root(options.folder)
  folders = folders_below(root)
  if options.name in folders or "/" in options.name or options.name.endswith(".parquet"):
    return
  registered = set(MODULES["source"]) - {"folder"}
  raise ConfigError(
    f"{unknown('data set', options.name, [*registered, *folders])} Folders were sought in {root}."
  )
