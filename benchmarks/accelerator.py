"""Training on the device at hand: examples a second, share of its peak, five seeds beside one.

    python benchmarks/accelerator.py [--only SASRec,DIN,PPD] [--seconds 5]

SASRec with all items in its softmax and with 512, DIN, and PPD's branch on the small host, as their
experiments have them. Operations are those of matrix products and convolutions in a traced step; bytes
are those that the compiler counts, left out where it does not know how often a loop repeats. The peaks
are measured in the same run: a large matrix product in the precision of the programs, and a copy. Five
seeds are trained in one program and compared with one. Writes docs/results/accelerator_KIND.json, where
the kind is that of the device.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arithmetic import operations
from machine import machine
from training import run_windows

from recjax.config import read_config_file
from recjax.programs.assemble import Parts, assemble
from recjax.programs.prove import override
from recjax.train.step import Updater

SEEDS, WINDOWS = 5, 5
SIZE = {"cpu": 2048}  # of the matrices of the peak; elsewhere LARGE
LARGE, COPIED = 8192, 1 << 28  # entries
BLOCK = 256  # positions of a round of the full softmax's loop, see losses/softmax.py
CASES = {
  "SASRec, all items": ("experiments/sasrec.py", ()),
  "SASRec, 512 items": (
    "experiments/sasrec.py", ("model.loss=sampled_softmax", "model.negatives=512")
  ),
  "DIN": ("experiments/din.py", ()),
  "PPD, small host": ("experiments/ppd.py:data=pictures", ()),
}


def seconds_of(function: Callable, *arguments: Any, repeats: int = 5) -> float:
  """Median time of a call that is compiled before."""
  compiled = jax.jit(function).lower(*arguments).compile()
  jax.block_until_ready(compiled(*arguments))
  found = []
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    found.append(time.perf_counter() - started)
  return statistics.median(found)


def peaks() -> dict[str, float]:
  """Operations and bytes a second that the first device reaches."""
  size = SIZE.get(jax.devices()[0].platform, LARGE)
  matrix = jnp.ones((size, size), jnp.float32)
  vector = jnp.ones((COPIED,), jnp.float32)
  return {
    "operations": 2.0 * size**3 / seconds_of(lambda a: a @ a, matrix),
    "bytes": 8.0 * COPIED / seconds_of(lambda a: a + 1, vector),
  }


def rounds_of(parts: Parts) -> float:
  """Rounds of the loop of a full softmax on an average batch."""
  rows = parts.view.train
  index = np.random.default_rng(0).integers(0, rows.count, min(rows.count, 4096))
  real = rows.gather(np, rows.columns, index)["hist_mask"].sum(1).mean()
  return float(np.ceil(real * parts.config.train.batch_size / BLOCK))


def work(parts: Parts) -> tuple[float, float | None]:
  """Operations of a step, and the bytes it moves where no loop hides them."""
  config, view = parts.config, parts.view
  updater = Updater(parts.learner, config, view.train.schema, parts.mesh, 100)
  state = jax.eval_shape(updater.create, np.uint32(0))
  batch = jax.eval_shape(lambda: view.train.schema.example(config.train.batch_size))
  traced = jax.jit(updater.update).trace(state, batch)
  loops = " while[" in str(traced.jaxpr)
  done = operations(traced.jaxpr.jaxpr, rounds_of(parts) if loops else 0.0)
  cost = traced.lower().compile().cost_analysis()
  return done, None if loops else float(cost["bytes accessed"])


def measure(reference: str, changes: tuple[str, ...], seconds: float) -> dict[str, Any]:
  """Speed with one seed and with several, and the work of a step."""
  config = override(read_config_file(reference), changes)
  found: dict[str, Any] = {}
  for seeds in (1, SEEDS):
    parts = assemble(override(config, (f"seeds={seeds}",)))
    run = lambda steps, windows, parts=parts: statistics.median(
      run_windows(parts.learner, parts.config, parts.view.train, steps, windows).seconds
    ) / steps
    steps = max(1, round(seconds / WINDOWS / run(3, 2)))
    found[f"seconds of {seeds}"] = run(steps, WINDOWS)
    if seeds == 1:
      found["operations"], found["bytes"] = work(parts)
      found["batch"] = config.train.batch_size
  return found


def table(found: dict[str, dict[str, Any]], peak: dict[str, float]) -> dict[str, Any]:
  """Rows of what was measured."""
  rows = []
  for name, one in found.items():
    seconds = one["seconds of 1"]
    share = lambda kind, one=one, seconds=seconds: (
      "" if one[kind] is None else f"{one[kind] / seconds / peak[kind]:.0%}"
    )
    rows.append([
      name, f"{one['batch']:,}", f"{one['batch'] / seconds:,.0f}", share("operations"), share("bytes"),
      f"{one[f'seconds of {SEEDS}'] / seconds:.2f}",
    ])
  return {
    "columns": ["program", "batch", "examples/s", "of peak operations", "of peak bytes",
                f"time of {SEEDS} seeds over one"],
    "rows": rows,
  }


def main() -> None:
  """Measures, prints and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--only", default=",".join(CASES), help="beginnings of names")
  parser.add_argument("--seconds", type=float, default=5.0, help="of each timing")
  parser.add_argument("--dry", action="store_true", help="print only")
  arguments = parser.parse_args()
  begins = tuple(arguments.only.split(","))
  peak = peaks()
  found = {
    name: measure(*case, arguments.seconds) for name, case in CASES.items() if name.startswith(begins)
  }
  shown = table(found, peak)
  print(*shown["rows"], sep="\n")
  if arguments.dry:
    return
  from store import store

  device = jax.devices()[0]
  kind = re.sub(r"[^a-z0-9]+", "_", device.device_kind.lower()).strip("_")
  where = machine() if device.platform == "cpu" else f"{device.device_kind}, host with {machine()}"
  worst = max(one[f"seconds of {SEEDS}"] / one["seconds of 1"] for one in found.values())
  store({
    "name": f"accelerator_{kind}", "page": "performance",
    "title": f"Training on {'a CPU' if kind == 'cpu' else device.device_kind}",
    "command": "python benchmarks/accelerator.py",
    "note": f"On {where}; medians of {WINDOWS} windows of steps. Peaks measured in the same run: "
    f"{peak['operations'] / 1e12:.2f} T operations and {peak['bytes'] / 1e9:.0f} GB a second.",
    "tables": [shown],
    "claims": [{
      "name": "seeds", "passed": worst <= 1.1 * SEEDS,
      "text": f"{SEEDS} seeds in one program take at most {worst:.2f} of the time of one, limit "
      f"{1.1 * SEEDS:.1f}",
    }],
    "peaks": peak, "runs": found,
  })


if __name__ == "__main__":
  main()
