"""Planted clicks on what comes next: two interleaved walks, each around the cycle of a thread's items.

Every thread (category) is a cycle of items. A user follows two of them; each behaviour is of one or the
other, and is the thread's next item, or with the probability of `noise` any of it. A positive target is
what the user would do next; a negative one another item of the same thread, so that the category tells
nothing and one has to know where in the thread the user is.
"""

from typing import Any

import numpy as np

from recjax.errors import ConfigError


def check(num_items: int, num_categories: int, interests: int) -> None:
  """Raises ConfigError for sizes that do not fit together."""
  if num_items % num_categories or num_items < 3 * num_categories or interests > num_categories:
    raise ConfigError(
      f"config.data: threads needs {num_categories} cycles of equally many items, 3 or more, of "
      f"which a user follows {interests}, but was given {num_items} items."
    )


def clicks(
  rng: np.random.Generator, rows: int, num_items: int, num_categories: int, setting: Any
) -> dict[str, np.ndarray]:
  """Rows of a click table; see `planted`. Threads and places in them count from 0 in here."""
  length, interests, noise, *_ = setting
  size = num_items // num_categories
  followed = np.argpartition(rng.random((rows, num_categories)), interests - 1, axis=1)[:, :interests]
  each, at = np.arange(rows), rng.integers(size, size=(rows, interests))
  seen = np.zeros((rows, interests), bool)
  thread, place = np.empty((rows, length + 1), np.int64), np.empty((rows, length + 1), np.int64)
  for step in range(length + 1):
    which = rng.integers(interests, size=rows)
    anywhere = rng.integers(size, size=rows)
    before, known = at[each, which], seen[each, which]
    at[each, which] = np.where(rng.random(rows) < noise, anywhere, (before + 1) % size)
    thread[:, step], place[:, step] = followed[each, which], at[each, which]
    if step < length:
      seen[each, which] = True
  label = rng.random(rows) < 0.5
  other = (place[:, -1] + rng.integers(1, size, size=rows)) % size
  target = np.where(label, place[:, -1], other)
  bayes = np.where(known, _posterior(target == (before + 1) % size, size, noise), 0.5)
  item = lambda place, thread: (place * num_categories + thread + 1).astype(np.int32)
  return {
    "hist_item": item(place[:, :-1], thread[:, :-1]),
    "hist_cat": (thread[:, :-1] + 1).astype(np.int32),
    "hist_mask": np.ones((rows, length), np.bool_),
    "target_item": item(target, thread[:, -1]),
    "target_cat": (thread[:, -1] + 1).astype(np.int32),
    "label": label.astype(np.float32),
    "bayes": bayes.astype(np.float32),
  }


def _posterior(follows: np.ndarray, size: int, noise: float) -> np.ndarray:
  """Probability of a click on the successor of the thread's last item, or on another of its items."""
  next_one, any_other = 1.0 - noise + noise / size, noise / size
  # A negative is any item but the positive.
  wrong_next, wrong_other = (1.0 - next_one) / (size - 1), (1.0 - any_other) / (size - 1)
  of_next, of_other = next_one / (next_one + wrong_next), any_other / (any_other + wrong_other)
  return np.where(follows, of_next, of_other)
