"""A trained model as plain files: flat safetensors, JSON, and one name a line.

    variables.safetensors   arrays by path
    config.json             the experiment
    schema.json             fields and vocabularies of a batch
    items.json              {"raw": [...], "label": [...], "category": [...]}, one entry an id, 0 for
                            padding
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from recjax.config import Config, resolve
from recjax.data.schema import Schema
from recjax.errors import RecjaxError, writing
from recjax.train.arrays import load_arrays, save_arrays
from recjax.train.writers import read_json, write_json


class Export(NamedTuple):
  """A loaded export: variables, config, schema, and item columns, where known: raw, label, category."""

  variables: dict[str, Any]
  config: Config
  schema: Schema
  items: dict[str, list[str]]


def write_export(
  folder: pathlib.Path, variables: Any, config: Mapping[str, Any], schema: Schema, items: Mapping
) -> None:
  """Writes the four files; each is complete or absent."""
  with writing(folder):
    folder.mkdir(parents=True, exist_ok=True)
  save_arrays(folder / "variables.safetensors", variables)
  write_json(folder / "config.json", config)
  write_json(folder / "schema.json", schema.to_json())
  names = {k: [str(v) for v in items[k]] for k in ("raw", "label", "category") if k in items}
  write_json(folder / "items.json", names)


def read_export(folder: pathlib.Path) -> Export:
  """Reads an export; raises RecjaxError where it is not one."""
  missing = [n for n in ("variables.safetensors", "config.json", "schema.json", "items.json")
             if not (folder / n).is_file()]
  if missing:
    raise RecjaxError(f"{folder} is not an export: {missing[0]} is missing. Has the run finished?")
  read = lambda name: read_json(folder / name)
  return Export(
    load_arrays(folder / "variables.safetensors"),
    resolve(read("config.json")),
    Schema.from_json(read("schema.json")),
    read("items.json"),
  )
