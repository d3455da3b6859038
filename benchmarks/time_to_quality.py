"""SASRec of recjax, RecTools and RecBole: how long until the quality that a peer reaches in its time.

    python benchmarks/time_to_quality.py [--data movielens_100k,ml_1m_sequences]

All have the same events, split, widths, blocks and heads. A peer trains with its own defaults for
--minutes; its lists of the validation users are scored by recjax's metrics, and its clock stands still
while they are made. The clock of recjax runs from the start of its process: import, loading,
compilation with an empty cache, training and evaluation are all in it. The ratio is the time at which
the peer had its best validation NDCG@10 over the time at which recjax had reached as much. All run
alone, one after the other. RecBole's own evaluation is timed beside recjax's on the same users. Writes
docs/results/time_to_quality_DATA.json.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from machine import machine
from peers.environment import FOLDER
from sasrec_peers import ROOT, answers_of, export, mean_value, progress_of, run_sasrec, values_of

WIDTH, LAYERS, HEADS = 64, 2, 1
# Least and aimed-at ratios on ml_1m_sequences; on the small set they are reported only.
LIMITS = {"ml_1m_sequences": {"rectools": (3.0, 5.0), "recbole": (30.0, 50.0)}}
EVALUATION_LIMIT = 10.0  # of RecBole's evaluation over recjax's
MINUTES = {"movielens_100k": 10.0, "ml_1m_sequences": 20.0}
# Length of a history for everybody; 200 is the paper's for MovieLens 1M.
LENGTH = {"movielens_100k": 50, "ml_1m_sequences": 200}
EPOCHS = {"movielens_100k": 5, "ml_1m_sequences": 1}  # of RecTools between two looks


# Batch and learning rate of recjax where those of its experiment are not the fastest: tried on seed 0.
FASTER = {
  "ml_1m_sequences": (
    "train.batch_size=32", "optimizer.learning_rate=4e-3", "train.log_every=100",
    "train.evaluate_every=100", "seed=1",
  ),
}


def settings(data: str) -> list[str]:
  """What recjax's experiment on SASRec is given: the common sizes, and no end but that of the time."""
  return [
    f"view.length={LENGTH[data]}", f"model.width={WIDTH}", f"model.layers={LAYERS}",
    f"model.heads={HEADS}", "evaluate.full_ranking.beyond_accuracy=False", "train.patience=0",
    "train.steps=1000000", *FASTER.get(data, ()),
  ]


def curve_of(folder: pathlib.Path, answers: dict[int, int]) -> list[tuple[float, float]]:
  """(seconds, NDCG@10) of every set of lists that a peer wrote."""
  found = []
  for fact in progress_of(folder):
    values = values_of(folder / f"lists_{fact['number']:03}.npz", answers)
    found.append((fact["seconds"], values["ndcg@10"]))
  return found


def run_peer(peer: str, data: str, exported: pathlib.Path, out: pathlib.Path, options) -> None:
  """Trains a peer for its time, in its own environment."""
  epochs = {"epochs": EPOCHS[data]} if peer == "rectools" else {}
  run_sasrec(
    peer, exported, out, options.environments, seconds=60 * options.minutes[data],
    length=LENGTH[data], width=WIDTH, layers=LAYERS, heads=HEADS, **epochs,
  )


def run_recjax(data: str, seconds: float, cache: pathlib.Path, workdir: pathlib.Path):
  """(seconds, NDCG@10) of every validation, by the clock of its whole process."""
  command = [
    sys.executable, "-m", "recjax.main", f"--config=experiments/sasrec.py:data={data}",
    f"--workdir={workdir}", *(f"--config.{s}" for s in settings(data)),
  ]
  environment = {**os.environ, "RECJAX_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
  started = time.monotonic()
  process = subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
  )
  found = []
  for line in process.stdout:
    now = time.monotonic() - started
    if value := re.search(r"validation at step \d+: ndcg@10 ([\d.]+)", line):
      found.append((now, float(value.group(1))))
      print(f"{now:7.1f} s  recjax {found[-1][1]:.4f}", flush=True)
    if now > seconds:
      process.terminate()
      break
  process.communicate()
  return found


def time_evaluation(data: str, own: pathlib.Path, answers: dict[int, int]) -> dict[str, float]:
  """RecBole's own evaluation against recjax's: seconds, and its NDCG@10 by both metric codes."""
  import jax

  from recjax.config import read_config_file
  from recjax.programs.assemble import assemble
  from recjax.programs.prove import override

  config = override(
    read_config_file(str(ROOT / f"experiments/sasrec.py:data={data}")),
    (*settings(data), "evaluate.full_ranking.keep_seen=True"),
  )
  parts = assemble(config)
  learner = parts.learner
  run = parts.evaluators["validation"]["full_ranking"]
  from recjax.train.step import Updater

  updater = Updater(learner, config, parts.view.train.schema, parts.mesh, 1)
  variables = jax.jit(updater.create)(np.uint32(0)).variables
  run(variables)
  seconds = []
  for _ in range(5):
    started = time.perf_counter()
    run(variables)
    seconds.append(time.perf_counter() - started)
  with np.load(own) as theirs:
    right = np.array([answers[int(user)] for user in theirs["user"]])
    return {
      "recjax": float(np.median(seconds)), "recbole": float(theirs["seconds"]),
      "ndcg_recbole": float(theirs["ndcg"]),
      "ndcg_recjax": mean_value("ndcg@10", theirs["ids"], theirs["scores"], right),
    }


def compare(data: str, options) -> None:
  """Everything for one data set."""
  from store import store

  scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"quality_{data}_", dir=options.scratch))
  cache = scratch / "cache"
  os.environ["RECJAX_CACHE_DIR"] = str(cache)
  exported = scratch / "events.npz"
  export(data, exported)
  answers = answers_of(exported, "validation")
  curves = {}
  for peer in options.peers:
    run_peer(peer, data, exported, scratch / peer, options)
    curves[peer] = curve_of(scratch / peer, answers)
  limit = 60 * options.minutes[data]
  ours = curves["recjax"] = run_recjax(data, limit, cache, scratch / "run")
  rows, claims = [], []
  for peer in options.peers:
    seconds, best = max(curves[peer], key=lambda point: point[1])
    reached = next((now for now, value in ours if value >= best), None)
    ratio = seconds / reached if reached else 0.0
    top = max((value for now, value in ours if now <= limit), default=0.0)
    rows.append([
      peer, f"{best:.4f}", f"{seconds:.0f}", f"{reached:.0f}" if reached else "not reached",
      f"{ratio:.1f}", f"{top:.4f}",
    ])
    if peer in LIMITS.get(data, {}):
      least, aim = LIMITS[data][peer]
      claims.append({
        "name": f"faster than {peer}", "passed": ratio >= least,
        "text": f"recjax is {ratio:.1f} times as fast to {peer}'s best; at least {least:.0f}, aimed at "
        f"{aim:.0f}",
      })
  tables = [{
    "caption": f"{data}, {machine()}",
    "columns": [
      "peer", "its best NDCG@10", "after s", "recjax reaches it after s", "times as fast",
      f"recjax's best in {options.minutes[data]:.0f} minutes",
    ],
    "rows": rows,
  }]
  own = scratch / "recbole" / "own_evaluation.npz"
  if own.exists():
    timing = time_evaluation(data, own, answers)
    ratio = timing["recbole"] / timing["recjax"]
    tables.append({
      "caption": f"Full ranking of {len(answers):,} users, nothing left out",
      "columns": ["", "seconds", "NDCG@10 of RecBole's lists"],
      "rows": [[n, f"{timing[n]:.2f}", f"{timing[f'ndcg_{n}']:.6f}"] for n in ("recbole", "recjax")],
    })
    same = abs(timing["ndcg_recbole"] - timing["ndcg_recjax"]) < 1e-5
    claims += [
      {"name": "evaluation", "passed": data not in LIMITS or ratio >= EVALUATION_LIMIT,
       "text": f"full ranking is {ratio:.1f} times as fast as RecBole's"},
      {"name": "same metric", "passed": same, "text": "both metric codes agree on RecBole's lists"},
    ]
  store({
    "name": f"time_to_quality_{data}", "page": "performance",
    "title": f"Time to quality: SASRec on {data}",
    "command": f"python benchmarks/time_to_quality.py --data {data}",
    "note": f"Width {WIDTH}, {LAYERS} blocks, {HEADS} head, histories of {LENGTH[data]}, "
    "leave-one-out, validation part, full ranking, seen items left out. Peers keep their own defaults "
    "otherwise, and their clock stops while lists are made; recjax's includes start, compilation and "
    "evaluation. " + (f"recjax has {', '.join(FASTER[data])}." if data in FASTER else ""),
    "tables": tables, "claims": claims, "curves": curves,
  })


def main() -> None:
  """Reads the arguments and compares on every data set."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", default=",".join(MINUTES))
  parser.add_argument("--peers", default="rectools,recbole")
  parser.add_argument("--minutes", type=float, help="of each peer, instead of 10 and 20")
  parser.add_argument("--environments", type=pathlib.Path, default=FOLDER)
  parser.add_argument("--scratch", default=None, help="folder for what is left behind")
  options = parser.parse_args()
  options.peers = options.peers.split(",")
  names = options.data.split(",")
  options.minutes = {name: options.minutes or MINUTES[name] for name in names}
  for name in names:
    compare(name, options)


if __name__ == "__main__":
  main()
