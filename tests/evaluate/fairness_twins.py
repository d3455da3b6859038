"""Slow and obvious forms of the fairness measures, as loops over users and items; and random tables."""

import math

import numpy as np
from hypothesis import strategies as st


def csr(rows):
  """(indptr, indices) of lists of ids."""
  indices = [item for row in rows for item in row]
  return np.cumsum([0] + [len(row) for row in rows]), np.array(indices, int)


@st.composite
def tables(draw, most_users=6, most_items=9):
  """(lists [m, k], relevant rows, n) with k < n, full lists, every user with something relevant."""
  num_items = draw(st.integers(3, most_items))
  users = draw(st.integers(2, most_users))
  k = draw(st.integers(1, num_items - 1))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  skew = rng.random(num_items) ** draw(st.integers(1, 8)) + 1e-9
  order = lambda: rng.choice(num_items, num_items, replace=False, p=skew / skew.sum()) + 1
  lists = np.array([order()[:k] for _ in range(users)])
  relevant = [sorted(order()[: rng.integers(1, num_items + 1)].tolist()) for _ in range(users)]
  return lists, relevant, num_items


def full_ranking(row, num_items):
  """A list, then all other items by id."""
  return [*row, *(i for i in range(1, num_items + 1) if i not in row)]


def mean_pairs(values, distance):
  """Mean over unordered pairs, NaN without one."""
  pairs = [distance(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
  return float(np.mean(pairs)) if pairs else math.nan


def gini(values):
  """Half the relative mean difference."""
  return float(np.abs(np.subtract.outer(values, values)).mean() / (2 * np.mean(values)))


def slow(lists, relevant, n, patience=0.8, rankings=None):
  """Every measure with a value; for tables of `tables`, of which IBO_ori and such may be NaN."""
  m, k = lists.shape
  lists = lists.tolist()
  items = range(1, n + 1)
  rankings = rankings or [full_ranking(row, n) for row in lists]
  rank = [{item: place + 1 for place, item in enumerate(row)} for row in rankings]
  count = np.array([sum(i in row for row in lists) for i in items])
  slots = m * k
  w = lambda r: 1 / math.log2(r + 1)
  listed = lambda u, i: rank[u][i] <= k
  exposed = np.array([sum(w(rank[u][i]) for u in range(m) if listed(u, i)) for i in items])
  shown = count[count > 0]
  share, rest = divmod(slots, n)
  e_max = -sum(
    number * x * math.log(x, n)
    for number, x in ((n - rest, share / slots), (rest, (share + 1) / slots)) if x and number
  )
  ent = -sum(c / slots * math.log(c / slots, n) for c in shown)
  jain = slots**2 / (n * (count**2).sum())
  jain_max = slots**2 / (n * (n * share**2 + rest * (2 * share + 1)))
  gini_min = (n - rest) * rest / (n * slots)
  weights = [w(j) for j in range(1, k + 1)]
  worst_w = gini([m * x for x in weights] + [0] * (n - k))
  best_w = gini(sorted(weights * m) + [0] * (n - slots)) if slots <= n else 0
  e = np.array([[patience ** (rank[u][i] - 1) * listed(u, i) for i in items] for u in range(m)])
  even = (1 - patience**k) / ((1 - patience) * n)
  R = np.array([[i in relevant[u] for i in items] for u in range(m)], float)
  size = R.sum(1, keepdims=True)
  target = R * (1 - patience**size) / ((1 - patience) * size)
  inverse = np.array([[listed(u, i) / rank[u][i] for i in items] for u in range(m)])
  X = R.T @ inverse
  out = {
    "Jain_ori": jain, "Jain_our": (jain - k / n) / (jain_max - k / n),
    "QF_ori": len(shown) / n,
    "QF_our": (len(shown) - k) / (n - k if slots >= n else k * (m - 1)),
    "Ent_ori": math.nan if len(shown) < n else ent,
    "Ent_our": (ent - math.log(k, n)) / (e_max - math.log(k, n)),
    "Gini_ori": gini(count), "Gini_our": (gini(count) - gini_min) / (1 - k / n - gini_min),
    "FSat_ori": float((count >= share).mean()),
    "FSat_our": ((count >= share).mean() - k / n) / (1 - k / n),
    "Gini-w_ori": gini(exposed), "Gini-w_our": (gini(exposed) - best_w) / (worst_w - best_w),
    "VoCD_ori": mean_pairs(shown.tolist(), lambda a, b: abs(a - b) / max(a, b)),
    "II-D_ori": ((e - even) ** 2).mean(), "AI-D_ori": ((e.mean(0) - even) ** 2).mean(),
    "II-F_ori": ((e - target) ** 2).mean(),
    "AI-F_ori": ((e - target).mean(0) ** 2).mean(),
    "MME_ori": float(np.mean([X[i].max() - X[i, i] for i in range(n)]) / m),
  }
  out.update(_relevance_per_user(m, n, k, relevant, rank, patience, w))
  impact = np.diag(X) / m
  random = R.sum(0) * sum(1 / j for j in range(1, k + 1)) / (n * m)
  some = random > 0
  for name, chosen in (("IBO", impact >= 1.1 * random), ("IWO", impact <= 0.9 * random)):
    out[f"{name}_our"] = float(chosen[some].mean())
    out[f"{name}_ori"] = float(chosen.mean()) if some.all() else math.nan
  hits = np.array([sum(listed(u, i) and R[u, i - 1] for u in range(m)) for i in items])
  useful = np.array(
    [sum(w(rank[u][i]) for u in range(m) if listed(u, i) and R[u, i - 1]) for i in items]
  )
  gains = np.divide(useful, hits, out=np.zeros(n), where=hits > 0)
  low = lambda g: float(g[g <= np.percentile(g, 10)].mean())
  out["MDG_our"] = low(gains[some])
  out["MDG_ori"] = low(gains) if hits.all() else math.nan
  for name, top in (("OD-E", exposed), ("OD-F", useful)):
    ratio = (top[hits > 0] / hits[hits > 0]).tolist()
    out[f"{name}_our"] = mean_pairs(ratio, lambda a, b: abs(a - b))
    out[f"{name}_ori"] = out[f"{name}_our"] if hits.all() else math.nan
  return out


def _relevance_per_user(m, n, k, relevant, rank, patience, w):
  """The measures that are means over users of something scaled between two rankings."""
  found = {name: [] for name in (
    "II-F_our", "IAA_ori", "IAA_our", "IFD_mul_ori", "IFD_div_ori", "IFD_div_ori-cut-off",
    "IFD_div_our",
  )}
  ordered = lambda places, cut: [w(p) * (p <= cut) for p in places]
  div = lambda values: float(np.maximum(np.subtract.outer(values, values), 0).mean())
  for u in range(m):
    c = len(relevant[u])
    places = [rank[u][i] for i in relevant[u]]
    first, last = range(1, c + 1), range(n - c + 1, n + 1)
    half = (c + 1) // 2
    split = [*range(1, half + 1), *range(n - (c - half) + 1, n + 1)]

    def error(places, c=c):
      target = (1 - patience**c) / ((1 - patience) * c)
      return sum(
        (patience ** (j - 1) * (j <= k) - target * (j in places)) ** 2 for j in range(1, n + 1)
      )

    def attention(places, fixed):
      alpha = lambda j: 0 if j > k else (k + 1 - j) / k if fixed else (k - j) / (k - 1)
      return sum(abs(alpha(j) - (j in places)) for j in range(1, n + 1)) / n

    # No relevant item in the list, even where there are too few others for that.
    none = error([]) + c * ((1 - patience**c) / ((1 - patience) * c)) ** 2
    found["II-F_our"].append((error(places) - error(first)) / (none - error(first)))
    if k > 1:
      found["IAA_ori"].append(attention(places, False))
    if c < n:
      low, high = attention(first, True), attention(last, True)
      found["IAA_our"].append((attention(places, True) - low) / (high - low))
    inside = [w(p) for p in places if p <= k]
    found["IFD_mul_ori"].append(
      mean_pairs(inside + [0] * (n - len(inside)), lambda a, b: (a - b) ** 2)
    )
    found["IFD_div_ori"].append(div(ordered(places, n)))
    cut, low, high = (div(ordered(p, k)) for p in (places, last, split))
    found["IFD_div_ori-cut-off"].append(cut)
    found["IFD_div_our"].append((cut - low) / (high - low) if high > low else 0)
  return {name: float(np.mean(values)) if values else math.nan for name, values in found.items()}
