"""DIN and DIEN beside FuxiCTR 2.3: training samples a second on the same data, widths and batches.

    python benchmarks/ctr_vs_peers.py [--items 10000,1000000] [--environments .venv-peers]

Histories of 50 items with a category each, one candidate, batch 1024, vectors of width 16 and 16, tower
of 64 and 32, ReLU, no norms, Adam at 1e-3, gradients clipped at norm 10. Both read the same made-up
rows. FuxiCTR's models and loader are those of its LongCTR zoo; it is timed with its loader, as users
run it, and without, on batches that are ready. recjax trains tables by rows (lazy Adam) and, as FuxiCTR
does, densely. Systems and sizes take turns, each in a process of its own with all cores; ratios are of
runs of one round. Writes docs/results/ctr_vs_peers.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from machine import machine
from peers.environment import FOLDER, python_of

BATCH, LENGTH, WIDTH, CATEGORIES, USERS = 1024, 50, 16, 500, 8192
UNIT, TOWER, CLIP, RATE = (32, 16), (64, 32), 10.0, 1e-3
STEPS, REPEATS = 10, 5  # of a window, and windows after the first
LEAST, AT = 3.0, 1_000_000  # times as fast, at so many items
CLOSE = 0.02  # of the log losses of the first window
DEVIATION = 1e-4  # of the initial vectors, FuxiCTR's
OURS, DENSE = "recjax, tables by rows", "recjax, dense tables"
READY, LOADED = "FuxiCTR, batches ready", "FuxiCTR, its loader"
SYSTEMS = (OURS, DENSE, READY, LOADED)
MODELS = ("DIN", "DIEN")


def make_rows(items: int, rows: int) -> dict[str, np.ndarray]:
  """Histories [users, LENGTH], and rows: user, candidate and label [rows].

  Item i has category 1 + i % CATEGORIES. A history is of eight categories, and a click is likely where
  the candidate's is among them.
  """
  rng = np.random.default_rng(0)
  own = rng.integers(0, CATEGORIES, (USERS, 8))
  picked = np.take_along_axis(own, rng.integers(0, 8, (USERS, LENGTH)), 1)
  history = picked + CATEGORIES * rng.integers(0, (items - 1) // CATEGORIES, (USERS, LENGTH)) + 1
  user = rng.integers(0, USERS, rows)
  category = np.where(
    rng.random(rows) < 0.5, own[user, rng.integers(0, 8, rows)], rng.integers(0, CATEGORIES, rows)
  )
  item = category + CATEGORIES * rng.integers(0, (items - 1) // CATEGORIES, rows) + 1
  liked = (own[user] == category[:, None]).any(1)
  label = rng.random(rows) < np.where(liked, 0.8, 0.2)
  return {"history": history, "user": user, "item": item, "label": label.astype(np.float32)}


def category_of(item: np.ndarray) -> np.ndarray:
  """Category of items, 0 for padding."""
  return np.where(item > 0, 1 + (item - 1) % CATEGORIES, 0)


def measure(model: str, items: int, training: str) -> dict[str, Any]:
  """Samples a second and first loss of a model here, in this process."""
  from training import run_windows

  from recjax.config import Config, Mesh, Optimizer, Tables, Train
  from recjax.data.click_table import ClickTable
  from recjax.data.views import table
  from recjax.models.ranking import dien, din

  made = make_rows(items, (1 + REPEATS) * STEPS * BATCH)
  history, count = made["history"][made["user"]], len(made["item"])
  int32 = lambda values: values.astype(np.int32)
  columns = {
    "user_id": int32(made["user"] + 1), "group_id": int32(made["user"] + 1),
    "hist_item": int32(history), "hist_cat": int32(category_of(history)),
    "hist_mask": np.ones(history.shape, bool), "target_item": int32(made["item"]),
    "target_cat": int32(category_of(made["item"])), "label": made["label"],
    "weight": np.ones(count, np.float32),
  }
  sizes = {"user": USERS + 1, "item": items, "category": CATEGORIES + 1}
  parts = dict.fromkeys(("train", "validation", "test"), columns)
  view = table.build(table.Config(), ClickTable("made up", parts, sizes, {}, {}), None)
  same = {
    "item_width": WIDTH, "category_width": WIDTH, "stddev": DEVIATION, "hidden": TOWER,
    "activation": "relu", "norm": "none",
  }
  learner = {
    "DIN": lambda: din.build(
      din.Config(**same, unit_hidden=UNIT, unit_activation="relu", u_times_v=False), view.train.schema
    ),
    "DIEN": lambda: dien.build(
      dien.Config(**same, auxiliary_weight=0.0, state_times_v=False), view.train.schema
    ),
  }[model]()
  config = Config(
    name="ctr_vs_peers", data=None, view=None, model=None, evaluate={},
    train=Train(batch_size=BATCH, steps=10**6, feed="resident"),
    optimizer=Optimizer(learning_rate=RATE, clip_norm=CLIP),
    tables=Tables(training=training, optimizer="lazy_adam", learning_rate=RATE), mesh=Mesh(),
  )
  windows = run_windows(learner, config, view.train, STEPS, REPEATS)
  samples = STEPS * BATCH / float(np.median(windows.seconds))
  return {"samples": samples, "first_loss": windows.losses[0], "last_loss": windows.losses[-1]}


def write_files(folder: pathlib.Path, items: int) -> None:
  """The same rows as FuxiCTR's loader reads them: rows, histories of users, categories of items."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  made = make_rows(items, (1 + REPEATS) * STEPS * BATCH)
  count = len(made["item"])
  pq.write_table(pa.table({
    "user_index": made["user"], "item_index": made["item"], "seq_len": np.full(count, LENGTH),
    "is_click": made["label"].astype(np.int64),
  }), folder / "train.parquet")
  histories = pa.FixedSizeListArray.from_arrays(pa.array(made["history"].ravel()), LENGTH)
  histories = histories.cast(pa.list_(pa.int64()))
  pq.write_table(
    pa.table({"user_index": np.arange(USERS), "full_item_seq": histories}),
    folder / "user_info.parquet",
  )
  item = np.arange(items)
  pq.write_table(
    pa.table({"item_index": item, "item_id": item, "cate_id": category_of(item)}),
    folder / "item_info.parquet",
  )


def measure_peer(
  model: str, items: int, loader: bool, folder: pathlib.Path, environments: pathlib.Path
) -> dict[str, Any]:
  """The same of FuxiCTR, with as many threads as there are cores."""
  if not (folder / "item_info.parquet").exists():
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, items)
  flags = {
    "model": model, "data": folder, "items": items, "categories": CATEGORIES + 1, "batch": BATCH,
    "length": LENGTH, "width": WIDTH, "unit": ",".join(map(str, UNIT)),
    "tower": ",".join(map(str, TOWER)), "clip": CLIP, "rate": RATE, "steps": STEPS,
    "repeats": REPEATS, "loader": int(loader), "threads": len(os.sched_getaffinity(0)),
  }
  program = str(pathlib.Path(__file__).parent / "peers" / "fuxictr_ctr.py")
  command = [python_of("fuxictr", environments), program, *(f"--{k}={v}" for k, v in flags.items())]
  return _last_line(command)


def _last_line(command: list[str]) -> dict[str, Any]:
  environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
  return json.loads(output.stdout.strip().split("\n")[-1])


def ratio(found: dict[str, list[dict[str, Any]]], own: str, peer: str) -> float:
  """Median over rounds of samples a second of `own` over those of `peer` in the same round."""
  pairs = zip(found[own], found[peer], strict=True)
  return float(np.median([a["samples"] / b["samples"] for a, b in pairs]))


def claims(runs: dict[str, dict[int, dict[str, list[dict[str, Any]]]]]) -> list[dict[str, Any]]:
  """What must hold of runs by model, items, system and round."""
  stated = []
  for model, by_items in runs.items():
    items = max(by_items) if AT not in by_items else AT
    times, ready = (ratio(by_items[items], OURS, peer) for peer in (LOADED, READY))
    stated.append({
      "name": f"{model} is faster", "passed": times >= LEAST,
      "text": f"{model} trains {times:.1f} times as many samples a second as FuxiCTR's at {items:,} "
      f"items, at least {LEAST:g}; {ready:.1f} times where its batches are ready",
    })
  apart = 0.0
  for by_items in runs.values():
    firsts = [run["first_loss"] for own in by_items.values() for found in own.values() for run in found]
    apart = max(apart, max(firsts) - min(firsts))
  stated.append({
    "name": "same task", "passed": apart <= CLOSE,
    "text": f"log losses of the first {STEPS} steps differ by {apart:.3f} at most, limit {CLOSE}",
  })
  return stated


def main() -> None:
  """Runs every model, size and system in turn, prints what comes of it and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--items", default="10000,1000000")
  parser.add_argument("--models", default=",".join(MODELS))
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--environments", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--dry", action="store_true", help="store nothing")
  parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    print(json.dumps(measure(arguments.one[0], int(arguments.one[1]), arguments.one[2])))
    return
  sizes, models = [int(n) for n in arguments.items.split(",")], arguments.models.split(",")
  runs = {m: {n: {name: [] for name in SYSTEMS} for n in sizes} for m in models}
  with tempfile.TemporaryDirectory(prefix="ctr_vs_peers_") as scratch:
    for _ in range(arguments.rounds):
      for model in models:
        for items in sizes:
          for name in SYSTEMS:
            if name in (OURS, DENSE):
              training = "rows" if name == OURS else "dense"
              found = _last_line([sys.executable, __file__, "--one", model, str(items), training])
            else:
              folder = pathlib.Path(scratch) / str(items)
              found = measure_peer(model, items, name == LOADED, folder, arguments.environments)
            runs[model][items][name].append(found)
            print(f"{model:5} {items:>9,} items  {name:24} {found['samples']:>9,.0f} samples/s  "
                  f"loss {found['first_loss']:.4f} to {found['last_loss']:.4f}", flush=True)
  measured = claims(runs)
  if arguments.dry:
    print("\n".join(claim["text"] for claim in measured))
    return
  from store import store

  median = lambda found, key: float(np.median([run[key] for run in found]))
  store({
    "name": "ctr_vs_peers",
    "page": "performance",
    "title": "Click models beside FuxiCTR: training",
    "command": "python benchmarks/ctr_vs_peers.py",
    "note": f"On {machine()}. Histories of {LENGTH}, batch {BATCH}, widths {WIDTH} and {WIDTH}, unit "
    f"{UNIT}, tower {TOWER}, ReLU, Adam, gradients clipped; DIEN without its auxiliary loss, which "
    f"FuxiCTR's does not have. Medians of {arguments.rounds} rounds in which systems and sizes take "
    "turns, each in a process of its own with all cores; times as fast is the median of the ratios of "
    "each round. By rows, Adam moves the rows of a batch; densely, as in FuxiCTR, all of them. Losses "
    f"are means of {STEPS} steps, the first and the last that were run.",
    "tables": [{
      "caption": f"{model}: samples a second",
      "columns": ["items", "system", "samples/s", "recjax by rows is times as fast", "first log loss",
                  "last"],
      "rows": [
        [f"{items:,}", name, f"{median(found[name], 'samples'):,.0f}",
         f"{ratio(found, OURS, name):.2f}", f"{median(found[name], 'first_loss'):.4f}",
         f"{median(found[name], 'last_loss'):.4f}"]
        for items, found in by_items.items() for name in SYSTEMS
      ],
    } for model, by_items in runs.items()],
    "claims": measured,
    "runs": runs,
  }, fuxictr=runs[models[0]][sizes[0]][READY][0]["version"],
     torch=runs[models[0]][sizes[0]][READY][0]["torch"])


if __name__ == "__main__":
  main()
