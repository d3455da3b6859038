"""Comparisons of Twemoji pictures by users with planted tastes in colour, ink and contrast.

Reads the folder `twemoji_images` below the data root: images32.npz (uint8 RGBA [n, 32, 32, 4]) and
items.parquet, row i about picture i. The prompt is the category; pairs are of one category.
"""

import dataclasses
import zipfile

import numpy as np
import pyarrow.parquet as pq

from recjax.data.preference_table import PreferenceTable
from recjax.data.sources import _pictures
from recjax.data.sources._preferences import People, World, compare, pairs_within, plant_users
from recjax.data.sources.base import data_root
from recjax.errors import ConfigError, DataError
from recjax.ranges import Positive
from recjax.registry import unknown

_FULL = 32


@dataclasses.dataclass(frozen=True)
class Config(People):
  """Keys of `config.data` for emoji."""

  size: Positive = 16  # height and width: 8, 16 or 32
  column: str = "category"  # category | subcategory: what the prompt says
  only: tuple[str, ...] = ()  # keep pictures of these alone, as the column names them; none = all


def open_source(config: Config) -> PreferenceTable:
  """The comparisons; DataError where the pictures are not there."""
  rng = np.random.default_rng([config.seed, 2])
  users = plant_users(config, rng)
  world = read(config)
  return compare(config, rng, users, world, pairs_within(rng, world.prompt, users.pairs))


def read(config: Config) -> World:
  """The pictures on white, shrunk to `size`, prompts as one-hot vectors."""
  if config.size not in (8, 16, _FULL):
    raise ConfigError(f"config.data.size of emoji is 8, 16 or 32, not {config.size}.")
  folder = data_root(config.folder) / "twemoji_images"
  for name in ("images32.npz", "items.parquet"):
    if not (folder / name).is_file():
      raise DataError(f"There is no {folder / name}.")
  try:
    with np.load(folder / "images32.npz", allow_pickle=False) as stored:
      image = stored["images"].astype(np.float32) / 255
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise DataError(f"{folder / 'images32.npz'} does not give images: {error}.") from None
  items = pq.read_table(folder / "items.parquet", columns=["item_id", config.column])
  kind = np.asarray(items[config.column].to_pylist())
  for name in config.only:
    if name not in kind:
      raise ConfigError(f"config.data.only: {unknown(config.column, name, set(kind.tolist()))}")
  kept = np.isin(kind, config.only) if config.only else np.ones(len(kind), bool)
  number = items["item_id"].to_numpy()[kept] - 1
  names, prompt = np.unique(kind[kept], return_inverse=True)
  on_white = image[number, :, :, :3] * image[number, :, :, 3:] + 1 - image[number, :, :, 3:]
  samples = _pictures.shrink(on_white, config.size).reshape(-1, config.size, config.size, 3) * 2 - 1
  samples = samples.astype(np.float32)
  measure = _pictures.Measure(samples, prompt)
  return World(
    "emoji", samples, prompt, np.eye(len(names), dtype=np.float32),
    measure, measure.distance, _pictures.shrink,
    {"way": f"Twemoji pictures, planted tastes of seed {config.seed}",
     "licence": "Twemoji graphics: CC BY 4.0, copyright Twitter, Inc and other contributors",
     "attributes": list(_pictures.ATTRIBUTES), "names": [str(name) for name in names]},
  )
