"""Ranking metrics of single users, from the lists a system recommends.

Ties count against the system: rank(t) = #{j != t : s_j >= s_t}, so a system that scores everything
alike gets 0. A list one entry longer than the largest cut-off K is enough to apply the rule:

- Relevant entries go last among entries of equal score.
- Entries that score as much as the last of the list may have equals outside of it, so relevant ones
  among them count as ranked beyond K. With one target that is the exact rule, since K other items
  of the list score at least as much; with several targets it is exact or too strict, never too
  kind. If the list holds every item there is to rank, its last score is -inf and nothing is lost.
"""

from collections.abc import Sequence

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate.item_rows import distinct_rows
from recjax.registry import unknown

METRICS = ("hr", "ndcg", "mrr", "recall", "precision", "map")
IDEALS = ("relevant", "retrieved")


def count_targets(targets: np.ndarray) -> np.ndarray:
  """Number of distinct items of each row of targets [n, T], padding 0 left out; int64 [n]."""
  return np.diff(distinct_rows(targets)[0])


def hits_of_lists(ids: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """Which of the first K places of each list hold a target, ties counted against the system.

  Args:
    ids: [n, K + 1] recommended items, 0 where a list is short.
    scores: [n, K + 1] their scores, -inf where the id is 0.
    targets: [n, T] right answers, padded with 0.

  Returns:
    bool [n, K].
  """
  relevant = np.zeros(ids.shape, bool)
  for target in targets.T:
    relevant |= (ids == target[:, None]) & (ids != 0)
  return hits_of_relevant(relevant, scores)


def hits_of_relevant(relevant: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """As `hits_of_lists`, from which places [n, K + 1] hold a target, in any order; bool [n, K]."""
  order = np.argsort(relevant, axis=1, kind="stable")
  by_score = np.argsort(-np.take_along_axis(scores, order, axis=1), axis=1, kind="stable")
  order = np.take_along_axis(order, by_score, axis=1)
  certain = relevant & (scores > scores.min(axis=1)[:, None])
  return np.take_along_axis(certain, order, axis=1)[:, :-1]


def hits_of_ranks(ranks: np.ndarray, length: int) -> np.ndarray:
  """The hit vectors of users with one target at 0-based ranks [n]; bool [n, length]."""
  return ranks[:, None] == np.arange(length)[None, :]


def ranking_metrics(
  hits: np.ndarray,
  num_targets: np.ndarray,
  cutoffs: Sequence[int],
  ideal: str = "relevant",
) -> dict[str, np.ndarray]:
  """Metrics of every user at every cut-off.

  With h the hits among the first k places, R the number of targets, d_j = 1 / log2(j + 1):
  hr = 1[sum h > 0]; precision = sum h / k; recall = sum h / R; mrr = 1 / place of the first hit;
  map = sum_j h_j precision@j / min(R, k); ndcg = sum_j h_j d_j / ideal, where the ideal list has
  its first min(R, k) places right ("relevant", the definition) or as many places right as the list
  has hits ("retrieved", what the code of NGCF and its descendants computes; never smaller).

  Args:
    hits: bool [n, K].
    num_targets: int [n], at least 1.
    cutoffs: cut-offs k, at most K.
    ideal: "relevant" or "retrieved".

  Returns:
    "hr@10" and so on -> float64 [n].

  Raises:
    ConfigError: a cut-off outside 1..K or an unknown ideal.
    DataError: a user without targets, for whom none of this is defined.
  """
  if ideal not in IDEALS:
    raise ConfigError(unknown("ideal list for ndcg", ideal, IDEALS))
  if min(cutoffs) < 1 or max(cutoffs) > hits.shape[1]:
    raise ConfigError(f"Cut-offs {tuple(cutoffs)} do not fit lists of length {hits.shape[1]}.")
  if (num_targets < 1).any():
    raise DataError("Ranking metrics are undefined for users without targets; leave them out.")

  place = np.arange(1, hits.shape[1] + 1)
  discount = 1 / np.log2(place + 1)
  ideal_gain = np.concatenate([[0], np.cumsum(discount)])
  found = np.cumsum(hits, axis=1)
  gain = np.cumsum(hits * discount[None, :], axis=1)
  precision_sum = np.cumsum(hits * found / place[None, :], axis=1)
  first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)

  metrics = {}
  for k in cutoffs:
    hits_k = found[:, k - 1]
    possible = np.minimum(num_targets, k)
    best = ideal_gain[possible if ideal == "relevant" else hits_k]
    metrics[f"hr@{k}"] = (hits_k > 0).astype(np.float64)
    metrics[f"ndcg@{k}"] = np.where(hits_k > 0, gain[:, k - 1] / np.where(best > 0, best, 1), 0.0)
    metrics[f"mrr@{k}"] = np.where(first <= k, 1 / first, 0.0)
    metrics[f"recall@{k}"] = hits_k / num_targets
    metrics[f"precision@{k}"] = hits_k / k
    metrics[f"map@{k}"] = precision_sum[:, k - 1] / possible
  return metrics
