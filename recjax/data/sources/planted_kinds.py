"""Planted clicks on items of three categories, one of each kind, which different behaviours express.

A click is likelier the more kinds there are in which the target's category is frequent, a tenth of the
history or more.
"""

from typing import Any

import numpy as np

from recjax.errors import ConfigError

KINDS = 3  # of categories that every item has
CATEGORIES = 16 * KINDS  # unless the config says otherwise


def logit(hits: np.ndarray) -> np.ndarray:
  """Logits [n] of a click; hits [n, L, 3] says where a behaviour has the target's category."""
  return 1.2 * (hits.mean(1) >= 0.1).sum(1) - 1.5


def combinations(num_categories: int) -> int:
  """How many items there are, one for each combination of categories."""
  return (num_categories // KINDS) ** KINDS


def check(num_items: int, num_categories: int, interests: int) -> None:
  """Raises ConfigError for sizes that do not fit together."""
  right = num_categories % KINDS == 0 and num_items == combinations(num_categories)
  if not right or interests != KINDS:
    raise ConfigError(
      f"config.data: multi has {KINDS} kinds of categories, an item for each combination and one "
      f"interest of each kind, but was given {num_categories} categories, {num_items} items and "
      f"{interests} interests."
    )


def clicks(
  rng: np.random.Generator, rows: int, num_items: int, num_categories: int, setting: Any
) -> dict[str, np.ndarray]:
  """Rows of a click table; see `planted`.

  Columns of categories are [rows, L, 3] and [rows, 3], numbered kind by kind from 1.
  A behaviour that is no noise has the user's liked category of one kind and any of the others; a
  target has the liked one of each kind with probability one half.
  """
  del num_items
  length, _, noise, of_hits, *_ = setting
  values = num_categories // KINDS
  liked = rng.integers(values, size=(rows, KINDS))
  history = rng.integers(values, size=(rows, length, KINDS))
  aspect = rng.integers(KINDS, size=(rows, length))
  aspect = np.where(rng.random((rows, length)) < noise, KINDS, aspect)
  history = np.where(aspect[:, :, None] == np.arange(KINDS), liked[:, None], history)
  anywhere = rng.integers(values, size=(rows, KINDS))
  target = np.where(rng.random((rows, KINDS)) < 0.5, liked, anywhere)
  bayes = 1.0 / (1.0 + np.exp(-of_hits((history == target[:, None]).astype(np.float64))))
  item = lambda category: (category @ values ** np.arange(KINDS) + 1).astype(np.int32)
  number = lambda category: (category + values * np.arange(KINDS) + 1).astype(np.int32)
  return {
    "hist_item": item(history),
    "hist_cat": number(history),
    "hist_mask": np.ones((rows, length), np.bool_),
    "target_item": item(target),
    "target_cat": number(target),
    "label": (rng.random(rows) < bayes).astype(np.float32),
    "bayes": bayes.astype(np.float32),
  }
