"""Vectors of items from their texts: `WORKDIR/vectors.npy`, a row an item.

    python -m recjax.main --mode=encode --config=experiments/text_vectors.py --workdir=runs/vectors

Row 0 is padding, row i belongs to item i of the prepared data, whose own id is line i of `items.txt`;
an item without text has a row of zeros. The same command finds what it made again.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recjax.config import data_config
from recjax.data.frozen import KINDS, FrozenTable
from recjax.data.load import load
from recjax.data.log import EventLog
from recjax.data.sources.base import is_str
from recjax.errors import ConfigError, writing
from recjax.language.sentence_encoder import load_encoder, text_vectors
from recjax.programs.lock import locked
from recjax.registry import unknown

log = logging.getLogger("recjax")


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of the encoding of items."""

  program: str
  name: str
  # As in an experiment.
  data: Mapping[str, Any]
  # Columns of items, in this order, joined by ". "; of an item those that it has.
  columns: tuple[str, ...] = ("title",)
  # A folder with a sentence encoder's files; "" = the installed all-MiniLM-L6-v2.
  encoder: str = ""
  # float16 | float32 | int8 (code c stands for c / 127).
  dtype: str = "float16"

  def __post_init__(self):
    if self.dtype not in KINDS:
      raise ConfigError(unknown("type in config.dtype", self.dtype, KINDS))
    if not self.columns:
      raise ConfigError("config.columns names the columns of items that are encoded, at least one.")


def encode(config: Config, workdir: pathlib.Path) -> FrozenTable:
  """Writes the vectors of all items of the data into the workdir and opens them."""
  events = load(data_config(config.data))
  if not isinstance(events, EventLog):
    raise ConfigError(f"{config.data['name']!r} is a table of examples, and has no items with texts.")
  texts = texts_of(events.items, config.columns)
  encoder = load_encoder(config.encoder)
  with locked(workdir):
    with writing(workdir):
      lines = (" ".join(str(raw).split()) for raw in events.items["raw"][1:])
      (workdir / "items.txt").write_text("".join(f"{line}\n" for line in lines))
    table = text_vectors(encoder, texts, workdir / "vectors.npy", config.dtype)
  log.info(
    "Written: %s, %s items of %s numbers, %s without text", workdir / "vectors.npy",
    f"{len(texts):,}", table.width, sum(not text.strip() for text in texts),
  )
  return table


def texts_of(items: Mapping[str, np.ndarray], columns: Sequence[str]) -> list[str]:
  """The texts of items 1, 2, ...: what is not empty in these columns, joined by ". ".

  Raises:
    ConfigError: items have no such column, or it is no text.
  """
  known = [name for name, column in items.items() if is_str(column)]
  for name in columns:
    if name not in known:
      raise ConfigError(unknown("text of items in config.columns", name, known))
  rows = zip(*(items[name][1:].tolist() for name in columns), strict=True)
  return [". ".join(part for part in row if part.strip()) for row in rows]
