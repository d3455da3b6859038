"""Step time and memory of the row-sparse update as tables grow, beside PyTorch's SparseAdam.

    python benchmarks/embedding_scale.py [--rows 100000,1000000,10000000,20000000,100000000]

Each size runs in a process of its own: tables are created in place, then a window of scanned steps
(batch 1024, length 50, width 32) is timed several times and the median kept. Peak memory is that of the
process above what it had before the tables, as a ratio to tables plus optimizer state. Sizes and
systems are visited in turn several times, so that a noisy machine cannot favour one; what would take
more than SHARE of the machine's memory is left out. PyTorch is installed into `--peers`, a folder of
virtual environments. Writes docs/results/embedding_scale.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from machine import machine
from peers.environment import FOLDER, python_of

BATCH, LENGTH, WIDTH, STEPS, REPEATS = 1024, 50, 32, 10, 5
LARGE = 10**9  # bytes of tables and their state
RATIO_LIMIT, MEMORY_LIMIT, PEER_LIMIT = 1.25, 1.3, 1.0
SHARE = 0.6  # of the machine's memory, for tables and their state
# Optimizer, and what a row of a table takes in bytes with its state.
SYSTEMS = {
  "recjax, Adagrad": ("adagrad", "float32", 4 * WIDTH + 4),
  "recjax, Adagrad, bfloat16": ("adagrad", "bfloat16", 2 * WIDTH + 4),
  "recjax, lazy Adam": ("lazy_adam", "float32", 12 * WIDTH),
  "PyTorch, SparseAdam": ("SparseAdam", "float32", 12 * WIDTH),
}
# Of the two, the one that computes what SparseAdam does.
COUNTERPART, PEER = "recjax, lazy Adam", "PyTorch, SparseAdam"


def fits(system: str, rows: int) -> bool:
  """Whether tables of so many rows leave a system enough memory to work."""
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return rows * SYSTEMS[system][2] <= SHARE * total


def measure(rows: int, system: str) -> dict[str, float]:
  """Times steps and reads memory for one table size, in this process."""
  import jax
  import jax.numpy as jnp
  from training import peak, run_windows

  from recjax.config import Config, Mesh, Optimizer, Tables, Train
  from recjax.data.schema import Field, Schema
  from recjax.data.views.rows import Rows
  from recjax.models.learner import Learner, Objective
  from recjax.nn.tables import TableSpec, take

  optimizer, dtype, row_bytes = SYSTEMS[system]
  fields = {
    "hist_item": Field("ids", (LENGTH,), "item"), "target_item": Field("ids", (LENGTH,), "item")
  }
  schema = Schema(fields, {"item": rows})
  rng = np.random.default_rng(0)
  columns = {n: rng.integers(1, rows, (8192, LENGTH)).astype(np.int32) for n in fields}
  gather = lambda xp, columns, index: {n: c[index] for n, c in columns.items()}
  view = Rows(8192, columns, gather, schema)

  def loss(variables, batch, key):
    table = variables["tables"]["item"]
    history = jnp.cumsum(take(table, batch["hist_item"]), 1) @ variables["params"]["mix"]
    score = (history * take(table, batch["target_item"])).sum(-1)
    return Objective(jax.nn.softplus(-score).sum(), jnp.float32(score.size))

  learner = Learner(
    schema, {"item": TableSpec("item", WIDTH)},
    lambda key, tables, batch: {"params": {"mix": jnp.eye(WIDTH)}}, loss, {},
  )
  config = Config(
    name="scale", data=None, view=None, model=None, evaluate={},
    train=Train(batch_size=BATCH, steps=10**6, feed="resident"), optimizer=Optimizer(),
    tables=Tables(training="rows", optimizer=optimizer, dtype=dtype), mesh=Mesh(),
  )
  size = rows * row_bytes
  windows = run_windows(learner, config, view, STEPS, REPEATS)
  return {
    "milliseconds": 1e3 * float(np.median(windows.seconds)) / STEPS, "bytes": size,
    "create_seconds": windows.create_seconds, "memory_ratio": (peak() - windows.resident_before) / size,
    "peak_bytes": peak(),
  }


def measure_torch(rows: int, peers: pathlib.Path) -> dict[str, float]:
  """The same of PyTorch, with as many threads as there are cores."""
  sizes = {
    "rows": rows, "batch": BATCH, "length": LENGTH, "width": WIDTH, "steps": STEPS,
    "repeats": REPEATS, "threads": len(os.sched_getaffinity(0)),
  }
  program = str(pathlib.Path(__file__).parent / "peers" / "torch_embedding.py")
  flags = [f"--{name}={value}" for name, value in sizes.items()]
  return _last_line([python_of("torch", peers), program, *flags])


def _last_line(command: list[str]) -> dict[str, float]:
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
  return json.loads(output.strip().split("\n")[-1])


def claims(runs: dict[str, dict[int, list[dict[str, float]]]]) -> list[dict[str, object]]:
  """What must hold of runs by system, rows and round."""
  # Within a round all meet the same machine; across rounds it may have been busier.
  ratio = lambda above, below: float(np.median([
    a["milliseconds"] / b["milliseconds"] for a, b in zip(above, below, strict=True)
  ]))
  own = {name: by_rows for name, by_rows in runs.items() if name != PEER}
  flat = max(ratio(by_rows[max(by_rows)], by_rows[min(by_rows)]) for by_rows in own.values())
  # Small tables drown in the working memory of a step; the limit is about big ones.
  large = lambda by_rows: [f for f in by_rows.values() if f[0]["bytes"] >= LARGE]
  memory = max(
    float(np.median([r["memory_ratio"] for r in found]))
    for by_rows in own.values() for found in large(by_rows) or [by_rows[max(by_rows)]]
  )
  slower = max(ratio(runs[COUNTERPART][rows], runs[PEER][rows]) for rows in runs[PEER])
  return [
    {"name": "flat", "passed": flat <= RATIO_LIMIT,
     "text": f"step time of the largest over the smallest is {flat:.2f}, limit {RATIO_LIMIT}"},
    {"name": "in place", "passed": memory <= MEMORY_LIMIT,
     "text": f"peak memory over tables and their state, from 1 GB on, is {memory:.2f}, limit "
     f"{MEMORY_LIMIT}"},
    {"name": "no slower than PyTorch", "passed": slower <= PEER_LIMIT,
     "text": f"lazy Adam takes at most {slower:.2f} of the time of SparseAdam at any size, limit "
     f"{PEER_LIMIT}"},
  ]


def main() -> None:
  """Runs every size and system in turn, prints a table and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--rows", default="100000,1000000,10000000,20000000,100000000")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--peers", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    print(json.dumps(measure(int(arguments.one[0]), arguments.one[1])))
    return
  from store import store

  sizes = [int(r) for r in arguments.rows.split(",")]
  runs = {name: {rows: [] for rows in sizes if fits(name, rows)} for name in SYSTEMS}
  for _ in range(arguments.rounds):
    for rows in sizes:
      for name in runs:
        if rows not in runs[name]:
          continue
        if name == PEER:
          found = measure_torch(rows, arguments.peers)
        else:
          command = [sys.executable, __file__, "--one", str(rows), name]
          found = _last_line(command)
        runs[name][rows].append(found)
        print(f"{rows:>12,} rows  {name:25}  {found['milliseconds']:7.2f} ms/step  "
              f"memory x{found['memory_ratio']:.2f}", flush=True)
  middle = lambda found, key: float(np.median([r[key] for r in found]))
  measured = claims(runs)
  store({
    "name": "embedding_scale",
    "page": "performance",
    "title": "Row-sparse tables: cost follows the batch",
    "command": "python benchmarks/embedding_scale.py",
    "note": f"On {machine()}. Batch {BATCH}, length {LENGTH}, width {WIDTH}, float32 where nothing "
    f"else is said; medians of {arguments.rounds} rounds in which sizes and systems take turns, each "
    f"in a process of its own, with all cores. What takes more than {SHARE:.0%} of the memory is left "
    "out. PyTorch's optimizer state is memory that the system hands out only as rows of it are "
    "touched.",
    "tables": [{
      "columns": ["rows", "system", "ms/step", "GiB of tables and state", "peak memory over that",
                  "create s"],
      "rows": [
        [f"{rows:,}", name, f"{middle(found, 'milliseconds'):.1f}",
         f"{middle(found, 'bytes') / 2**30:.2f}", f"{middle(found, 'memory_ratio'):.2f}",
         f"{middle(found, 'create_seconds'):.1f}"]
        for rows in sizes for name, by_rows in runs.items() if rows in by_rows
        for found in (by_rows[rows],)
      ],
    }],
    "claims": measured,
    "runs": runs,
  }, torch=runs[PEER][sizes[0]][0]["version"])


if __name__ == "__main__":
  main()
