"""Votes as arrays: who met whom, who won, and how the two answers differed in style.

The relative difference of counts and the outcome of a tie are those of Search Arena: Miroyan et al.,
"Search Arena: Analyzing Search-Augmented LLMs", ICLR 2026, arXiv 2506.05334, and of its code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recjax.errors import DataError
from recjax.registry import shown


class Votes(NamedTuple):
  """Battles of two models, one a vote.

  Attributes:
    models: [M] names.
    a, b: [V] int, the models of the left and the right side.
    y: [V] what the left side gained: 1 won, 0 lost, 1/2 a tie.
    weight: [V] design weights above 0; 0 leaves a vote out.
    x: [V, F] covariates, each a difference that changes its sign with the sides; in units of `style`.
    covariates: [F] their names.
    cluster: [V] int, who voted, from 0; None where every vote stands for itself.
  """

  models: tuple[str, ...]
  a: np.ndarray
  b: np.ndarray
  y: np.ndarray
  weight: np.ndarray
  x: np.ndarray
  covariates: tuple[str, ...] = ()
  cluster: np.ndarray | None = None


def make(
  models: Sequence[str],
  a: np.ndarray,
  b: np.ndarray,
  y: np.ndarray,
  *,
  weight: np.ndarray | None = None,
  x: np.ndarray | None = None,
  covariates: Sequence[str] = (),
  cluster: np.ndarray | None = None,
) -> Votes:
  """Checked votes; those of weight 0 are left out. Raises DataError for votes that cannot be."""
  a, b, y = np.asarray(a, np.int64), np.asarray(b, np.int64), np.asarray(y, np.float64)
  count = len(a)
  weight = np.ones(count) if weight is None else np.asarray(weight, np.float64)
  x = np.zeros((count, 0)) if x is None else np.asarray(x, np.float64)
  if cluster is not None:
    cluster = np.asarray(cluster, np.int64)
  lengths = {len(column) for column in (a, b, y, weight, x, a if cluster is None else cluster)}
  if len(lengths) > 1 or x.ndim != 2 or x.shape[1] != len(covariates):
    raise DataError(
      f"Columns of votes differ in length, or there is no name for every covariate: {count} votes, "
      f"covariates {x.shape} called {list(covariates)}."
    )
  kept = weight != 0
  if not kept.any():
    raise DataError("There are no votes.")
  a, b, y, weight, x = a[kept], b[kept], y[kept], weight[kept], x[kept]
  cluster = None if cluster is None else cluster[kept]
  for bad, what in (
    ((a < 0) | (a >= len(models)) | (b < 0) | (b >= len(models)), "names a model without a name"),
    (a == b, "has the same model on both sides"),
    (~np.isin(y, (0.0, 0.5, 1.0)), "is none of 0, 1/2 and 1"),
    (~(np.isfinite(weight) & (weight > 0)), "has a weight that is no number above 0"),
    (~np.isfinite(x).all(axis=1), "has a covariate that is no finite number"),
  ):
    if bad.any():
      raise DataError(f"Vote {int(np.argmax(bad)) + 1} {what}.")
  return Votes(tuple(models), a, b, y, weight, x, tuple(covariates), cluster)


def relative_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """(a - b) / (a + b + 1) of counts from 0 on: between -1 and 1, and 0 where both are 0."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if not ((a >= 0) & (b >= 0)).all():
    raise DataError("Style is made of counts, which are 0 or more; some are not.")
  return (a - b) / (a + b + 1)


class Style(NamedTuple):
  """Covariates in units of their deviation, and what became of them.

  Attributes:
    x: [V, F'] the covariates that vary.
    covariates: [F'] their names.
    deviation: [F'] what they were divided by.
    constant: names of those left out, since they are the same in all votes.
  """

  x: np.ndarray
  covariates: tuple[str, ...]
  deviation: np.ndarray
  constant: tuple[str, ...]


def style(x: np.ndarray, covariates: Sequence[str], *, center: bool = False) -> Style:
  """Covariates [V, F] divided by their deviation over the votes (n, not n - 1).

  `center` takes the mean away first, as Search Arena's code does; a coefficient times that mean is
  then a bonus of one side, and what is left changes with who is called left. A covariate that is the
  same in all votes is left out: nothing can be learnt of it.
  """
  x = np.asarray(x, np.float64)
  deviation = x.std(axis=0)
  varies = deviation > 1e-12 * np.maximum(np.abs(x).max(axis=0, initial=0), 1e-300)
  moved = x - x.mean(axis=0) if center else x
  names = np.asarray(covariates, object)
  return Style(
    moved[:, varies] / deviation[varies], tuple(names[varies]), deviation[varies], tuple(names[~varies])
  )


def variance_inflation(x: np.ndarray) -> np.ndarray:
  """How many times larger collinearity makes a coefficient's variance, for covariates [V, F].

  1 / (1 - R^2) of each one on the others; infinite where the others determine it.
  """
  x = np.asarray(x, np.float64)
  inflation = np.empty(x.shape[1])
  for f in range(x.shape[1]):
    rest = np.column_stack([np.ones(len(x)), np.delete(x, f, axis=1)])
    left = x[:, f] - rest @ np.linalg.lstsq(rest, x[:, f], rcond=None)[0]
    spread, kept = x[:, f].var(), left.var()
    inflation[f] = spread / kept if kept > 1e-12 * spread else np.inf
  return inflation


def list_names(names: Sequence[str], most: int = 5) -> str:
  """A few names for a sentence."""
  quoted = [repr(shown(name)) for name in names[:most]]
  return ", ".join(quoted) + (f" and {len(names) - most} more" if len(names) > most else "")
