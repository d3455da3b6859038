"""Several systems on one task: every measure of each, groups of users, and what is chance."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recjax.errors import ConfigError
from recjax.evaluate import beyond_accuracy, significance
from recjax.evaluate.evaluation import Evaluation
from recjax.evaluate.fairness import item_fairness
from recjax.evaluate.item_rows import find_relevant
from recjax.evaluate.list_files import Lists, Task
from recjax.evaluate.ranking import hits_of_relevant, ranking_metrics
from recjax.evaluate.user_fairness import user_fairness

ALL_PAIRS = 20_000  # users up to whom fairness of users looks at every pair of them
SAMPLED_PAIRS = 2_000_000


def judge(task: Task, lists: Lists, cutoffs: Sequence[int]) -> tuple[Evaluation, dict[str, str]]:
  """What lists of depth max(cutoffs) + 1 are worth, and why measures are NaN, by name.

  Values are means over users of the metrics of `ranking` at every cut-off; of the longest lists
  coverage, Gini, and with training events popularity and novelty, with categories diversity; the
  fairness of items and, with training events, of users (`docs/fairness.md`). A user without a list
  counts as a miss.
  """
  k = max(cutoffs)
  if lists.ids.shape[1] != k + 1:
    raise ConfigError(f"Lists to cut at {k} are {k + 1} deep, not {lists.ids.shape[1]}.")
  relevant = find_relevant(lists.ids, *task.relevant, task.num_items) >= 0
  hits = hits_of_relevant(relevant & (lists.ids != 0), lists.scores)
  per_case = ranking_metrics(hits, np.diff(task.relevant[0]), tuple(cutoffs))
  values = {name: float(value.mean()) for name, value in per_case.items()}
  ids = lists.ids[:, :k]
  values[f"coverage@{k}"] = beyond_accuracy.coverage(ids, task.num_items)
  values[f"gini@{k}"] = beyond_accuracy.gini(ids, task.num_items)
  facts: dict[str, Any] = dict(lists.facts)
  if task.train_counts is not None:
    values[f"popularity@{k}"] = beyond_accuracy.popularity(ids, task.train_counts)
    values[f"novelty@{k}"] = beyond_accuracy.novelty(ids, task.train_counts)
    facts["recommended although seen in training"] = int(
      (find_relevant(ids, *task.histories, task.num_items) >= 0).sum()
    )
  if task.categories is not None:
    values[f"diversity@{k}"] = beyond_accuracy.diversity(ids, task.categories)
  found, reasons = item_fairness(
    ids, relevant=task.relevant, num_items=task.num_items, k=k, explain=True
  )
  values |= found
  if task.histories is not None:
    found, why = user_fairness(
      ids, relevant=task.relevant, histories=task.histories, num_items=task.num_items, k=k,
      pairs=SAMPLED_PAIRS if len(task.users) > ALL_PAIRS else None, explain=True,
    )
    values, reasons = values | found, reasons | why
  return Evaluation(values, per_case, np.arange(len(task.users)), ids, facts), reasons


def pairwise(
  evaluations: Mapping[str, Evaluation], metrics: Sequence[str]
) -> list[dict[str, Any]]:
  """Paired tests over users of every two systems for each metric, the earlier minus the later.

  P values are corrected by Holm over the pairs of a metric, as "..._holm".
  """
  rows = []
  for metric in metrics:
    tests = []
    for (a, left), (b, right) in itertools.combinations(evaluations.items(), 2):
      difference = left.per_case[metric] - right.per_case[metric]
      tests.append({"metric": metric, "system": a, "other": b, **significance.paired(difference)})
    significance.correct(tests)
    rows += tests
  return rows


def by_group(
  evaluations: Mapping[str, Evaluation], groups: Mapping[str, np.ndarray], metrics: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
  """Means of the users of each value of each column, with their number and standard errors."""
  found = {}
  for column, labels in groups.items():
    names, code = np.unique(labels, return_inverse=True)
    found[column] = [
      {
        "value": str(name), "users": int((code == i).sum()),
        "systems": {
          system: {metric: _mean(e.per_case[metric][code == i]) for metric in metrics}
          for system, e in evaluations.items()
        },
      }
      for i, name in enumerate(names)
    ]
  return found


def _mean(values: np.ndarray) -> dict[str, float]:
  error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
  return {"mean": float(values.mean()), "error": float(error)}
