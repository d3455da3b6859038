"""Individual fairness of items: every measure of `item_exposure` and `item_relevance` by one call.

`docs/fairness.md` says which measure answers which question. A measure that is undefined for the lists
is NaN; `explain=True` says why.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate import item_exposure, item_relevance
from recjax.evaluate.item_exposure import ListTable, Undefined, first_places, list_table
from recjax.evaluate.item_rows import of_items, vectors_of_items
from recjax.evaluate.judged_table import judged_table

NAMES = (*item_exposure.MEASURES, *item_relevance.MEASURES)
HIGHER_IS_FAIRER = ("Jain", "QF", "Ent", "FSat", "IBO", "MDG")


def higher_is_fairer(name: str) -> bool:
  """Whether a measure, as "Gini_our" or "Gini", rises with fairness."""
  return name.split("_")[0] in HIGHER_IS_FAIRER


def item_fairness(
  recommendations: np.ndarray,
  *,
  relevant: tuple[np.ndarray, np.ndarray],
  num_items: int,
  k: int,
  scores: np.ndarray | None = None,
  item_vectors: np.ndarray | None = None,
  patience: float = 0.8,
  least_similarity: float = 0.5,
  explain: bool = False,
) -> Any:
  """All measures of NAMES, of the first k places of recommendations.

  Args:
    recommendations: int [m, K], K >= k, ids from 1; 0 where a list ends early.
    relevant: (indptr [m + 1], indices), the items that each user finds relevant.
    num_items: all items that could have been recommended.
    k: cut-off.
    scores: [m, num_items], or [m, num_items + 1] with a first column that is not read; rows are read
      by blocks, so it may be memory-mapped. Ranks what the lists leave out, for IFD_div_ori alone.
    item_vectors: [num_items, d] or [num_items + 1, d] likewise; VoCD then compares similar items alone.
    patience: chance of looking one place further, of II-D, AI-D, II-F and AI-F.
    least_similarity: cosine from which VoCD takes two items for similar.
    explain: whether to say why a measure is undefined.

  Returns:
    name -> value, NaN where undefined; with `explain` a pair of that and name -> reason for the NaNs.

  Raises:
    ConfigError: k or patience out of range.
    DataError: lists, relevant items, scores or vectors that do not fit.
  """
  lists = first_places(recommendations, k)
  if not 0 < patience < 1:
    raise ConfigError(f"patience is a probability between 0 and 1, both excluded, not {patience}.")
  recommendations = np.asarray(recommendations)
  list_table(recommendations, num_items)  # also what lies after place k must be a list
  table = ListTable(
    lists, num_items, patience, vectors_of_items(item_vectors, num_items), least_similarity
  )
  if scores is not None and len(scores) != len(recommendations):
    raise DataError(f"There are scores of {len(scores)} users and lists of {len(recommendations)}.")
  if scores is not None:
    scores = of_items(scores, 1, num_items, "scores")
  judged = judged_table(table, recommendations, relevant, scores)
  values, reasons = {}, {}
  for measures, subject in (
    (item_exposure.MEASURES, table), (item_relevance.MEASURES, judged)
  ):
    found, why = evaluate(measures, subject)
    values |= found
    reasons |= why
  return (values, reasons) if explain else values


def evaluate(measures: Mapping[str, Any], subject: Any) -> tuple[dict[str, float], dict[str, str]]:
  """name -> value, NaN where undefined, and name -> reason of each NaN."""
  values, reasons = {}, {}
  for name, measure in measures.items():
    try:
      values[name] = measure(subject)
    except Undefined as reason:
      values[name], reasons[name] = float("nan"), f"{name} is undefined: {reason}"
  return values, reasons
