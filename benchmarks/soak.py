"""Two hours of training, validating, saving and exporting: memory and step time stay as they were.

    python benchmarks/soak.py [--minutes 120] [--folder runs/soak]

Two processes at once, on a core each where there are two. One trains a single run without end, which
validates and saves every 50 steps. The other trains short runs to their report and export, one after
the other in the same process, as a proof does. Both are watched from outside: memory that no file
backs, open files, threads. The first quarter is warm-up; the second is compared with the last. Writes
docs/results/soak.json, which stands in docs/reliability.md.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
from machine import machine
from memory import holdings

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "experiments" / "sasrec.py:tiny")
EVERY = 50
SHORT_STEPS = 100
STEP_LIMIT, MEMORY_LIMIT, MORE_LIMIT = 1.1, 20 << 20, 1
CODE_OF_SIGTERM = 143


def long_run(folder: pathlib.Path) -> list[str]:
  """The command of a run that does not end."""
  settings = {
    "train.steps": 10**9, "train.log_every": EVERY, "train.evaluate_every": EVERY,
    "train.checkpoint_every": EVERY, "train.patience": 0, "optimizer.learning_rate": 1e-4,
  }
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  return [sys.executable, "-m", "recjax.main", f"--config={CONFIG}", f"--workdir={folder}", *flags]


def loop(folder: pathlib.Path) -> None:
  """Trains short runs, each with a seed and a workdir of its own, until SIGTERM."""
  import dataclasses

  from recjax.config import read_config_file
  from recjax.programs.start import runtime
  from recjax.programs.train import train
  from recjax.train.writers import read_metrics

  runtime()
  config = read_config_file(CONFIG)
  schedule = dataclasses.replace(
    config.train, steps=SHORT_STEPS, log_every=EVERY, evaluate_every=EVERY, patience=0
  )
  stopped = []
  signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
  while not stopped:
    workdir = folder / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    seed = len(read_lines(folder))
    report = train(dataclasses.replace(config, seed=seed, train=schedule), workdir)
    if report["status"] == "interrupted":
      break
    last = [line for line in read_metrics(workdir) if line["kind"] == "train"][-1]
    line = {"seconds": report["session_seconds"], "steps_per_second": last["steps_per_second"]}
    with (folder / "runs.jsonl").open("a") as file:
      file.write(json.dumps(line) + "\n")
  sys.exit(CODE_OF_SIGTERM)


def read_lines(folder: pathlib.Path) -> list[dict[str, float]]:
  """Speeds that a process has written so far: of its short runs, or of pieces of the long one."""
  from recjax.train.writers import read_metrics

  path = folder / "runs.jsonl"
  if path.exists():
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
  return [line for line in read_metrics(folder) if line["kind"] == "train"]


def watch(folder: pathlib.Path, seconds: float) -> dict[str, dict[str, Any]]:
  """Runs both processes for so long after both have begun to work; samples and speeds of each."""
  commands = {
    "one long run": long_run(folder / "long"),
    "short runs": [sys.executable, __file__, "--loop", str(folder / "short")],
  }
  folders = {"one long run": folder / "long", "short runs": folder / "short"}
  cores = sorted(os.sched_getaffinity(0))
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  processes, found = {}, {}
  try:
    for i, (name, command) in enumerate(commands.items()):
      folders[name].mkdir(parents=True)
      with (folders[name] / "log.txt").open("w") as log:
        processes[name] = subprocess.Popen(
          command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
      os.sched_setaffinity(processes[name].pid, {cores[i % len(cores)]})
    while not all(read_lines(own) for own in folders.values()):
      _still_running(processes, folders)
      time.sleep(0.5)
    begun = time.monotonic()
    first = {name: len(read_lines(own)) for name, own in folders.items()}
    samples: dict[str, list] = {name: [] for name in commands}
    while (now := time.monotonic() - begun) < seconds:
      _still_running(processes, folders)
      for name, process in processes.items():
        samples[name].append({"time": now, **holdings(process.pid)})
      time.sleep(max(seconds / 720, 0.1))
    for name in processes:
      speeds = read_lines(folders[name])[first[name]:]
      found[name] = {
        "samples": samples[name], "steps_per_second": [s["steps_per_second"] for s in speeds],
        "disk": sum(p.stat().st_size for p in folders[name].rglob("*") if p.is_file()),
      }
    for process in processes.values():
      process.terminate()
    for name, process in processes.items():
      found[name]["exit_code"] = process.wait(600)
  finally:
    for process in processes.values():
      process.kill()
      process.wait()
  return found


def _still_running(processes: dict, folders: dict[str, pathlib.Path]) -> None:
  for name, process in processes.items():
    if process.poll() is not None:
      tail = (folders[name] / "log.txt").read_text()[-2000:]
      raise SystemExit(f"The process of {name} ended with {process.returncode}:\n{tail}")


def summary(found: dict[str, Any]) -> dict[str, float]:
  """Second quarter against last: growth of memory in bytes an hour, of files, and of step time."""
  samples = found["samples"]
  column = lambda name: np.array([s[name] for s in samples], float)
  second, last = (slice(len(samples) * q // 4, len(samples) * (q + 1) // 4) for q in (1, 3))
  when, own = column("time"), column("own")
  hours = (when[last].mean() - when[second].mean()) / 3600
  pace = 1 / np.array(found["steps_per_second"])
  # Every entry stands for as many steps, so quarters of time are quarters of their sum.
  share = np.cumsum(pace) / pace.sum()
  middle, end = pace[(share > 0.25) & (share <= 0.5)], pace[share > 0.75]
  return {
    "own": float(np.median(own[last])),
    "growth_an_hour": float((np.median(own[last]) - np.median(own[second])) / hours),
    "files": float(np.median(column("files")[last])),
    "more_files": float(np.median(column("files")[last]) - np.median(column("files")[second])),
    "threads": float(np.median(column("threads")[last])),
    "more_threads": float(np.median(column("threads")[last]) - np.median(column("threads")[second])),
    "milliseconds": 1e3 * float(np.median(end)),
    "slower": float(np.median(end) / np.median(middle)),
  }


def claims(found: dict[str, dict[str, Any]], memory_limit: float, step_limit: float) -> list[dict]:
  """What must hold of both processes; limits in bytes an hour and as a ratio of step times."""
  rows = {name: summary(one) for name, one in found.items()}
  worst = lambda key: max(row[key] for row in rows.values())
  codes = {one["exit_code"] for one in found.values()}
  mebibytes = lambda value: f"{value / 2**20:.1f} MiB"
  return [
    {"name": "flat memory", "passed": worst("growth_an_hour") <= memory_limit,
     "text": f"memory grows by {mebibytes(worst('growth_an_hour'))} an hour at most, limit "
     f"{mebibytes(memory_limit)}"},
    {"name": "flat step time", "passed": worst("slower") <= step_limit,
     "text": f"a step of the last quarter takes at most {worst('slower'):.3f} of one of the second, "
     f"limit {step_limit}"},
    {"name": "no more files", "passed": worst("more_files") <= MORE_LIMIT,
     "text": f"{worst('more_files'):.0f} more open files in the last quarter than in the second, limit "
     f"{MORE_LIMIT}"},
    {"name": "no more threads", "passed": worst("more_threads") <= MORE_LIMIT,
     "text": f"{worst('more_threads'):.0f} more threads in the last quarter than in the second, limit "
     f"{MORE_LIMIT}"},
    {"name": "stops when told", "passed": codes == {CODE_OF_SIGTERM},
     "text": f"SIGTERM ends both with exit code {', '.join(map(str, sorted(codes)))}"},
  ]


def main() -> None:
  """Watches both processes, prints what comes of it and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--minutes", type=float, default=120)
  parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/soak"))
  parser.add_argument("--loop", type=pathlib.Path, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.loop:
    loop(arguments.loop)
  from store import store

  folder = arguments.folder.resolve()
  shutil.rmtree(folder, ignore_errors=True)
  found = watch(folder, 60 * arguments.minutes)
  shutil.rmtree(folder)
  held = claims(found, MEMORY_LIMIT, STEP_LIMIT)
  rows = {name: summary(one) for name, one in found.items()}
  length = {"one long run": EVERY, "short runs": SHORT_STEPS}
  store({
    "name": "soak",
    "page": "reliability",
    "title": f"{arguments.minutes:g} minutes of training, validating, saving and exporting",
    "command": "python benchmarks/soak.py",
    "note": f"On {machine()}; SASRec on planted sequences. The long run validates and saves every "
    f"{EVERY} steps, which its step time contains; short runs of {SHORT_STEPS} steps follow each other "
    "in one process, each with its compilation, report and export. Medians of the last quarter, "
    "against those of the second: the first is warm-up.",
    "tables": [{
      "columns": ["process", "steps", "MiB of own memory", "MiB more an hour", "open files", "more",
                  "threads", "more", "ms/step", "of that before"],
      "rows": [
        [name, f"{length[name] * len(found[name]['steps_per_second']):,}", f"{r['own'] / 2**20:,.0f}",
         f"{r['growth_an_hour'] / 2**20:+.1f}", f"{r['files']:.0f}", f"{r['more_files']:+.0f}",
         f"{r['threads']:.0f}", f"{r['more_threads']:+.0f}", f"{r['milliseconds']:.1f}",
         f"{r['slower']:.3f}"]
        for name, r in rows.items()
      ],
    }],
    "claims": held,
    "runs": found,
  })


if __name__ == "__main__":
  main()
