"""A judge's answers beside people's: one yes or no at a time, or verdicts between two.

The protocol of Fabbri et al., "Evaluating Podcast Recommendations with Profile-Aware LLM-as-a-Judge",
RecSys 2025, arXiv 2508.08777. Its ROC-AUC is that of hard answers, which for any table is the balanced
accuracy: we report it under that name, beside kappa, the accuracy of the better constant answer, and
intervals, which the paper does not. Answers of the judge that could not be read are left out and
counted (code -1), never taken for a no. Position bias is measured by asking in both orders: ours, too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.errors import DataError
from recjax.evaluate import agreement
from recjax.evaluate.agreement import Measured, confusion

UNREADABLE = -1
FIRST, SECOND, TIE = 0, 1, 2


def pointwise(human: np.ndarray, judge: np.ndarray) -> dict[str, Any]:
  """Measures of a judge's answers [n], 0 or 1 or -1 (unreadable), against people's [n], 0 or 1.

  Keys: `table` (rows people, columns judge), `n`, `unreadable`, `accuracy_95` (Wilson) and `Measured`
  accuracy, constant_accuracy, balanced_accuracy, sensitivity, specificity, f1, mcc, kappa, ac1.
  """
  table, unreadable = _read(human, judge, 2)
  return {"unreadable": unreadable, **pointwise_table(table)}


def pointwise_table(table: np.ndarray) -> dict[str, Any]:
  """`pointwise` of a table [2, 2], rows people, columns judge, of no and yes."""
  (tn, fp), (fn, tp) = np.asarray(table, np.float64)
  n = tn + fp + fn + tp
  sensitivity = _share(tp, tp + fn, "people never said yes")
  specificity = _share(tn, tn + fp, "people never said no")
  spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
  return {
    "table": np.asarray(table).tolist(),
    "n": int(n),
    "accuracy": _share(tp + tn, n, "nothing was judged"),
    "accuracy_95": agreement.wilson(tp + tn, n),
    "constant_accuracy": _share(max(tp + fn, tn + fp), n, "nothing was judged"),
    "balanced_accuracy": Measured(
      (sensitivity.value + specificity.value) / 2, sensitivity.reason or specificity.reason
    ),
    "sensitivity": sensitivity,
    "specificity": specificity,
    "f1": _share(2 * tp, 2 * tp + fp + fn, "nobody ever said yes"),
    "mcc": _share(tp * tn - fp * fn, np.sqrt(spread), "people or judge always gave the same answer"),
    "kappa": agreement.cohen(table),
    "ac1": agreement.gwet(table),
  }


def pairwise(human: np.ndarray, judge: np.ndarray) -> dict[str, Any]:
  """Measures of a judge's verdicts [n], 0, 1, 2 (tie) or -1 (unreadable), against people's [n].

  Keys: `table`, `n`, `unreadable`, `match_95` (Wilson) and `Measured` match (of all three verdicts:
  the paper's model selection agreement), strict_match and strict_kappa (where people named a winner),
  kappa.
  """
  table, unreadable = _read(human, judge, 3)
  return {"unreadable": unreadable, **pairwise_table(table)}


def pairwise_table(table: np.ndarray) -> dict[str, Any]:
  """`pairwise` of a table [3, 3], rows people, columns judge, of first, second and tie."""
  table = np.asarray(table)
  same, n = np.trace(table), table.sum()
  strict = table.copy()
  strict[TIE] = 0
  return {
    "table": table.tolist(),
    "n": int(n),
    "match": _share(same, n, "nothing was judged"),
    "match_95": agreement.wilson(same, n),
    "kappa": agreement.cohen(table),
    "strict_n": int(strict.sum()),
    "strict_match": _share(np.trace(strict), strict.sum(), "people never named a winner"),
    "strict_kappa": agreement.cohen(strict),
  }


def strong_misalignment_recall(clearly_bad: np.ndarray, judge: np.ndarray) -> Measured:
  """Share of what people clearly rejected [n] bool that the judge [n] answered with no."""
  bad, judge = np.asarray(clearly_bad, bool), np.asarray(judge)
  kept = bad & (judge != UNREADABLE)
  return _share((judge[kept] == 0).sum(), kept.sum(), "people clearly rejected nothing")


def unshuffled(verdict: np.ndarray, swapped: np.ndarray) -> np.ndarray:
  """Verdicts [n] about the lists themselves, of those about what was shown in swapped [n] order."""
  verdict, swapped = np.asarray(verdict), np.asarray(swapped, bool)
  other = np.where(verdict == FIRST, SECOND, np.where(verdict == SECOND, FIRST, verdict))
  return np.where(swapped, other, verdict)


def position_bias(shown: np.ndarray, shown_swapped: np.ndarray) -> dict[str, Measured]:
  """Verdicts as given for both orders of the same pairs [n]: do they depend on the order?

  consistency: share of pairs with the same verdict once unshuffled. first_preference: share of
  verdicts for what stood first minus those for what stood second, of all that name a winner.
  """
  shown, shown_swapped = np.asarray(shown), np.asarray(shown_swapped)
  kept = (shown != UNREADABLE) & (shown_swapped != UNREADABLE)
  shown, shown_swapped = shown[kept], shown_swapped[kept]
  same = shown == unshuffled(shown_swapped, np.ones(len(shown_swapped), bool))
  both = np.concatenate([shown, shown_swapped])
  first, second = (both == FIRST).sum(), (both == SECOND).sum()
  return {
    "consistency": _share(same.sum(), len(same), "nothing was judged in both orders"),
    "first_preference": _share(first - second, first + second, "the judge never named a winner"),
  }


def _read(human: np.ndarray, judge: np.ndarray, answers: int) -> tuple[np.ndarray, int]:
  human, judge = np.asarray(human), np.asarray(judge)
  if human.shape != judge.shape:
    raise DataError(f"Judge and people answered {judge.shape} and {human.shape} questions.")
  kept = judge != UNREADABLE
  return confusion(human[kept], judge[kept], answers), int((~kept).sum())


def _share(part: float, whole: float, reason: str) -> Measured:
  return Measured(float(part / whole)) if whole else Measured(float("nan"), reason)


def numbers(measures: Mapping[str, Any]) -> dict[str, Any]:
  """Measures as plain numbers, for a report."""
  return {k: v.value if isinstance(v, Measured) else v for k, v in measures.items()}
