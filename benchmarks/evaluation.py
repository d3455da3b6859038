"""Seconds of every fairness measure, and of the ranking metrics beside ranx.

    python benchmarks/evaluation.py [--sizes 10000x10000,100000x1000000] [--peers FOLDER]

Lists of 100 items for each of USERSxITEMS, items drawn by a power law, 10 relevant ones and a history
of 20 for each user. What measures share (checked lists, hits, ranks) is timed by itself, before them.
The ranking metrics of the first 10 of 20 places are compared with those of ranx, user by user; ranx has
a virtual environment of its own, and its compilation is not timed. Writes docs/results/evaluation.json.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import machine
from peers.environment import FOLDER, python_of

from recjax.evaluate import item_exposure, item_relevance, rerank
from recjax.evaluate.fairness import evaluate, item_fairness
from recjax.evaluate.item_exposure import list_table
from recjax.evaluate.item_rows import rows_matrix
from recjax.evaluate.judged_table import judged_table
from recjax.evaluate.pareto import pareto_frontier
from recjax.evaluate.ranking import hits_of_lists, ranking_metrics
from recjax.evaluate.user_fairness import envies, puf, sampled_puf
from recjax.evaluate.user_similarity import Similarity

K, RELEVANT, HISTORY = 100, 10, 20
PLACES, CUT = 20, 10  # of the lists that are ranked
RANKING = {
  "hr": "hit_rate", "precision": "precision", "recall": "recall", "mrr": "mrr", "map": "map",
  "ndcg": "ndcg",
}
FAIRNESS_LIMIT = 60.0  # seconds of all item measures at the largest size
PEER_LIMIT, TOLERANCE = 1.0, 1e-6
REPEATS = 5
FRONTIER_LIMIT = 10_000  # items up to which the walk to fairness is timed
HERE = pathlib.Path(__file__).parent


def draw(rng: np.random.Generator, users: int, num_items: int, length: int) -> np.ndarray:
  """Different items for each user, few of them often; int64 [users, length], in any order."""
  fresh = lambda size: (num_items * rng.random(size) ** 3).astype(np.int64) + 1
  items = np.sort(fresh((users, length)), axis=1)
  while True:
    again = np.zeros(items.shape, bool)
    again[:, 1:] = items[:, 1:] == items[:, :-1]
    if not again.any():
      return rng.permuted(items, axis=1)
    items[again] = fresh(again.sum())
    items.sort(axis=1)


def rows(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(indptr, indices) of items [m, length]."""
  return np.arange(0, items.size + 1, items.shape[1]), items.ravel()


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
  """Median seconds, and what the last call returned."""
  seconds = []
  for _ in range(repeats):
    started = time.perf_counter()
    found = function()
    seconds.append(time.perf_counter() - started)
  return statistics.median(seconds), found


def measure(users: int, num_items: int, repeats: int) -> dict[str, float]:
  """Name -> seconds of everything at one size."""
  rng = np.random.default_rng(0)
  lists, relevant = draw(rng, users, num_items, K), rows(draw(rng, users, num_items, RELEVANT))
  history = rows(np.sort(draw(rng, users, num_items, HISTORY), axis=1))
  seconds = {}

  def add(name: str, function: Callable[[], Any]) -> Any:
    seconds[name], found = timed(function, repeats)
    print(f"{users:,} users, {num_items:,} items  {name:28} {seconds[name]:9.3f} s", flush=True)
    return found

  whole = lambda: item_fairness(lists, relevant=relevant, num_items=num_items, k=K)
  add("all item measures, one call", whole)
  table = add("checks of the lists", lambda: list_table(lists, num_items))
  judge = lambda: judged_table(table, lists, relevant)
  judged = judge()
  add("hits", lambda: judge().hits)
  judged.hits, table.counts, table.discounted  # noqa: B018 - made before they are shared
  for measures, subject in ((item_exposure.MEASURES, table), (item_relevance.MEASURES, judged)):
    for name in measures:
      if name != "IFD_div_ori":  # it needs the whole ranking
        add(name, lambda m=measures, n=name, s=subject: evaluate({n: m[n]}, s))
  found = add("P@10, NDCG@10 of all users",
              lambda: ranking_metrics(judged.hits, judged.num_relevant, (10,)))
  similarity = Similarity(rows_matrix(*history, num_items))
  effective = found["ndcg@10"]
  add("PUF, Jaccard, all pairs", lambda: puf(effective, similarity))
  add("PUF, Jaccard, 1 M pairs", lambda: sampled_puf(effective, similarity))
  add("ME, MME, PEU", lambda: envies(judged))
  add("Borda, 100 to 10", lambda: rerank.borda(lists, num_items, 10))
  scores = np.tile(np.arange(K, 0, -1.0), (users, 1))
  add("CombMNZ, 100 to 10", lambda: rerank.combmnz(lists, scores, num_items, 10))
  if num_items <= FRONTIER_LIMIT:
    nothing = np.zeros(users + 1, np.int64), np.zeros(0, np.int64)
    add("Oracle2Fair, k = 10, 3 points", lambda: pareto_frontier(relevant, nothing, 10, points=3))
  return seconds


def compare(users: int, num_items: int, environments: pathlib.Path, scratch: pathlib.Path) -> dict:
  """Seconds and the largest difference of both systems' ranking metrics."""
  rng = np.random.default_rng(1)
  ids, targets = draw(rng, users, num_items, PLACES + 1), draw(rng, users, num_items, RELEVANT)
  for place in range(0, CUT, 3):  # some hits more than by chance
    free = (ids != targets[:, place, None]).all(axis=1) & (rng.random(users) < 0.3)
    ids[free, place] = targets[free, place]
  scores = -np.arange(PLACES + 1) + 0.9 * rng.random((users, PLACES + 1))
  indptr, indices = rows(targets)
  np.savez(
    scratch / "lists.npz", ids=ids[:, :PLACES], scores=scores[:, :PLACES], indptr=indptr,
    indices=indices,
  )

  def own() -> dict[str, np.ndarray]:
    hits = hits_of_lists(ids, scores, targets)
    found = ranking_metrics(hits, np.full(users, RELEVANT), (CUT,))
    return {name: found[f"{name}@{CUT}"] for name in RANKING}

  before, values = timed(own, REPEATS)
  metrics = [f"{name}@{CUT}" for name in RANKING.values()]
  command = [
    python_of("ranx", environments), str(HERE / "peers" / "ranx_metrics.py"), "--data",
    str(scratch / "lists.npz"), "--out", str(scratch / "values.npz"), "--metrics", ",".join(metrics),
    "--repeats", str(REPEATS),
  ]
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
  theirs = json.loads(output.strip().split("\n")[-1])
  after, _ = timed(own, REPEATS)
  with np.load(scratch / "values.npz") as peer:
    difference = {
      name: float(np.abs(values[name] - peer[f"{other}_at_{CUT}"]).max())
      for name, other in RANKING.items()
    }
  found = {
    "users": users, "recjax": (before + after) / 2, "ranx": statistics.median(theirs["seconds"]),
    "ranx_making": theirs["making"], "difference": difference, "version": theirs["version"],
    "means": {name: float(value.mean()) for name, value in values.items()},
  }
  print(json.dumps(found), flush=True)
  return found


def claims(sizes: list[str], seconds: dict[str, dict[str, float]], compared: list[dict]) -> list[dict]:
  """What must hold of the measured seconds by size, and of the comparisons."""
  slowest = seconds[sizes[-1]]["all item measures, one call"]
  ratio = min(c["ranx"] / c["recjax"] for c in compared)
  difference = max(max(c["difference"].values()) for c in compared)
  return [
    {"name": "in seconds", "passed": slowest <= FAIRNESS_LIMIT,
     "text": f"all item measures of {sizes[-1]} take {slowest:.1f} s, limit {FAIRNESS_LIMIT:.0f}"},
    {"name": "as fast as ranx", "passed": ratio >= PEER_LIMIT,
     "text": f"ranking metrics are at least {ratio:.1f} times as fast as those of ranx"},
    {"name": "equal to ranx", "passed": difference <= TOLERANCE,
     "text": f"the largest difference from ranx for any user and metric is {difference:.0e}"},
  ]


def main() -> None:
  """Measures every size, compares with ranx and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--sizes", default="10000x10000,100000x1000000", help="USERSxITEMS, ascending")
  parser.add_argument("--peers", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--repeats", type=int, default=3)
  options = parser.parse_args()
  from store import store

  pairs = [tuple(int(part) for part in size.split("x")) for size in options.sizes.split(",")]
  sizes = [f"{users:,} x {num_items:,}" for users, num_items in pairs]
  seconds, compared = {}, []
  for size, (users, num_items) in zip(sizes, pairs, strict=True):
    seconds[size] = measure(users, num_items, options.repeats)
    with tempfile.TemporaryDirectory(prefix="evaluation_") as scratch:
      compared.append(compare(users, num_items, options.peers, pathlib.Path(scratch)))
  store({
    "name": "evaluation", "page": "performance", "title": "Evaluation: fairness, ranking metrics",
    "command": "python benchmarks/evaluation.py",
    "note": f"On {machine()}, one process. Lists of {K}, {RELEVANT} relevant items and a history of "
    f"{HISTORY} for each user, items by a power law; medians of {options.repeats}. The ranking metrics "
    f"({', '.join(RANKING)} at {CUT}) are of lists of {PLACES}, for each user; ranx evaluates objects "
    "that are made before, and uses all cores.",
    "tables": [
      {
        "caption": "Seconds, users x items",
        "columns": ["measure", *sizes],
        "rows": [
          [name, *(f"{seconds[size][name]:.3f}" if name in seconds[size] else "" for size in sizes)]
          for name in seconds[sizes[0]]
        ],
      },
      {
        "caption": "Ranking metrics beside ranx",
        "columns": ["users", "recjax s", "ranx s", "ranx: making its objects s", "largest difference"],
        "rows": [
          [f"{c['users']:,}", f"{c['recjax']:.3f}", f"{c['ranx']:.3f}", f"{c['ranx_making']:.1f}",
           f"{max(c['difference'].values()):.0e}"]
          for c in compared
        ],
      },
    ],
    "claims": claims(sizes, seconds, compared), "seconds": seconds, "compared": compared,
  }, ranx=compared[0]["version"])


if __name__ == "__main__":
  main()
