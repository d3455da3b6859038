"""MovieLens 100K: what the authors' functions give for lists of four rankers, computed again here.

Ratings of 3 and more, at least 5 a user and an item; of each user by time the first 80 % train and the
last 10 % are the test; lists of 10 without what came before the test. The figures of items were
computed with the official functions, those of users and of the frontier independently of this library.
"""

import numpy as np
import pyarrow.parquet as pq
import pytest

from recjax.evaluate import pareto
from recjax.evaluate.fairness import item_fairness
from recjax.evaluate.ranking import ranking_metrics
from recjax.evaluate.user_fairness import user_fairness

pytestmark = pytest.mark.slow
K = 10
ITEM_NAMES = (
  "NDCG", "Jain_our", "QF_our", "Ent_our", "Gini_our", "Gini-w_our", "FSat_our", "VoCD_ori", "AI-D_ori",
)
ITEMS = {
  "popularity": (.06647, .00965, .05113, .20126, .99138, .99248, .02934, .76569, .00108),
  "item-kNN": (.10261, .10037, .26655, .58446, .90420, .91437, .15004, .69827, .00014),
  "EASE": (.10882, .09957, .30260, .60435, .89345, .90647, .16681, .68947, .00016),
}
USER_NAMES = ("PUF-Prec", "PUF-NDCG", "SD-P", "P")
USERS = {
  "popularity": (.00595, .00765, .0894, .0511),
  "item-kNN": (.00740, .01055, .1049, .0718),
  "EASE": (.00792, .01103, .1145, .0769),
}
DISTANCES = {
  ("NDCG", "Ent_our"): (1.2005, .9556, .9415),
  ("NDCG", "Gini_our"): (1.3069, 1.2192, 1.2072),
  ("P", "Ent_our"): (.9620, .6626, .6463),
}


def rows(parts):
  return np.cumsum([0, *map(len, parts)]), np.concatenate(parts) + 1


def read(data_dir):
  """Train, validation and test items of each user, from 0, and how many items there are."""
  path = data_dir / "ml_100k" / "interactions.parquet"
  if not path.is_file():
    pytest.skip(f"{path} is not there")
  table = pq.read_table(path)
  column = {name: table[name].to_numpy() for name in ("user_id", "item_id", "rating", "timestamp")}
  user, item, rating, time = column.values()
  kept = rating >= 3
  while not kept.all():
    user, item, time = user[kept], item[kept], time[kept]
    kept = (np.bincount(user)[user] >= 5) & (np.bincount(item)[item] >= 5)
  user, item = (np.unique(ids, return_inverse=True)[1] for ids in (user, item))
  order = np.lexsort((item, time, user))
  own = np.split(item[order], np.flatnonzero(np.diff(user[order])) + 1)
  cuts = [(int(len(part) * 0.8), int(len(part) * 0.9)) for part in own]
  parts = zip(*(np.split(part, cut) for part, cut in zip(own, cuts, strict=True)), strict=True)
  return (*map(list, parts), item.max() + 1)


def scores_of(train, num_items):
  """Scores [users, items] of each ranker."""
  seen = np.zeros((len(train), num_items))
  for user, items in enumerate(train):
    seen[user, items] = 1
  pairs = seen.T @ seen
  norm = np.sqrt(np.diag(pairs))
  cosine = pairs / (norm[:, None] * norm + 10)
  np.fill_diagonal(cosine, 0)
  cosine[cosine < np.sort(cosine, axis=0)[-100]] = 0
  inverse = np.linalg.inv(pairs + 200 * np.eye(num_items))
  weights = -inverse / np.diag(inverse)
  np.fill_diagonal(weights, 0)
  return {
    "popularity": np.tile(seen.sum(axis=0), (len(train), 1)),
    "item-kNN": seen @ cosine,
    "EASE": seen @ weights,
    "chance": np.random.default_rng(0).random(seen.shape),
  }


def test_figures_of_the_authors_functions(data_dir):
  train, validation, test, num_items = read(data_dir)
  assert (len(train), num_items) == (943, 1203)
  relevant, histories = rows(test), rows(train)
  known = [np.concatenate(parts) for parts in zip(train, validation, strict=True)]
  models = {}
  for name, scores in scores_of(train, num_items).items():
    for user, items in enumerate(known):
      scores[user, items] = -np.inf
    lists = np.argsort(-scores, axis=1, kind="stable")[:, :K] + 1
    hits = np.array([np.isin(row - 1, own) for row, own in zip(lists, test, strict=True)])
    ranked = ranking_metrics(hits, np.array(list(map(len, test))), (K,))
    given = {"relevant": relevant, "num_items": num_items, "k": K}
    values = item_fairness(lists, **given) | user_fairness(lists, histories=histories, **given)
    values |= {"NDCG": ranked["ndcg@10"].mean(), "P": ranked["precision@10"].mean()}
    models[name] = values
    assert values["II-D_ori"] == pytest.approx(.00227, abs=5e-6)
  for names, expected in ((ITEM_NAMES, ITEMS), (USER_NAMES, USERS)):
    for model, figures in expected.items():
      for name, figure in zip(names, figures, strict=True):
        within = 1e-5 if name.startswith("PUF") else 6e-5  # as many digits as are known
        assert models[model][name] == pytest.approx(figure, abs=within), (model, name)
  for name in ("Jain_our", "QF_our", "Ent_our", "FSat_our"):
    values = [models[model][name] for model in ("popularity", "item-kNN", "EASE", "chance")]
    assert min(values) == values[0] and max(values) == values[3], name

  frontier = pareto.pareto_frontier(relevant, rows(known), K)
  assert frontier.expected == frontier.steps[-1] == 688 and frontier.converged
  ends = {"P": (.6308, .5583), "NDCG": (1, .934), "MAP": (1, .9029), "Jain_our": (.9389, 1)}
  for name, (first, last) in ends.items():
    assert frontier.values[name][0] == pytest.approx(first, abs=1e-4), name
    assert frontier.values[name][-1] == pytest.approx(last, abs=0.01), name
  for pair, figures in DISTANCES.items():
    found = pareto.dpfr(frontier, models, *pair)
    for model, figure in zip(ITEMS, figures, strict=True):
      assert found[model] == pytest.approx(figure, abs=0.02), (model, pair)
  distance = pareto.dpfr(frontier, models, "NDCG", "Ent_our")
  mean = {name: pareto.average(models[name], "NDCG", "Ent_our") for name in ("EASE", "chance")}
  assert distance["EASE"] < distance["chance"] and mean["EASE"] < mean["chance"]
