"""Votes of people on pairs of answers: PandaLM's test set (Wang et al., ICLR 2024, arXiv 2306.05087).

Three annotators compared 999 pairs of answers of five language models. As an arena: do their votes put
the models in an order, and do they like long answers? Resampling goes by pair, since three votes on one
pair are not independent.
"""

import dataclasses

import numpy as np
import pyarrow.parquet as pq

from recjax.data.sources.base import data_root
from recjax.errors import DataError
from recjax.evaluate import agreement, arena, votes
from recjax.evaluate.votes import Votes

ANNOTATORS = ("annotator1", "annotator2", "annotator3")


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of an arm."""

  intervals: str = "cluster"  # model | sandwich | cluster
  control: bool = True


def available() -> bool:
  """Whether the annotations are there."""
  try:
    return (data_root() / "judge_pairs" / "pandalm_annotators.parquet").is_file()
  except DataError:
    return False


def read() -> tuple[Votes, np.ndarray]:
  """(votes with the covariate length, labels [3, pairs] of 0 = tie, 1 = first, 2 = second)."""
  table = pq.read_table(data_root() / "judge_pairs" / "pandalm_annotators.parquet")
  names = [key.split("_") for key in table["cmp_key"].to_pylist()]
  models = sorted({name for pair in names for name in pair})
  first, second = (np.array([models.index(pair[side]) for pair in names]) for side in (0, 1))
  words = lambda column: np.array([len(text.split()) for text in table[column].to_pylist()])
  length = votes.relative_difference(words("response1"), words("response2"))
  labels = np.stack([table[name].to_numpy() for name in ANNOTATORS])
  y = np.array([0.5, 1.0, 0.0])[labels]
  tile = lambda column: np.tile(column, len(ANNOTATORS))
  return votes.make(
    models, tile(first), tile(second), y.reshape(-1), x=tile(length)[:, None], covariates=("length",),
    cluster=tile(np.arange(len(names))),
  ), labels


def simulate(config: Config, seed: int) -> dict[str, float]:
  """Metrics: `length`, its interval and half width, `clear_pairs` after Holm, `alpha`, `kappa`.

  alpha is Krippendorff's, kappa Fleiss', of the three annotators. The data are what they are: all
  seeds say the same.
  """
  cast, labels = read()
  if not config.control:
    cast = cast._replace(x=cast.x[:, :0], covariates=())
  board = arena.leaderboard(cast, intervals=config.intervals)
  counts = np.stack([(labels == k).sum(axis=0) for k in range(3)], axis=1)
  found = {
    "clear_pairs": float((board.pairs.p_holm <= 0.05).sum()),
    "half_width": float((board.high - board.low).mean() / 2),
    "alpha": agreement.krippendorff(labels.astype(float)).value,
    "kappa": agreement.fleiss(counts).value,
  }
  if config.control:
    found |= {
      "length": float(board.fit.coefficients[0]),
      "length_low": float(board.coefficient_low[0]),
      "length_high": float(board.coefficient_high[0]),
    }
  return found
