"""Fairness of items to which relevance counts: exposure that should follow who finds an item relevant.

Rampisela, Ruotsalo, Maistro, Lioma: "Can We Trust Recommender System Fairness Evaluation? The Role of
Fairness and Relevance", SIGIR 2024, arXiv 2405.18276. R_u are the items that user u finds relevant, U_i
the users of item i, d_j = patience^(j - 1), w_j = 1 / log2(j + 1):

  II-F, AI-F = II-D and AI-D with the target e*_ui = 1[i in R_u] (d_1 + ... + d_|R_u|) / |R_u|
  MME = 1/(m n) sum_i (max_j X_ij - X_ii), X_ij = sum_{u in U_i} 1 / rank of j in the list of u
  IBO, IWO = share of items with X_ii >= 1.1, <= 0.9 times |U_i| H_k / n, H_k = 1 + 1/2 + ... + 1/k
  IAA = mean_u 1/n sum over the ranking of |a_j - relevant_j|, a_j = (k - j)/(k - 1), 0 after place k
  IFD_div = mean_u of the mean over pairs i, j of R_u of max(0, w_i - w_j); "cut-off": w = 0 after k
  IFD_mul = mean_u of the mean over pairs of all items of (w_i - w_j)^2, w = 0 but for hits
  with x_i = sum w over the places of i, f_i and h_i = sum w and number of those where i is relevant:
  MDG = mean of f_i / h_i over the items up to their 10th percentile
  OD-E, OD-F = mean over pairs of items of |x_i/h_i - x_j/h_j|, |f_i/h_i - f_j/h_j|

`ori` and `our` are the published and the corrected form. What follows relevance per user (II-F, IAA,
IFD) is scaled per user between all relevant items first and the unfairest ranking; the others leave out
items for which the measure means nothing: without a relevant user (IBO, IWO, MDG), without a hit (OD).

Departures:
- Users without relevant items are left out of the measures that average something undefined for them
  (II-F_our, IAA_our, all IFD_div); the authors' code gives NaN for all users then.
- IAA needs no ranking after place k, since attention is 0 there. IFD_div_ori does: it takes lists that
  hold all relevant items, or scores, which rank what the list leaves out.
- With one relevant item, or all, a user's IFD_div_our is 0, as in the authors' code. Their fairest
  ranking has the relevant items last; where |R_u| > n - k another one is fairer, and below 0.
- One item with no hit makes the published MDG and OD undefined, and one without relevant users the
  published IBO and IWO; so does the authors' code.
"""

from collections.abc import Callable

import numpy as np

from recjax.evaluate.beyond_accuracy import gini_of
from recjax.evaluate.item_exposure import Undefined, log_discounts, patience_discounts
from recjax.evaluate.item_rows import lists_matrix, rows_matrix, spans
from recjax.evaluate.judged_table import JudgedTable

_PRODUCTS = 20_000_000  # terms of X that are formed at once
PERCENTILE = 10  # of MDG: the items that are served worst
BETTER, WORSE = 1.1, 0.9  # of IBO and IWO, times a random ranker's impact


def individual_error(judged: JudgedTable) -> float:
  """II-F as published: mean squared difference of exposure from what relevance deserves."""
  discounts, target = patience_discounts(judged.table), _targets(judged)
  squares = (discounts**2 * judged.table.places).sum() + (judged.num_relevant * target**2).sum()
  crossed = (target * (judged.hits * discounts).sum(axis=1)).sum()
  return float((squares - 2 * crossed) / (judged.hits.shape[0] * judged.table.num_items))


def individual_error_corrected(judged: JudgedTable) -> float:
  """II-F per user between all relevant items first (0) and no relevant item (1).

  The squares cancel: it is 1 - sum of d_j over hits / sum of d_j over the first min(|R_u|, length).
  """
  discounts = patience_discounts(judged.table)
  lengths = (judged.table.items != 0).sum(axis=1)
  keep = judged.judged & (lengths > 0)
  if not keep.any():
    raise Undefined("no user with relevant items has a list.")
  best = np.cumsum(discounts)[np.minimum(judged.num_relevant, lengths)[keep] - 1]
  return float((1 - (judged.hits[keep] * discounts).sum(axis=1) / best).mean())


def amortised_error(judged: JudgedTable) -> float:
  """AI-F: mean over items of the squared difference of mean exposure from mean deserved exposure."""
  target = np.repeat(_targets(judged), judged.num_relevant)
  deserved = np.bincount(judged.indices, target, minlength=judged.table.num_items + 1)[1:]
  exposed = judged.table.summed(patience_discounts(judged.table))
  return float((((exposed - deserved) / len(judged.hits)) ** 2).mean())


def _targets(judged: JudgedTable) -> np.ndarray:
  """e* of a relevant item of each user, 0 for users without; [m]."""
  count, patience = judged.num_relevant, judged.table.patience
  return (1 - patience**count) / ((1 - patience) * np.maximum(count, 1))


def impacts(judged: JudgedTable) -> np.ndarray:
  """X_ii: sum of 1 / rank over the places where item i is relevant; [n]."""
  return judged.table.summed(judged.hits / np.arange(1, judged.table.k + 1))


def envy(judged: JudgedTable) -> float:
  """MME: mean over items of what an item would gain in the places of the luckiest other item.

  X is formed in blocks of items that have relevant users, and is sparse: never [n, n].
  """
  table = judged.table
  relevant = rows_matrix(judged.indptr, judged.indices, table.num_items).T.tocsr()
  relevant = relevant[np.flatnonzero(judged.relevant_users)].astype(np.float64)
  seen = lists_matrix(table.items, table.num_items, 1 / np.arange(1, table.k + 1))
  work = relevant @ np.diff(seen.indptr)
  best = 0.0
  for start, end in spans(work, _PRODUCTS):
    block = relevant[start:end] @ seen
    best += block.max(axis=1).sum() if block.nnz else 0.0
  return float((best - impacts(judged).sum()) / (len(table.items) * table.num_items))


def impact_share(better: bool, published: bool) -> Callable[[JudgedTable], float]:
  """IBO (better) or IWO: the share of items with much more, or less, impact than at random."""

  def share(judged: JudgedTable) -> float:
    table, users = judged.table, judged.relevant_users
    if published and not users.all():
      raise Undefined("an item has no relevant user, so its impact at random is 0.")
    if not users.any():
      raise Undefined("no item has a relevant user.")
    scale = 1 / len(table.items)
    random = users * (1 / np.arange(1, table.k + 1)).sum() / table.num_items * scale
    impact = impacts(judged) * scale
    chosen = impact >= BETTER * random if better else impact <= WORSE * random
    return float(chosen[users > 0].mean())

  return share


def attention_error(judged: JudgedTable) -> float:
  """IAA as published: mean difference of attention, falling to 0 at place k, from relevance."""
  k = judged.table.k
  if k == 1:
    raise Undefined("attention (k - j) / (k - 1) is 0 / 0 for k = 1.")
  attention = (k - np.arange(1, k + 1)) / (k - 1)
  hits = judged.hits.sum(axis=0)
  total = attention.sum() * len(judged.hits) + len(judged.indices) - 2 * (hits * attention).sum()
  return float(total / (judged.table.num_items * len(judged.hits)))


def attention_error_corrected(judged: JudgedTable) -> float:
  """IAA with attention (k + 1 - j) / k, per user between relevant items first (0) and last (1)."""
  k, num_items = judged.table.k, judged.table.num_items
  attention = (k + 1 - np.arange(1, k + 1)) / k
  summed = np.concatenate([[0], np.cumsum(attention)])
  keep = judged.judged & (judged.num_relevant < num_items)
  if not keep.any():
    raise Undefined("every user finds all items relevant, or none.")
  count = judged.num_relevant[keep]
  best = summed[np.minimum(count, k)]
  worst = summed[k] - summed[np.minimum(k, num_items - count)]
  return float(((best - (judged.hits[keep] * attention).sum(axis=1)) / (best - worst)).mean())


def difference_in_list(judged: JudgedTable) -> float:
  """IFD_mul: mean over pairs of items of the squared difference of w over hits, 0 for all others."""
  num_items = judged.table.num_items
  if num_items == 1:
    raise Undefined("one item makes no pair.")
  weighted = judged.hits * log_discounts(judged.table.k)
  squared = num_items * (weighted**2).sum(axis=1) - weighted.sum(axis=1) ** 2
  return float(squared.mean() / (num_items * (num_items - 1) / 2))


def difference_of_ranks(judged: JudgedTable) -> float:
  """IFD_div as published: over the whole ranking. Needs `ranks`."""
  judged.judged  # noqa: B018 - raises where nobody finds anything relevant
  order = np.lexsort((judged.ranks, judged.row))
  place = np.arange(len(order)) - judged.indptr[judged.row] + 1
  count = judged.num_relevant[judged.row]
  terms = (count + 1 - 2 * place) / np.log2(judged.ranks[order] + 1) / count**2
  return float(terms.sum() / judged.judged.sum())


def differences_cut(judged: JudgedTable) -> np.ndarray:
  """IFD_div with w = 0 after place k, of each user with relevant items; float64 [users]."""
  hits, count = judged.hits[judged.judged], judged.num_relevant[judged.judged]
  factor = count[:, None] + 1 - 2 * np.cumsum(hits, axis=1)
  return (hits * factor * log_discounts(judged.table.k)).sum(axis=1) / count**2


def difference_cut_corrected(judged: JudgedTable) -> float:
  """IFD_div, cut off, per user between relevant items last (0) and half first, half last (1)."""
  k, num_items = judged.table.k, judged.table.num_items
  count = judged.num_relevant[judged.judged][:, None]
  count, user = np.unique(count, return_inverse=True)
  count, place, weights = count[:, None], np.arange(1, k + 1), log_discounts(k)
  # Of the c relevant items, the one at place p of the end is number p - (n - c).
  from_end = place - (num_items - count)
  front = (count + 1) // 2

  def value(number: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return (chosen * (count + 1 - 2 * number) * weights).sum(axis=1) / count[:, 0] ** 2

  fair = value(from_end, from_end >= 1)
  unfair = value(place, place <= front) + value(from_end, from_end > front)
  room = (unfair - fair)[user.ravel()]
  return float(((differences_cut(judged) - fair[user.ravel()]) / np.where(room > 0, room, 1)).mean())


def discounted_gain(published: bool) -> Callable[[JudgedTable], float]:
  """MDG: mean gain of the items that are served worst; higher is fairer."""

  def gain(judged: JudgedTable) -> float:
    feedback, hits = _feedback(judged)
    if published and not hits.all():
      raise Undefined("an item is never shown to a user who finds it relevant: its gain is 0 / 0.")
    if not judged.relevant_users.any():
      raise Undefined("no item has a relevant user.")
    gains = (feedback / np.maximum(hits, 1))[judged.relevant_users > 0]
    return float(gains[gains <= np.percentile(gains, PERCENTILE)].mean())

  return gain


def disparity_of_merit(feedback: bool, published: bool) -> Callable[[JudgedTable], float]:
  """OD-F (feedback) or OD-E: mean difference between items of exposure for each hit."""

  def disparity(judged: JudgedTable) -> float:
    useful, hits = _feedback(judged)
    if published and not hits.all():
      raise Undefined("an item is never shown to a user who finds it relevant: its merit is 0.")
    keep = hits > 0
    if keep.sum() < 2:
      raise Undefined("fewer than two items are shown to a user who finds them relevant.")
    ratio = ((useful if feedback else judged.table.discounted)[keep]) / hits[keep]
    return 2 * gini_of(ratio) * float(ratio.sum()) / (len(ratio) - 1)

  return disparity


def _feedback(judged: JudgedTable) -> tuple[np.ndarray, np.ndarray]:
  """Sum of w, and the number, of the places where each item is relevant; [n] each."""
  weights = log_discounts(judged.table.k)
  return judged.table.summed(judged.hits * weights), judged.table.summed(judged.hits)


MEASURES: dict[str, Callable[[JudgedTable], float]] = {
  "II-F_ori": individual_error,
  "II-F_our": individual_error_corrected,
  "AI-F_ori": amortised_error,
  "MME_ori": envy,
  "IBO_ori": impact_share(better=True, published=True),
  "IBO_our": impact_share(better=True, published=False),
  "IWO_ori": impact_share(better=False, published=True),
  "IWO_our": impact_share(better=False, published=False),
  "IAA_ori": attention_error,
  "IAA_our": attention_error_corrected,
  "IFD_mul_ori": difference_in_list,
  "IFD_div_ori": difference_of_ranks,
  "IFD_div_ori-cut-off": lambda judged: float(differences_cut(judged).mean()),
  "IFD_div_our": difference_cut_corrected,
  "MDG_ori": discounted_gain(published=True),
  "MDG_our": discounted_gain(published=False),
  "OD-E_ori": disparity_of_merit(feedback=False, published=True),
  "OD-E_our": disparity_of_merit(feedback=False, published=False),
  "OD-F_ori": disparity_of_merit(feedback=True, published=True),
  "OD-F_our": disparity_of_merit(feedback=True, published=False),
}
