"""Planted clicks on items of the categories that a user likes.

A click depends on how each behaviour's category relates to the target's: in most worlds whether they
are equal, in `affinity` by a product of fixed factors, f of the behaviour's and g of the target's.
"""

from typing import Any

import numpy as np

_FACTORS = 4  # of a category in affinity


def count_logit(hits: np.ndarray) -> np.ndarray:
  """Logits [n] that grow with the number of hits [n, L]."""
  return 2.0 * (np.log1p(hits.sum(1)) - 0.9)


def vector_logit(hits: np.ndarray) -> np.ndarray:
  """The same for more of them."""
  return 1.5 * (np.log1p(hits.sum(1)) - 1.4)


def recency_logit(hits: np.ndarray) -> np.ndarray:
  """Logits [n] in which each step back weighs .7 of the one after it."""
  return 3.0 * (_faded(hits) - 0.5)


def affinity_logit(hits: np.ndarray) -> np.ndarray:
  """The same around 0."""
  return 3.0 * _faded(hits)


def _faded(hits: np.ndarray) -> np.ndarray:
  return hits @ 0.7 ** np.arange(hits.shape[1])[::-1]


def equality(num_categories: int) -> np.ndarray:
  """Relation [C, C] of behaviours to targets: 1 for the same category."""
  return np.eye(num_categories)


def affinity(num_categories: int) -> np.ndarray:
  """Relation [C, C]: <f_c, g_t> of fixed random unit vectors, less its mean."""
  factors = np.random.default_rng(num_categories).normal(size=(2, num_categories, _FACTORS))
  f, g = factors / np.linalg.norm(factors, axis=-1, keepdims=True)
  return f @ g.T - (f @ g.T).mean()


def clicks(
  rng: np.random.Generator, rows: int, num_items: int, num_categories: int, setting: Any
) -> dict[str, np.ndarray]:
  """Rows of a click table; see `planted`. Categories count from 0 in here and from 1 in the columns."""
  length, interests, noise, logit, relation, bias = setting
  liked = np.argpartition(rng.random((rows, num_categories)), interests - 1, axis=1)[:, :interests]
  weight = rng.standard_exponential((rows, interests))  # normalised: Dirichlet(1, ..., 1)
  edges = np.cumsum(weight / weight.sum(1, keepdims=True), axis=1)[:, :-1]
  which = (rng.random((rows, length))[:, :, None] > edges[:, None, :]).sum(2)
  history = np.take_along_axis(liked, which, axis=1)
  anywhere = rng.integers(num_categories, size=(rows, length))
  history = np.where(rng.random((rows, length)) < noise, anywhere, history)
  copied = history[np.arange(rows), rng.integers(length, size=rows)]
  target = np.where(rng.random(rows) < 0.7, copied, rng.integers(num_categories, size=rows))

  def items(category: np.ndarray) -> np.ndarray:
    turn = rng.integers(num_items // num_categories, size=category.shape)
    return (turn * num_categories + category + 1).astype(np.int32)

  hist_item, target_item = items(history), items(target)
  logits = logit(relation(num_categories)[history, target[:, None]])
  bayes = 1.0 / (1.0 + np.exp(-(logits if bias is None else logits + bias[target_item])))
  return {
    "hist_item": hist_item,
    "hist_cat": (history + 1).astype(np.int32),
    "hist_mask": np.ones((rows, length), np.bool_),
    "target_item": target_item,
    "target_cat": (target + 1).astype(np.int32),
    "label": (rng.random(rows) < bayes).astype(np.float32),
    "bayes": bayes.astype(np.float32),
  }
