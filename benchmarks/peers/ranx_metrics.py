"""Ranking metrics of lists by ranx: their values for each user, and seconds.

Runs in the virtual environment of ranx, so it imports NumPy, ranx and the standard library only. What
it does on its first call (compilation) is not timed; making its objects from arrays is, by itself.
"""

import argparse
import importlib.metadata
import json
import time

import numpy as np
from ranx import Qrels, Run, evaluate


def rows_of(keys: list[str], indptr: np.ndarray, names: list[str], values: list) -> dict[str, dict]:
  """key -> {name: value} of each row; rows are as in a sparse matrix."""
  return {
    key: dict(zip(names[a:b], values[a:b], strict=True))
    for key, a, b in zip(keys, indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)
  }


def main() -> None:
  """Reads lists and relevant items, measures, and writes values and seconds."""
  parser = argparse.ArgumentParser()
  for name in ("data", "out", "metrics"):
    parser.add_argument(f"--{name}", required=True)
  parser.add_argument("--repeats", type=int, required=True)
  arguments = parser.parse_args()
  metrics = arguments.metrics.split(",")
  with np.load(arguments.data) as data:
    ids, scores, indptr, indices = (data[n] for n in ("ids", "scores", "indptr", "indices"))
  started = time.perf_counter()
  keys = [f"{user:09}" for user in range(len(ids))]  # in the order that ranx sorts them into
  qrels = Qrels(rows_of(keys, indptr, indices.astype(str).tolist(), [1] * len(indices)))
  ends = np.arange(0, ids.size + 1, ids.shape[1])
  run = Run(rows_of(keys, ends, ids.astype(str).ravel().tolist(), scores.ravel().tolist()))
  making = time.perf_counter() - started
  values = evaluate(qrels, run, metrics, return_mean=False)
  seconds = []
  for _ in range(arguments.repeats):
    started = time.perf_counter()
    evaluate(qrels, run, metrics)
    seconds.append(time.perf_counter() - started)
  np.savez(arguments.out, **{name.replace("@", "_at_"): values[name] for name in metrics})
  print(json.dumps({
    "making": making, "seconds": seconds, "version": importlib.metadata.version("ranx")
  }))


if __name__ == "__main__":
  main()
