"""A log of 200 million events: prepared, memory-mapped and streamed to SASRec.

    python benchmarks/streaming.py [--events 200000000] [--folder runs/streaming]

Writes a Parquet file of events in order of time, users and items drawn at random, and has it prepared
by the house. Then the streaming feed brings batches of 512 windows of 50: alone, with 0, 1 and 2
workers, and to SASRec with sampled softmax and tables by rows. A log of a tenth of the events, with as
many users and items, goes the same way, so that the memory of both can be compared. Each phase is a
process of its own, watched from outside. Needs 64 bytes of disk an event (13 GB) in `--folder`, which
is emptied at the end. Writes docs/results/streaming.json.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
from machine import machine
from memory import Peak

BATCH, LENGTH, ITEMS, EVENTS_A_USER = 512, 50, 1_000_000, 50
DISK_AN_EVENT = 64
CHUNK = 1 << 20
WAIT_LIMIT, MEMORY_LIMIT, SLACK = 0.05, 1.25, 64 << 20


def write_log(folder: pathlib.Path, events: int, users: int) -> dict[str, Any]:
  """A Parquet file of `events` events by `users` users, some items far more frequent than others."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  folder.mkdir(parents=True, exist_ok=True)
  schema = pa.schema([("user_id", pa.int32()), ("item_id", pa.int32()), ("timestamp", pa.int64())])
  rng = np.random.default_rng(0)
  started = time.perf_counter()
  with pq.ParquetWriter(folder / "interactions.parquet", schema) as writer:
    for first in range(0, events, CHUNK):
      size = min(CHUNK, events - first)
      user = rng.integers(1, users + 1, size, np.int32)
      item = (1 + ITEMS * rng.random(size) ** 3).astype(np.int32)
      when = 1_500_000_000 + (first + np.arange(size)) // 4
      writer.write_table(pa.table([user, item, when], schema))
  return {"seconds": time.perf_counter() - started, "disk": disk(folder)}


def experiment(folder: pathlib.Path, steps: int, workers: int):
  """The config of a run over the log in `folder`."""
  from recjax.config import experiment, resolve

  return resolve(experiment(
    "streaming",
    data={"name": f"{folder}/", "cache": str(folder / "cache")},
    view={"name": "next_item", "length": LENGTH},
    model={"name": "sasrec", "width": 64, "heads": 1, "loss": "sampled_softmax"},
    evaluate={"full_ranking": {}},
    train={"batch_size": BATCH, "steps": steps, "feed": "streaming", "workers": workers},
    tables={"training": "rows"},
  ))


def prepare(folder: pathlib.Path) -> dict[str, Any]:
  """Has the log prepared, as the first run would."""
  from recjax.data.load import load

  started = time.perf_counter()
  log = load(experiment(folder, 1, 0).data)
  seconds = time.perf_counter() - started
  return {"seconds": seconds, "events": log.num_events, "disk": disk(folder / "cache")}


def feed(folder: pathlib.Path, steps: int, workers: int, trained: bool) -> dict[str, Any]:
  """Runs `steps` steps after a start of a few: SASRec's, or ones that only take their batch.

  What a step costs is counted as the loop of training counts it.
  """
  import dataclasses

  import jax

  from recjax.programs.assemble import assemble
  from recjax.train.feeds import make_feed
  from recjax.train.progress import Progress, Stopwatch
  from recjax.train.step import Updater

  started = time.perf_counter()
  config = experiment(folder, steps + 20, workers)
  parts = assemble(config)
  rows = parts.view.train
  opened = time.perf_counter() - started
  updater = Updater(parts.learner, config, rows.schema, parts.mesh, config.train.steps)
  shardings = updater.shardings(jax.eval_shape(updater.create, np.uint32(0)), 1)
  state = jax.jit(updater.create, out_shardings=shardings)(np.uint32(0))

  def taken(state, batch):
    total = sum(x.sum().astype(np.float32) for x in batch.values())
    window = jax.tree.map(lambda w: w + total, state.window)
    return dataclasses.replace(state, step=state.step + 1, window=window)

  update = updater.update if trained else taken
  made = make_feed(config, rows, update, shardings, parts.mesh, config.train.steps)
  advance = lambda state, *span: jax.block_until_ready(made.advance(state, *span, True))
  state = advance(state, 0, 20)
  watch = Stopwatch(Progress.create(1), made)
  watch.lap(BATCH)
  advance(state, 20, 20 + steps)
  watch.count(steps)
  speed = watch.lap(BATCH)
  made.close()
  return {**speed, "open_seconds": opened, "rows": rows.count}


PHASES = {"write": write_log, "prepare": prepare, "feed": feed}


def disk(folder: pathlib.Path) -> int:
  """Bytes of all files below a folder."""
  return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def apart(phase: str, *arguments: Any) -> dict[str, Any]:
  """What a phase returns from a process of its own, and the most that this held."""
  command = [sys.executable, __file__, "--phase", json.dumps([phase, *map(_plain, arguments)])]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  try:
    with Peak(process.pid) as peak:
      output, _ = process.communicate()
  finally:
    process.kill()
  if process.returncode:
    raise SystemExit(f"The phase {phase} ended with {process.returncode}.")
  return {**json.loads(output.strip().split("\n")[-1]), **peak.most}


def _plain(value: Any) -> Any:
  return str(value) if isinstance(value, pathlib.Path) else value


def measure(folder: pathlib.Path, events: int, users: int, steps: int) -> dict[str, Any]:
  """All phases over one log."""
  say = lambda name, found: print(
    f"{events:>12,} events  {name:24}" + "".join(
      f"  {key} {value:,.3f}" if isinstance(value, float) else f"  {key} {value:,}"
      for key, value in found.items()
    ), flush=True,
  )
  found: dict[str, Any] = {"events": events, "users": users}
  phases = {"write": ("write", folder, events, users), "prepare": ("prepare", folder)}
  for workers in (0, 1, 2):
    phases[f"feed alone, {workers} workers"] = ("feed", folder, 10 * steps, workers, False)
    phases[f"SASRec, {workers} workers"] = ("feed", folder, steps, workers, True)
  for name, phase in phases.items():
    found[name] = apart(*phase)
    say(name, found[name])
  return found


def claims(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """What must hold of the measurements of a small and a large log."""
  small, large = runs
  waits = {name: p["data_wait"] for name, p in large.items() if name.startswith("SASRec")}
  phases = [name for name in large if isinstance(large[name], dict) and name != "write"]
  grown = {n: (large[n]["own"] - SLACK) / small[n]["own"] for n in phases}
  most = max(grown, key=grown.get)
  return [
    {"name": "fed in time", "passed": max(waits.values()) <= WAIT_LIMIT,
     "text": f"SASRec waits for data {max(waits.values()):.2%} of the time at most, limit "
     f"{WAIT_LIMIT:.0%}"},
    {"name": "memory is bounded", "passed": grown[most] <= MEMORY_LIMIT,
     "text": f"with {large['events'] / small['events']:.0f} times the events, memory that no file "
     f"backs is at most {grown[most]:.2f} of that before ({most}), limit {MEMORY_LIMIT} and 64 MiB"},
  ]


def main() -> None:
  """Runs both sizes, prints what comes of it and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--events", type=int, default=200_000_000)
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/streaming"))
  parser.add_argument("--phase", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.phase:
    name, folder, *rest = json.loads(arguments.phase)
    print(json.dumps(PHASES[name](pathlib.Path(folder), *rest)))
    return
  from store import store

  arguments.folder.mkdir(parents=True, exist_ok=True)
  need, free = DISK_AN_EVENT * arguments.events, shutil.disk_usage(arguments.folder).free
  if free < need:
    raise SystemExit(
      f"{arguments.events:,} events need {need / 1e9:.0f} GB in {arguments.folder}, which has "
      f"{free / 1e9:.0f} GB free: take another --folder or fewer --events."
    )
  runs = []
  for events in (arguments.events // 10, arguments.events):
    folder = arguments.folder.resolve() / str(events)
    shutil.rmtree(folder, ignore_errors=True)
    try:
      runs.append(measure(folder, events, arguments.events // EVENTS_A_USER, arguments.steps))
    finally:
      shutil.rmtree(folder, ignore_errors=True)
  held = claims(runs)
  mebibytes = lambda phase, *what: [f"{phase[w] / 2**20:,.0f}" for w in what]
  memory = ("own", "mapped")
  store({
    "name": "streaming",
    "page": "performance",
    "title": "Streaming: a log that need not fit in memory",
    "command": "python benchmarks/streaming.py",
    "note": f"On {machine()}. {runs[1]['users']:,} users, {ITEMS:,} items; batches of {BATCH} windows "
    f"of {LENGTH}. Memory is the most of the process and its workers together, pages of a file that "
    "several map counted once; the system takes pages of files back when it needs them.",
    "tables": [
      {"caption": "Preparation",
       "columns": ["events", "events/s", "GB of Parquet", "GB prepared", "MiB of own memory",
                   "MiB of mapped files"],
       "rows": [
         [f"{r['events']:,}", f"{r['events'] / r['prepare']['seconds']:,.0f}",
          f"{r['write']['disk'] / 1e9:.2f}", f"{r['prepare']['disk'] / 1e9:.2f}",
          *mebibytes(r["prepare"], *memory)] for r in runs
       ]},
      {"caption": "Feed",
       "columns": ["events", "workers", "batches/s alone", "steps/s of SASRec", "waiting for data",
                   "MiB of own memory", "MiB of mapped files", "s to open"],
       "rows": [
         [f"{r['events']:,}", workers, f"{alone['steps_per_second']:,.0f}",
          f"{trained['steps_per_second']:.2f}", f"{trained['data_wait']:.2%}",
          *mebibytes(trained, *memory), f"{trained['open_seconds']:.1f}"]
         for r in runs for workers in (0, 1, 2)
         for alone, trained in [(r[f"feed alone, {workers} workers"], r[f"SASRec, {workers} workers"])]
       ]},
    ],
    "claims": held,
    "runs": runs,
  })


if __name__ == "__main__":
  main()
