"""Strata: the cases of an evaluation by what is known of their targets.

A stratum is a name and a mask over all cases. Each case is in exactly one stratum of a kind.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from recjax.data.views.rows import Cases
from recjax.errors import ConfigError
from recjax.evaluate.evaluation import Catalogue, batches

METRICS = ("hr", "ndcg")  # those that are reported by stratum
_ROWS = 4096  # cases gathered at once


def check_least(least: Sequence[int]) -> None:
  """Raises ConfigError unless `least` ascends from 0."""
  if least[0] != 0 or any(a >= b for a, b in zip(least[:-1], least[1:], strict=True)):
    raise ConfigError(f"by_transitions holds least counts ascending from 0, not {tuple(least)}.")


def by_transitions(
  cases: Cases, catalogue: Catalogue, least: Sequence[int]
) -> dict[str, np.ndarray]:
  """Strata by how often the first target followed the newest item of the history in training.

  Stratum i holds the counts from least[i] up to least[i + 1]. A case without history or target has
  the count 0. Raises ConfigError where nobody counted transitions.
  """
  if catalogue.transitions is None:
    raise ConfigError("by_transitions needs a view that counts transitions, such as next_item.")
  matrix = catalogue.transitions()
  count = np.zeros(cases.rows.count, np.int64)
  for index, valid in batches(cases.rows.count, _ROWS):
    rows = cases.rows.gather(np, cases.rows.columns, index)
    newest = np.where(rows["hist_mask"][:, -1], rows["hist_item"][:, -1], 0)
    count[index[valid]] = np.asarray(matrix[newest, cases.targets[index, 0]]).reshape(-1)[valid]
  stratum = np.searchsorted(least, count, side="right") - 1
  return {f"transitions {name}": stratum == i for i, name in enumerate(names(least))}


def names(least: Sequence[int]) -> list[str]:
  """What the strata of `by_transitions` are called: 0, 2-4, 5+."""
  ends = [following - 1 for following in least[1:]]
  inner = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(least[:-1], ends, strict=True)]
  return [*inner, f"{least[-1]}+"]


def by_column(cases: Cases, name: str) -> dict[str, np.ndarray]:
  """Strata by the value of an event column at the first target; raises ConfigError without events."""
  if cases.column is None:
    raise ConfigError(f"by_column={name!r} needs a view of an event log, such as next_item.")
  values = cases.column(name)
  return {f"{name} {value}": values == value for value in np.unique(values)}


def means(
  per_case: Mapping[str, np.ndarray], strata: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """Means of METRICS inside each stratum, as "hr@10 stratum"; NaN where it is empty."""
  return {
    f"{metric} {name}": float(values[mask].mean()) if mask.any() else float("nan")
    for metric, values in per_case.items()
    if metric.partition("@")[0] in METRICS
    for name, mask in strata.items()
  }
