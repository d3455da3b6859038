"""The workload of benchmarks/embedding_scale.py in PyTorch: `nn.Embedding(sparse=True)`, SparseAdam.

Prints milliseconds a step and memory as one line of JSON. Runs in the peer's virtual environment, so it
imports NumPy, PyTorch and the standard library only.
"""

import argparse
import json
import pathlib
import resource
import time

import numpy as np
import torch


def resident_now() -> int:
  """Resident bytes of this process at this moment."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def main() -> None:
  """Makes the table, runs a first window of steps, then times the others."""
  parser = argparse.ArgumentParser()
  for name in ("rows", "batch", "length", "width", "steps", "repeats", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
  sizes = parser.parse_args()
  torch.set_num_threads(sizes.threads)
  torch.manual_seed(0)
  rng = np.random.default_rng(0)
  history, target = (
    torch.from_numpy(rng.integers(1, sizes.rows, (8192, sizes.length))) for _ in range(2)
  )
  before = resident_now()
  started = time.perf_counter()
  table = torch.nn.Embedding(sizes.rows, sizes.width, padding_idx=0, sparse=True)
  with torch.no_grad():
    table.weight.mul_(0.02)
  create_seconds = time.perf_counter() - started
  mix = torch.nn.Parameter(torch.eye(sizes.width))
  by_rows = torch.optim.SparseAdam(table.parameters(), lr=0.05)
  dense = torch.optim.Adam([mix], lr=1e-3)

  def step(index: torch.Tensor) -> None:
    state = torch.cumsum(table(history[index]), 1) @ mix
    score = (state * table(target[index])).sum(-1)
    loss = torch.nn.functional.softplus(-score).sum() / score.numel()
    by_rows.zero_grad()
    dense.zero_grad()
    loss.backward()
    by_rows.step()
    dense.step()

  indices = torch.from_numpy(
    rng.integers(0, 8192, ((sizes.repeats + 1) * sizes.steps, sizes.batch))
  )
  times = []
  for window in indices.split(sizes.steps):
    started = time.perf_counter()
    for index in window:
      step(index)
    times.append((time.perf_counter() - started) / sizes.steps)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  size = 4 * sizes.rows * 3 * sizes.width
  print(json.dumps({
    "milliseconds": 1e3 * float(np.median(times[1:])), "bytes": size,
    "create_seconds": create_seconds, "memory_ratio": (peak - before) / size, "peak_bytes": peak,
    "version": torch.__version__,
  }))


if __name__ == "__main__":
  main()
