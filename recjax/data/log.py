"""The event log: what a data source becomes once prepared, sorted by user and time.

Arrays are usually memory maps; nothing here copies them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class EventLog:
  """All events of all users in compressed rows: user u owns events `indptr[u]:indptr[u + 1]`.

  Users and items are numbered from 1; user 0 and item 0 are padding and own nothing. Within a user
  events are in time order, the last one newest; ties keep the order of the source.

  Attributes:
    name: name of the data set.
    indptr: int64 [num_users + 2].
    item: int32 [E].
    time: int32 [E] seconds since `origin`, or None where the source has only an order (or none).
    origin: Unix seconds that `time` counts from.
    ordered: False where the source gave neither a time nor an order (file order is then used).
    columns: further event columns by name, each [E] (rating, is_click, ...).
    items: item columns by name, each [num_items + 1] with row 0 for padding. `raw` holds the
      source's own ids and `label` what people call the item ("Heat (1995)"), both as str arrays;
      an integer column with a matching entry in `vocabularies` is a feature that can be embedded
      (for example `category`).
    users: user columns by name, each [num_users + 1]; `raw` holds the source's own ids.
    vocabularies: size, padding included, of every vocabulary: user, item, and one for each
      embeddable column.
    facts: provenance for reports: content hash, licence note, counts of cleaned rows.
  """

  name: str
  indptr: np.ndarray
  item: np.ndarray
  time: np.ndarray | None
  origin: int
  ordered: bool
  columns: Mapping[str, np.ndarray]
  items: Mapping[str, np.ndarray]
  users: Mapping[str, np.ndarray]
  vocabularies: Mapping[str, int]
  facts: Mapping[str, Any]

  @property
  def num_users(self) -> int:
    """Users without the padding user."""
    return len(self.indptr) - 2

  @property
  def num_items(self) -> int:
    """Items without the padding item."""
    return self.vocabularies["item"] - 1

  @property
  def num_events(self) -> int:
    """Events of all users."""
    return len(self.item)
