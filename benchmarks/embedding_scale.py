"""Step time and memory of the row-sparse update as tables grow: cost follows the batch.

    python benchmarks/embedding_scale.py [--rows 100000,1000000,10000000,20000000]

Each size runs in a process of its own: tables are created in place, then a window of scanned steps
(batch 1024, length 50, width 32) is timed several times and the median kept. Peak memory is that of the
process above what it had before the tables, as a ratio to tables plus optimizer state. The sizes are
visited in turn several times, so that a noisy machine cannot favour one. Writes
docs/results/embedding_scale.json.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

BATCH, LENGTH, WIDTH, STEPS, REPEATS = 1024, 50, 32, 10, 5
RATIO_LIMIT, MEMORY_LIMIT = 1.25, 1.3


def measure(rows: int, optimizer: str) -> dict[str, float]:
  """Times steps and reads memory for one table size, in this process."""
  import jax
  import jax.numpy as jnp

  from recjax.config import Config, Mesh, Optimizer, Tables, Train
  from recjax.data.schema import Field, Schema
  from recjax.data.views.rows import Rows
  from recjax.models.learner import Learner, Objective
  from recjax.nn.tables import TableSpec, take
  from recjax.train.feeds import make_feed
  from recjax.train.mesh import make_mesh
  from recjax.train.step import Updater

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
    tables=Tables(training="rows", optimizer=optimizer), mesh=Mesh(),
  )
  mesh = make_mesh(config.mesh)
  updater = Updater(learner, config, schema, mesh, 10**6)
  abstract = jax.eval_shape(updater.create, np.uint32(0))
  shardings = updater.shardings(abstract, 1)
  size = 4 * rows * (WIDTH + (1 if optimizer == "adagrad" else 2 * WIDTH))
  create = jax.jit(updater.create, out_shardings=shardings).lower(np.uint32(0)).compile()
  feed = make_feed(config, view, updater.update, shardings, mesh, 10**6)
  before = resident_now()
  started = time.perf_counter()
  state = jax.block_until_ready(create(np.uint32(0)))
  create_seconds = time.perf_counter() - started
  state = jax.block_until_ready(feed.advance(state, 0, STEPS, True))
  times = []
  for i in range(1, REPEATS + 1):
    started = time.perf_counter()
    state = jax.block_until_ready(feed.advance(state, i * STEPS, (i + 1) * STEPS, True))
    times.append((time.perf_counter() - started) / STEPS)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  return {
    "milliseconds": 1e3 * float(np.median(times)), "bytes": size, "create_seconds": create_seconds,
    "memory_ratio": (peak - before) / size, "peak_bytes": peak,
  }


def resident_now() -> int:
  """Resident bytes of this process at this moment."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def main() -> None:
  """Runs every size in turn, prints a table and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--rows", default="100000,1000000,10000000,20000000")
  parser.add_argument("--optimizer", default="adagrad", choices=["adagrad", "lazy_adam"])
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    print(json.dumps(measure(arguments.one, arguments.optimizer)))
    return
  from recjax.programs.results import write_result
  from recjax.programs.runs import versions

  sizes = [int(r) for r in arguments.rows.split(",")]
  runs = {rows: [] for rows in sizes}
  for _ in range(arguments.rounds):
    for rows in sizes:
      command = [sys.executable, __file__, "--one", str(rows), "--optimizer", arguments.optimizer]
      output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
      runs[rows].append(json.loads(output.strip().split("\n")[-1]))
      print(f"{rows:>12,} rows  {runs[rows][-1]['milliseconds']:7.2f} ms/step  "
            f"memory x{runs[rows][-1]['memory_ratio']:.2f}", flush=True)
  table = {
    str(rows): {k: float(np.median([r[k] for r in found])) for k in found[0]}
    for rows, found in runs.items()
  }
  # Within a round the sizes meet the same machine; across rounds it may have been busier.
  ratio = float(np.median([
    last["milliseconds"] / first["milliseconds"]
    for first, last in zip(runs[sizes[0]], runs[sizes[-1]], strict=True)
  ]))
  # Small tables drown in the working memory of a step; the limit is about big ones.
  large = [t["memory_ratio"] for r, t in table.items() if int(r) >= 10_000_000]
  memory = max(large or [table[str(sizes[-1])]["memory_ratio"]])
  measured = [
    {"name": "flat", "passed": ratio <= RATIO_LIMIT,
     "text": f"step time of the largest over the smallest is {ratio:.2f}, limit {RATIO_LIMIT}"},
    {"name": "in place", "passed": memory <= MEMORY_LIMIT,
     "text": f"peak memory over tables and their state, from 10 M rows on, is {memory:.2f}, limit "
     f"{MEMORY_LIMIT}"},
  ]
  write_result({
    "name": "embedding_scale",
    "page": "performance",
    "title": "Row-sparse tables: cost follows the batch",
    "command": "python benchmarks/embedding_scale.py",
    "note": f"Batch {BATCH}, length {LENGTH}, width {WIDTH}, {arguments.optimizer}; medians of "
    f"{arguments.rounds} rounds in which the sizes take turns, each in a process of its own.",
    "tables": [{
      "columns": ["rows", "ms/step", "GiB of tables and state", "peak memory over that", "create s"],
      "rows": [
        [f"{int(r):,}", f"{t['milliseconds']:.1f}", f"{t['bytes'] / 2**30:.2f}",
         f"{t['memory_ratio']:.2f}", f"{t['create_seconds']:.1f}"]
        for r, t in table.items()
      ],
    }],
    "claims": measured,
    "passed": all(claim["passed"] for claim in measured),
    "runs": runs,
    "versions": versions(),
  })
  for claim in measured:
    print(f"{'holds' if claim['passed'] else 'FAILS'}: {claim['text']}")


if __name__ == "__main__":
  main()
