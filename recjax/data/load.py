"""From `config.data` to an event log: the one entry point for all sources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recjax.data.log import EventLog
from recjax.data.prepared import open_log, prepare
from recjax.data.sources.base import Source, cache_root, data_root, parse_config
from recjax.data.sources.planted import ClickTable, click_table
from recjax.errors import ConfigError
from recjax.registry import MODULES, resolve, unknown


def load(config: Mapping[str, Any]) -> EventLog | ClickTable:
  """The event log (for planted clicks: the click table) that `config.data` asks for, prepared and cached on first use.

  `config["name"]` is a registered source (`movielens_100k`, `planted`, `csv`, `tfds`), the name of
  a folder with interactions.parquet below the data root, or the path of such a folder (with a
  "/" in it). The other keys are those of the source's `Config`. Raises ConfigError for unknown
  names and keys, DataError for data that cannot be used.
  """
  if config.get("name") == "planted" and config.get("generator", "markov") != "markov":
    return click_table(config)
  source, options = open_source(config)
  return open_log(prepare(source, cache_root(options.cache), options.core, options.duplicates))


def open_source(config: Mapping[str, Any]) -> tuple[Source, Any]:
  """The source that `config.data` asks for, not yet read, and its filled `Config`."""
  values = dict(config)
  name = values.get("name", "")
  registered = set(MODULES["source"]) - {"folder"}
  if name in registered:
    module = resolve("source", name)
  else:
    module = resolve("source", "folder")
    root = data_root(values.get("folder", ""))
    folders = folders_below(root)
    if name not in folders and "/" not in str(name):
      raise ConfigError(
        unknown("data set", str(name), [*registered, *folders]) + f" Folders were sought in {root}."
      )
  options = parse_config(module.Config, values)
  return module.open_source(options), options


def folders_below(root: Path) -> list[str]:
  """Names of the folders below `root` that hold interactions, sorted."""
  if not root.is_dir():
    return []
  return sorted(path.name for path in root.iterdir() if any(path.glob("*interactions.parquet")))
