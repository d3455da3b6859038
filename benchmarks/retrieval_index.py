"""Exact search for 1,024 users among a million items, beside faiss-cpu's flat index.

    python benchmarks/retrieval_index.py [--items 1000000] [--environments .venv-peers]

`serve.item_index` and faiss's IndexFlatIP get the same vectors of 64 numbers and find the 100 largest
inner products of each user. Systems take turns, each in a process of its own with all cores; ratios are
of runs of one round. Lists must agree apart from ties: where ids differ, their products in float64 must
be as large but for rounding. Memory is what searching takes beyond vectors and index: as the compiled
program states it, and as the process grows at most. Writes docs/results/retrieval_index.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from machine import machine
from memory import Peak, holdings
from peers.environment import FOLDER, python_of

USERS, WIDTH, K = 1024, 64, 100
REPEATS = 5  # searches of a run
MOST = 1e9  # bytes
LEAST = 0.8  # users a second, of faiss's
ROUNDING = 1e-5  # of products, as a share of the product of lengths
OURS, PEER = "recjax", "faiss-cpu IndexFlatIP"


def write_vectors(folder: pathlib.Path, items: int) -> None:
  """Normal vectors of users [USERS, WIDTH] and items [items + 1, WIDTH], row 0 for padding."""
  rng = np.random.default_rng(0)
  np.save(folder / "users.npy", rng.standard_normal((USERS, WIDTH), np.float32))
  np.save(folder / "items.npy", rng.standard_normal((items + 1, WIDTH), np.float32))


def measure(folder: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
  """Seconds of a search and memory here, in this process; writes the lists."""
  from recjax.serve.item_index import ItemIndex

  users = np.load(folder / "users.npy")
  index = ItemIndex(np.load(folder / "items.npy"))
  temporary = index.memory(USERS, K)
  before = holdings(os.getpid())["own"]
  with Peak(os.getpid(), every=0.05) as peak:
    ids, scores = index.search(users, K)
    seconds = []
    for _ in range(REPEATS):
      started = time.perf_counter()
      ids, scores = index.search(users, K)
      seconds.append(time.perf_counter() - started)
  np.savez(out, ids=ids, scores=scores)
  return {
    "seconds": float(np.median(seconds)), "above": peak.most["own"] - before, "temporary": temporary
  }


def measure_peer(
  folder: pathlib.Path, out: pathlib.Path, environments: pathlib.Path
) -> dict[str, Any]:
  """The same of faiss, with as many threads as there are cores."""
  flags = {
    "data": folder, "out": out, "k": K, "repeats": REPEATS, "threads": len(os.sched_getaffinity(0)),
  }
  program = str(pathlib.Path(__file__).parent / "peers" / "faiss_flat.py")
  command = [python_of("faiss", environments), program, *(f"--{k}={v}" for k, v in flags.items())]
  return _last_line(command)


def _last_line(command: list[str]) -> dict[str, Any]:
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
  return json.loads(output.stdout.strip().split("\n")[-1])


def disagreements(
  users: np.ndarray, items: np.ndarray, left: np.ndarray, right: np.ndarray
) -> dict[str, int]:
  """Of lists [U, k] by id: `places` with different ids, and `wrong` ones among them.

  A place is wrong where the products of its two items differ by more than rounding, or where a list has
  an item twice.
  """
  row, place = np.nonzero(left != right)
  own = users[row].astype(np.float64)
  products = [(own * items[lists[row, place]]).sum(1) for lists in (left, right)]
  lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(items[left[row, place]], axis=1)
  wrong = int((np.abs(products[0] - products[1]) > ROUNDING * lengths).sum())
  twice = sum(
    int((np.diff(np.sort(lists, axis=1), axis=1) == 0).sum()) for lists in (left, right)
  )
  return {"places": len(row), "wrong": wrong + twice}


def claims(runs: dict[str, list[dict[str, Any]]], differ: list[dict[str, int]]) -> list[dict[str, Any]]:
  """What must hold of runs by system and round, and of how lists differ in each round."""
  temporary = max(run["temporary"] for run in runs[OURS])
  above = max(run["above"] for run in runs[OURS])
  times = ratio(runs)
  wrong, places = (sum(d[name] for d in differ) for name in ("wrong", "places"))
  return [
    {
      "name": "temporary memory", "passed": temporary < MOST,
      "text": f"a search takes {temporary / 1e6:,.0f} MB of temporary memory, limit {MOST / 1e6:,.0f}",
    },
    {
      "name": "resident memory", "passed": above < MOST,
      "text": f"while searching the process grows by {above / 1e6:,.0f} MB, limit {MOST / 1e6:,.0f}",
    },
    {
      "name": "exact", "passed": wrong == 0,
      "text": f"{wrong} items differ from faiss's but for ties and rounding ({places} places with "
      "other ids)",
    },
    {
      "name": "speed", "passed": times >= LEAST,
      "text": f"{times:.2f} times as many users a second as faiss's flat index, at least {LEAST:g}",
    },
  ]


def ratio(runs: dict[str, list[dict[str, Any]]]) -> float:
  """Median over rounds of seconds of faiss over ours in the same round."""
  pairs = zip(runs[OURS], runs[PEER], strict=True)
  return float(np.median([peer["seconds"] / own["seconds"] for own, peer in pairs]))


def main() -> None:
  """Runs both systems in turn, prints what comes of it and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--items", type=int, default=1_000_000)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--environments", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--dry", action="store_true", help="store nothing")
  parser.add_argument("--one", nargs=2, type=pathlib.Path, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    print(json.dumps(measure(*arguments.one)))
    return
  runs, differ = {OURS: [], PEER: []}, []
  with tempfile.TemporaryDirectory(prefix="retrieval_index_") as scratch:
    folder = pathlib.Path(scratch)
    write_vectors(folder, arguments.items)
    out = {OURS: folder / "own.npz", PEER: folder / "peer.npz"}
    users = np.load(folder / "users.npy")
    items = np.load(folder / "items.npy", mmap_mode="r")
    for _ in range(arguments.rounds):
      for name in runs:
        if name == OURS:
          found = _last_line([sys.executable, __file__, "--one", str(folder), str(out[name])])
        else:
          found = measure_peer(folder, out[name], arguments.environments)
        runs[name].append(found)
        print(f"{name:22} {USERS / found['seconds']:>9,.0f} users/s", flush=True)
      lists = [np.load(out[name])["ids"] for name in (OURS, PEER)]
      differ.append(disagreements(users, items, *lists))
  measured = claims(runs, differ)
  if arguments.dry:
    print("\n".join(claim["text"] for claim in measured))
    return
  from store import store

  median = lambda name, key: float(np.median([run[key] for run in runs[name]]))
  store({
    "name": "retrieval_index",
    "page": "performance",
    "title": "Exact search among items, beside faiss",
    "command": "python benchmarks/retrieval_index.py",
    "note": f"On {machine()}. The {K} largest inner products of {USERS:,} users with "
    f"{arguments.items:,} items, {WIDTH} numbers a vector. Medians of {arguments.rounds} rounds in "
    "which both take turns, each in a process of its own with all cores; a run is the median of "
    f"{REPEATS} searches after a first one, compilation not included. Memory is beyond vectors and "
    "index.",
    "tables": [{
      "caption": "Searching",
      "columns": ["system", "users/s", "temporary memory, MB", "growth of the process, MB"],
      "rows": [
        [OURS, f"{USERS / median(OURS, 'seconds'):,.0f}", f"{median(OURS, 'temporary') / 1e6:,.0f}",
         f"{median(OURS, 'above') / 1e6:,.0f}"],
        [PEER, f"{USERS / median(PEER, 'seconds'):,.0f}", "–", f"{median(PEER, 'above') / 1e6:,.0f}"],
      ],
    }],
    "claims": measured,
    "runs": runs,
    "differ": differ,
  }, faiss=runs[PEER][0]["version"])


if __name__ == "__main__":
  main()
