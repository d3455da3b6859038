"""Given vectors that tell the category of items: near a centre each, or pictures of a sign.

    vector_i = normalise(mu_c(i) + 0.8 e_i),  mu_c, e_i ~ N(0, I_16)

A picture has 16 x 16 pixels: the sign of the category, 4 x 4 fields of 2 x 2 pixels of which half are
set, at one of 25 places, of a random strength, and noise. Two pictures of a category have few pixels in
common, so that one has to learn what makes them alike.
"""

import numpy as np

ITEMS = 20_032  # 313 of each of 64 categories
PICTURES = ("none", "glyphs", "random")
SIZE, _SIGN, _FIELD = 16, 8, 2
_WIDTH = 16
_VECTORS, _BIASES = 3, 4  # streams of randomness from one seed; those before are of the clicks


def vectors(seed: int, num_items: int, num_categories: int, pictures: str) -> np.ndarray:
  """What is given of items 1, 2, ..., float64 [num_items, M], of categories 0, 1, ... in turn."""
  rng = np.random.default_rng([seed, _VECTORS])
  category = np.arange(num_items) % num_categories
  if pictures == "none":
    values = rng.normal(size=(num_categories, _WIDTH))[category]
    values = values + 0.8 * rng.normal(size=values.shape)
  else:
    values = draw_signs(rng, category, num_categories).reshape(num_items, -1)
  if pictures == "random":
    values = values @ rng.normal(size=(values.shape[1], _WIDTH))
  return values if pictures == "glyphs" else values / np.linalg.norm(values, axis=1, keepdims=True)


def biases(seed: int, num_items: int) -> np.ndarray:
  """What items add to the logit of a click, float64 [num_items + 1]: N(0, 1), and 0 for padding."""
  return np.concatenate([[0.0], np.random.default_rng([seed, _BIASES]).normal(size=num_items)])


def draw_signs(rng: np.random.Generator, category: np.ndarray, num_categories: int) -> np.ndarray:
  """Pictures float64 [n, 16, 16] within [-1, 1] of categories [n]."""
  count = len(category)
  fields = _SIGN // _FIELD
  half = np.tile([1.0, -1.0], fields * fields // 2)
  sign = rng.permuted(np.tile(half, (num_categories, 1)), axis=1).reshape(-1, fields, fields)
  sign = sign.repeat(_FIELD, axis=1).repeat(_FIELD, axis=2)
  strength = rng.uniform(0.4, 0.8, count)
  row, column = _FIELD * rng.integers((SIZE - _SIGN) // _FIELD + 1, size=(2, count, 1, 1))
  pictures = 0.15 * rng.normal(size=(count, SIZE, SIZE))
  down, across = row + np.arange(_SIGN)[:, None], column + np.arange(_SIGN)
  pictures[np.arange(count)[:, None, None], down, across] += strength[:, None, None] * sign[category]
  return np.clip(pictures, -1, 1)
