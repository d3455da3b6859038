"""Individual fairness of users: are similar users served equally well?

Rampisela, Maistro, Ruotsalo, Lioma: "Measuring Individual User Fairness with User Similarity and
Effectiveness Disparity", ECIR 2026, arXiv 2602.02516. Of m users with effectiveness Eff (P@k, NDCG@k):

  PUF = 2 / (m (m - 1)) sum_{u < u'} similarity(u, u') |Eff(u) - Eff(u')|, 0 is fair
  SD, Gini = standard deviation and Gini coefficient of Eff
  phi_u(L) = |L & R_u| / k,  envy(u, u') = max(0, phi_u(L_u') - phi_u(L_u))
  ME = 2 / (m (m - 1)) sum over all u, u' of envy,  MME = mean_u max_u' envy,
  PEU = share of users whose largest envy is above epsilon
  UF = log sum over u < u' with similarity >= t of similarity d(u, u'), t = its mean + deviation,
  d(u, u') = mean over i in L_u, i' in L_u' of 1 - cos(v_i, v_i')

ME is as printed: twice the mean of envy over pairs. UF looks at what lists hold, not at how good they
are. A ranker that serves everybody badly has PUF 0: read it beside the effectiveness.

Departures: the definition of PUF was not available to us in print and is rebuilt from what the paper's
appendix shows of it (linear in gamma, half the mean similarity where half of all users get nothing);
`sim_weighted_mean` divides by the sum of similarities instead. phi divides by k, where the printed form
has the number of relevant items of the other user, and the logarithm of UF is natural. Users without
relevant items have no effectiveness and are left out. `sampled_puf` is ours.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from recjax.errors import ConfigError, DataError
from recjax.evaluate.beyond_accuracy import gini_of
from recjax.evaluate.fairness import evaluate
from recjax.evaluate.item_exposure import ListTable, Undefined, first_places, list_table
from recjax.evaluate.item_rows import (
  lists_matrix,
  of_items,
  rows_matrix,
  sorted_rows,
  spans,
  vectors_of_items,
)
from recjax.evaluate.judged_table import JudgedTable, judged_table
from recjax.evaluate.ranking import ranking_metrics
from recjax.evaluate.user_similarity import Blended, Similarity
from recjax.registry import unknown

REDUCTIONS = ("pair_mean", "sim_weighted_mean")
EFFECTIVENESS = {"Prec": "precision", "NDCG": "ndcg"}
EPSILON = 0.05
_DRAWN = 100_000  # pairs that are drawn at once
_TERMS = 5_000_000  # common items of users and lists that are counted at once


class Estimate(NamedTuple):
  """An unbiased estimate and its standard error."""

  value: float
  error: float


def puf(
  effectiveness: np.ndarray, similarity: Similarity | Blended, reduction: str = "pair_mean"
) -> np.ndarray:
  """PUF of effectiveness [..., m], over all pairs of users in blocks; [...].

  Raises:
    ConfigError: an unknown reduction.
    DataError: effectiveness that is not of the similarity's users.
    Undefined: fewer than two users, or nothing to divide by.
  """
  if reduction not in REDUCTIONS:
    raise ConfigError(unknown("reduction of PUF", reduction, REDUCTIONS))
  effectiveness = _of_users(effectiveness, similarity)
  total, weight = np.zeros(effectiveness.shape[:-1]), 0.0
  for users, others, values in similarity.blocks():
    total += _gaps(effectiveness, users, others) @ values
    weight += values.sum()
  count = len(similarity)
  whole = count * (count - 1) / 2 if reduction == "pair_mean" else weight
  if not whole:
    raise Undefined("no two users are similar, so their similarities add up to 0.")
  return total / whole


def sampled_puf(
  effectiveness: np.ndarray, similarity: Similarity | Blended, pairs: int = 1_000_000, seed: int = 0
) -> Estimate:
  """PUF of effectiveness [m] from pairs drawn evenly, with replacement; an unbiased estimate.

  A function of its arguments. Raises as `puf`, and ConfigError for fewer than two pairs.
  """
  if pairs < 2:
    raise ConfigError(f"{pairs} pairs give no standard error; draw at least 2.")
  effectiveness = _of_users(effectiveness, similarity)
  rng, count = np.random.default_rng(seed), len(similarity)
  terms = []
  for start in range(0, pairs, _DRAWN):
    users = rng.integers(count, size=min(_DRAWN, pairs - start))
    others = rng.integers(count - 1, size=len(users))
    others += others >= users
    terms.append(_gaps(effectiveness, users, others) * similarity.of(users, others))
  drawn = np.concatenate(terms)
  return Estimate(float(drawn.mean()), float(drawn.std(ddof=1) / np.sqrt(pairs)))


def _of_users(effectiveness: np.ndarray, similarity: Similarity | Blended) -> np.ndarray:
  effectiveness = np.asarray(effectiveness, np.float64)
  if effectiveness.shape[-1:] != (len(similarity),) or not np.isfinite(effectiveness).all():
    raise DataError(
      f"Effectiveness of shape {effectiveness.shape} is not one number for each of "
      f"{len(similarity)} users."
    )
  if len(similarity) < 2:
    raise Undefined("one user makes no pair.")
  return effectiveness


def _gaps(effectiveness: np.ndarray, users: np.ndarray, others: np.ndarray) -> np.ndarray:
  return np.abs(effectiveness[..., users] - effectiveness[..., others])


def gini_of_users(effectiveness: np.ndarray) -> float:
  """Gini coefficient of effectiveness [m]; raises Undefined when it is 0 for everybody."""
  if not effectiveness.any():
    raise Undefined("all users have an effectiveness of 0.")
  return gini_of(effectiveness)


def envies(judged: JudgedTable) -> tuple[np.ndarray, np.ndarray]:
  """Sum and largest of each user's envy for all others' lists; [m] each. Blocked over users.

  Raises Undefined for fewer than two users.
  """
  table = judged.table
  if len(table.items) < 2:
    raise Undefined("one user has nobody to envy.")
  relevant = rows_matrix(judged.indptr, judged.indices, table.num_items)
  lists = lists_matrix(table.items, table.num_items, np.ones(table.k, np.float32)).T.tocsr()
  own = judged.hits.sum(axis=1)
  total, largest = np.zeros(len(own)), np.zeros(len(own))
  for start, end in spans(relevant @ np.diff(lists.indptr), _TERMS):
    block = relevant[start:end] @ lists
    envy = np.maximum(block.data - np.repeat(own[start:end], np.diff(block.indptr)), 0)
    some = np.flatnonzero(np.diff(block.indptr))
    if len(some):
      first = block.indptr[some]
      total[start + some] = np.add.reduceat(envy, first)
      largest[start + some] = np.maximum.reduceat(envy, first)
  return total / table.k, largest / table.k


def list_dissimilarity(
  table: ListTable, vectors: np.ndarray, similarity: Similarity | Blended
) -> float:
  """UF: logarithm of how different the lists of the most similar users are; vectors [n, d] of items.

  Raises Undefined where no two users are alike, lists do not differ, or a vector has no direction.
  """
  length = np.linalg.norm(vectors, axis=1, keepdims=True)
  if not length[table.items[table.items != 0] - 1].all():
    raise Undefined("a listed item has a vector of zeros, which has no cosine with any other.")
  unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
  means = lists_matrix(table.items, table.num_items, np.ones(table.k)) @ unit
  means /= np.maximum((table.items != 0).sum(axis=1), 1)[:, None]
  count = len(similarity)
  pairs = count * (count - 1) / 2
  total = squares = 0.0
  for _, _, values in similarity.blocks():
    total, squares = total + values.sum(), squares + (values**2).sum()
  if not total:
    raise Undefined("no two users are similar.")
  mean = total / pairs
  variance = squares / pairs - mean**2
  least = mean + (np.sqrt(variance) if variance > 1e-12 * mean**2 else 0)  # less is rounding
  different = 0.0
  for users, others, values in similarity.blocks():
    alike = values >= least * (1 - 1e-9)  # equal similarities are all as large as their mean
    users, others = users[alike], others[alike]
    apart = 1 - np.einsum("pd,pd->p", means[users], means[others])
    different += (values[alike] * apart).sum()
  if different <= 1e-12:
    raise Undefined("the lists of similar users do not differ, and the logarithm of 0 is infinite.")
  return float(np.log(different))


def user_fairness(
  recommendations: np.ndarray,
  *,
  relevant: tuple[np.ndarray, np.ndarray],
  histories: tuple[np.ndarray, np.ndarray],
  num_items: int,
  k: int,
  item_features: np.ndarray | None = None,
  gamma: float = 0.5,
  item_vectors: np.ndarray | None = None,
  epsilon: float = EPSILON,
  pairs: int | None = None,
  seed: int = 0,
  explain: bool = False,
) -> Any:
  """PUF with every similarity, and the measures that it is compared with.

  Args:
    recommendations, relevant, num_items, k: as of `fairness.item_fairness`.
    histories: (indptr [m + 1], indices), what was seen in training.
    item_features: [num_items, d] >= 0, such as genres, or [num_items + 1, d] with a first row that is
      not read; for "PUF-...-Feat" and UF.
    gamma: share of Jaccard in the similarity with features.
    item_vectors: [num_items, d] likewise, for UF.
    epsilon: envy that PEU does not count.
    pairs: estimate PUF from so many pairs of users instead of all; standard errors are added as
      "PUF-Prec error" and so on, and UF is left out.
    explain: whether to say why a measure is undefined.

  Returns:
    name -> value, NaN where undefined; with `explain` a pair of that and name -> reason for the NaNs.
  """
  judged = _served(recommendations, relevant, num_items, k)
  rows = sorted_rows(histories, len(recommendations), num_items, "histories")
  matrix = rows_matrix(*rows, num_items)[np.diff(relevant[0]) > 0]
  kinds = {"": Similarity(matrix), "-Cos": Similarity(matrix, "cosine")}
  if item_features is not None:
    features = of_items(item_features, 0, num_items, "item_features")
    kinds["-Feat"] = Blended(matrix, features, gamma)
  vectors = vectors_of_items(item_vectors, num_items)
  ranked = ranking_metrics(judged.hits, judged.num_relevant, (k,))
  effective = [ranked[f"{metric}@{k}"] for metric in EFFECTIVENESS.values()]

  @functools.cache
  def of_pairs(kind: str) -> list[Estimate]:
    if pairs is None:
      return [Estimate(float(value), 0.0) for value in puf(np.stack(effective), kinds[kind])]
    return [sampled_puf(e, kinds[kind], pairs, seed) for e in effective]

  @functools.cache
  def envied() -> tuple[np.ndarray, np.ndarray]:
    return envies(judged)

  def dissimilarity(_) -> float:
    if vectors is None or pairs is not None:
      raise Undefined("it needs item vectors, and all pairs of users.")
    return list_dissimilarity(judged.table, vectors, kinds.get("-Feat", kinds[""]))

  measures, count = {}, len(judged.hits)
  for kind in kinds:
    for place, name in enumerate(EFFECTIVENESS):
      full = f"PUF-{name}{kind}"
      measures[full] = lambda _, kind=kind, place=place: of_pairs(kind)[place].value
      if pairs is not None:
        measures[f"{full} error"] = lambda _, kind=kind, place=place: of_pairs(kind)[place].error
  for name, e in zip(("P", "NDCG"), effective, strict=True):
    measures[f"SD-{name}"] = lambda _, e=e: float(e.std())
    measures[f"Gini-{name}"] = lambda _, e=e: gini_of_users(e)
  measures["ME"] = lambda _: float(2 * envied()[0].sum() / (count * (count - 1)))
  measures["MME"] = lambda _: float(envied()[1].mean())
  measures["PEU"] = lambda _: float((envied()[1] > epsilon).mean())
  measures["UF"] = dissimilarity
  values, reasons = evaluate(measures, None)
  return (values, reasons) if explain else values


def _served(recommendations, relevant, num_items: int, k: int) -> JudgedTable:
  """The judged table of the users who find something relevant."""
  lists = first_places(recommendations, k)
  indptr, indices = sorted_rows(relevant, len(lists), num_items, "relevant items")
  count = np.diff(indptr)
  if not (count > 0).any():
    raise DataError("No user has a relevant item, so nobody's lists are good or bad.")
  lists = lists[count > 0]
  rows = np.concatenate([[0], np.cumsum(count[count > 0])]), indices
  return judged_table(list_table(lists, num_items), lists, rows)
