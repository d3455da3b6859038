"""Exact search by faiss's flat index of inner products: seconds, what it found, and its peak memory.

Runs in the virtual environment of faiss, so it imports NumPy, faiss and the standard library only.
"""

import argparse
import importlib.metadata
import json
import pathlib
import time

import faiss
import numpy as np


def resident() -> dict[str, int]:
  """Bytes of this process now and at most so far."""
  lines = pathlib.Path("/proc/self/status").read_text().split("\n")
  named = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
  return {"now": 1024 * int(named["VmRSS"]), "most": 1024 * int(named["VmHWM"])}


def main() -> None:
  """Reads vectors, searches once without timing and `repeats` times with it, and writes the lists."""
  parser = argparse.ArgumentParser()
  for name in ("data", "out"):
    parser.add_argument(f"--{name}", required=True)
  for name in ("k", "repeats", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
  arguments = parser.parse_args()
  folder = pathlib.Path(arguments.data)
  faiss.omp_set_num_threads(arguments.threads)
  items, users = np.load(folder / "items.npy"), np.load(folder / "users.npy")
  index = faiss.IndexFlatIP(items.shape[1])
  index.add(items[1:])
  del items
  before = resident()["now"]
  scores, places = index.search(users, arguments.k)
  seconds = []
  for _ in range(arguments.repeats):
    started = time.perf_counter()
    scores, places = index.search(users, arguments.k)
    seconds.append(time.perf_counter() - started)
  np.savez(arguments.out, ids=places + 1, scores=scores)
  print(json.dumps({
    "seconds": float(np.median(seconds)), "above": resident()["most"] - before,
    "version": importlib.metadata.version("faiss-cpu"),
  }))


if __name__ == "__main__":
  main()
