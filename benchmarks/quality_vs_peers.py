"""SASRec of recjax and of RecTools with the same settings: the same quality, but for the seed.

    python benchmarks/quality_vs_peers.py [--data movielens_100k] [--seeds 5]

Both have the same events and split, histories of 200, width 64, two blocks of one head in the layout of
the paper's authors, dropout .2, cross-entropy over all items, Adam (1e-3, betas .9 and .98), batches of
128 rows and as many steps: EPOCHS of RecTools'. After every LOOK of them both are looked at, and of
every seed the look with the best validation NDCG@10 gives its lists of the test users, who know the
validation answer by then. One metric code scores both. Initial values, the order of batches and masks
of padding are each one's own, and recjax also trains on what a user did more than 200 events ago.

The rule, fixed before any run: with n seeds of each, d the difference of the mean test NDCG@10 and
SE = sqrt(s1^2 / n + s2^2 / n), quality is the same where |d| <= 2 SE, and no worse where d >= -2 SE.
HR@10 is reported. RecTools and RecBole have no ComiRec; RecBole's SASRec learns from other rows, so it
stands in time_to_quality.py alone. Writes docs/results/quality_vs_peers.json.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from machine import machine
from peers.environment import FOLDER, REQUIREMENTS
from sasrec_peers import METRICS, ROOT, answers_of, export, progress_of, run_sasrec, values_of

PEER = "rectools"
WIDTH, LAYERS, HEADS, LENGTH = 64, 2, 1, 200
DROPOUT, RATE, BATCH = 0.2, 1e-3, 128
EPOCHS, LOOK = 200, 5  # of RecTools: all of them, and between two looks


def settings(steps: int, look: int, seeds: int) -> list[str]:
  """What recjax's experiment on SASRec is given."""
  return [
    f"view.length={LENGTH}", f"model.width={WIDTH}", f"model.layers={LAYERS}", f"model.heads={HEADS}",
    f"model.dropout={DROPOUT}", "model.norm=original", f"optimizer.learning_rate={RATE}",
    "optimizer.b2=0.98", f"train.batch_size={BATCH}", f"train.steps={steps}",
    f"train.evaluate_every={look}", f"train.log_every={look}", "train.patience=0", f"seeds={seeds}",
  ]


def steps_of(exported: pathlib.Path, epochs: int) -> int:
  """Steps of so many epochs of RecTools, whose rows are users of two events or more."""
  with np.load(exported) as events:
    _, count = np.unique(events["train_user"], return_counts=True)
  return epochs * math.ceil(int((count > 1).sum()) / BATCH)


def chosen(folder: pathlib.Path, exported: pathlib.Path) -> dict[str, float]:
  """Test values of a peer's run at the look with the best validation NDCG@10, the first of equals."""
  validation, test = (answers_of(exported, part) for part in ("validation", "test"))
  looks = progress_of(folder)
  value = lambda fact: values_of(folder / f"lists_{fact['number']:03}.npz", validation)["ndcg@10"]
  best = max(looks, key=value)
  return values_of(folder / f"test_{best['number']:03}.npz", test) | {"epochs": best["epochs"]}


def run_peer(exported: pathlib.Path, out: pathlib.Path, seed: int, options) -> dict[str, float]:
  """One seed of the peer, trained to the end."""
  run_sasrec(
    PEER, exported, out, options.environments, seconds=1e9, length=LENGTH, width=WIDTH, layers=LAYERS,
    heads=HEADS, epochs=LOOK, last=options.epochs, test=1, dropout=DROPOUT, rate=RATE, batch=BATCH,
    seed=seed,
  )
  return chosen(out, exported)


def run_recjax(data: str, exported: pathlib.Path, workdir: pathlib.Path, options) -> list[dict]:
  """Test values of every seed, trained in one program."""
  steps, look = (steps_of(exported, epochs) for epochs in (options.epochs, LOOK))
  given = settings(steps, look, options.seeds)
  command = [
    sys.executable, "-m", "recjax.main", f"--config=experiments/sasrec.py:data={data}",
    f"--workdir={workdir}", *(f"--config.{s}" for s in given),
  ]
  subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ))
  metrics = json.loads((workdir / "report.json").read_text())["test"]["metrics"]
  return [{m: metrics[m]["values"][seed] for m in METRICS} for seed in range(options.seeds)]


def verdict(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
  """Means, their difference and its standard error; two seeds of each at least."""
  ours, theirs = (np.asarray(values, np.float64) for values in (ours, theirs))
  error = math.sqrt(sum(values.var(ddof=1) / len(values) for values in (ours, theirs)))
  difference = float(ours.mean() - theirs.mean())
  return {
    "recjax": float(ours.mean()), PEER: float(theirs.mean()), "difference": difference, "error": error,
  }


def claims(found: dict[str, float]) -> list[dict[str, Any]]:
  """What the rule says of the test NDCG@10."""
  text = (
    f"test NDCG@10 of recjax {found['recjax']:.4f}, of RecTools {found[PEER]:.4f}: difference "
    f"{found['difference']:+.4f}, two standard errors {2 * found['error']:.4f}"
  )
  return [
    {"name": "no worse", "passed": found["difference"] >= -2 * found["error"],
     "text": f"no worse than RecTools: {text}"},
    {"name": "same", "passed": abs(found["difference"]) <= 2 * found["error"],
     "text": "and the same but for the seed"},
  ]


def compare(data: str, options) -> dict[str, Any]:
  """The result for a data set."""
  scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"same_{data}_", dir=options.scratch))
  exported = scratch / "events.npz"
  export(data, exported)
  theirs = [run_peer(exported, scratch / f"{PEER}_{s}", s, options) for s in range(options.seeds)]
  ours = run_recjax(data, exported, scratch / "recjax", options)
  runs, rows = {"recjax": ours, PEER: theirs}, []
  for metric in METRICS:
    values = {name: [run[metric] for run in own] for name, own in runs.items()}
    found = verdict(*values.values())
    each = {name: ", ".join(f"{v:.4f}" for v in own) for name, own in values.items()}
    rows += [[metric, name, f"{found[name]:.4f}", each[name]] for name in values]
    rows.append([metric, "difference", f"{found['difference']:+.4f}", f"SE {found['error']:.4f}"])
    if metric == METRICS[0]:
      stated = claims(found)
  return {
    "name": "quality_vs_peers", "page": "performance",
    "title": f"Quality beside a peer: SASRec on {data}",
    "command": f"python benchmarks/quality_vs_peers.py --data {data} --seeds {options.seeds}",
    "note": f"Leave-one-out, test part, full ranking, seen items left out; width {WIDTH}, {LAYERS} "
    f"blocks of {HEADS} head, histories of {LENGTH}, dropout {DROPOUT}, Adam at {RATE}, batches of "
    f"{BATCH}, {options.epochs} epochs of RecTools and as many steps of recjax, the look with the best "
    "validation NDCG@10 of every seed. The same means that means differ by two standard errors at "
    "most; that was fixed before any run.",
    "tables": [{
      "caption": f"{data}, {options.seeds} seeds, {machine()}",
      "columns": ["metric", "", "mean", "each seed"], "rows": rows,
    }],
    "claims": stated, "runs": runs,
  }


def main() -> None:
  """Reads the arguments, compares, and stores the result."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", default="movielens_100k")
  parser.add_argument("--seeds", type=int, default=5)
  parser.add_argument("--epochs", type=int, default=EPOCHS)
  parser.add_argument("--environments", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--scratch", default=None, help="folder for what is left behind")
  parser.add_argument("--dry", action="store_true", help="print the result and store nothing")
  options = parser.parse_args()
  if options.seeds < 2:
    parser.error("--seeds: a deviation needs two at least")
  result = compare(options.data, options)
  if options.dry:
    print(json.dumps(result, indent=1))
    return
  from store import store

  store(result, rectools=REQUIREMENTS[PEER][-1])


if __name__ == "__main__":
  main()
