"""Evaluator: whether words are found from their picture, and pictures from their words."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from recjax.data.views.rows import FeedCases
from recjax.errors import ConfigError
from recjax.evaluate.evaluation import (
  Catalogue,
  Evaluation,
  batches,
  compile_step,
  fit_batch_size,
  require,
  run_batches,
)
from recjax.ranges import Positive


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluation."""

  batch_size: Positive = 256


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: FeedCases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluation; the returned run(variables) compiles once.

  Among the held-out pairs, `words_r@1` is the share of pictures whose own words are strictly nearest,
  or words equal to them, `pictures_r@1` that of words and their picture; `chance_r@1` is 1 / pairs.

  Raises:
    ConfigError: the model has no `encode_pairs`, or the cases no pairs.
  """
  del catalogue
  require(predict, ("encode_pairs",), "word_retrieval")
  if not isinstance(cases, FeedCases):
    raise ConfigError("Evaluator 'word_retrieval' needs pairs of picture and words: the view 'feed'.")
  rows = cases.pairs
  size = fit_batch_size(config.batch_size, rows.count, mesh)
  step = compile_step(predict["encode_pairs"], mesh)
  gather = lambda index: rows.gather(np, rows.columns, index)
  words = gather(np.arange(rows.count))["words"]

  def run(variables) -> Evaluation:
    feed = ((gather(index), valid) for index, valid in batches(rows.count, size))
    picture, text = run_batches(step, variables, feed, mesh)
    found = {
      "words_r@1": first_hits(picture, text, words), "pictures_r@1": first_hits(text, picture, words),
    }
    values = {name: float(hits.mean()) for name, hits in found.items()}
    values["chance_r@1"] = 1 / rows.count
    return Evaluation(values, found, np.arange(rows.count), None, {"pairs": rows.count})

  return run


def first_hits(queries: np.ndarray, keys: np.ndarray, words: np.ndarray) -> np.ndarray:
  """1 where of keys [n, E] the own one scores above all with other words [n, W], float64 [n]."""
  score = queries @ keys.T
  same = (np.sort(words, axis=1)[:, None] == np.sort(words, axis=1)[None]).all(axis=2)
  other = np.where(same, -np.inf, score).max(axis=1)
  return (np.diagonal(score) > other).astype(np.float64)
