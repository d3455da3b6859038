"""What comparisons with a peer's SASRec share: events, its training, and values of its lists."""

import json
import os
import pathlib
import subprocess
from typing import Any

import numpy as np
from peers.environment import python_of

ROOT = pathlib.Path(__file__).parents[1]
METRICS = ("ndcg@10", "hr@10")


def export(data: str, path: pathlib.Path) -> None:
  """Writes the events of a data set in order, those to train on, and the answers of both parts."""
  from recjax.config import read_config_file
  from recjax.data.load import load
  from recjax.data.splits import make_split

  config = read_config_file(str(ROOT / f"experiments/sasrec.py:data={data}"))
  log = load(config.data)
  split = make_split(log, config.split)
  user = np.repeat(np.arange(log.num_users + 1), np.diff(log.indptr))
  item = np.asarray(log.item)
  trained = np.arange(len(item)) < split.train_end[user]
  held = {}
  for part in ("validation", "test"):
    moments = getattr(split, part)
    held |= {f"{part}_user": moments.user, f"{part}_item": item[moments.history_end]}
  np.savez(path, user=user, item=item, train_user=user[trained], train_item=item[trained], **held)


def answers_of(exported: pathlib.Path, part: str) -> dict[int, int]:
  """The right answer of each user of a part."""
  with np.load(exported) as events:
    return dict(zip(events[f"{part}_user"].tolist(), events[f"{part}_item"].tolist(), strict=True))


def run_sasrec(
  peer: str, exported: pathlib.Path, out: pathlib.Path, environments: pathlib.Path, **options: Any
) -> None:
  """Trains a peer's SASRec in the peer's own environment; options are arguments of its program."""
  program = pathlib.Path(__file__).parent / "peers" / f"{peer}_sasrec.py"
  command = [python_of(peer, environments), str(program), "--data", str(exported), "--out", str(out)]
  for name, value in options.items():
    command += [f"--{name}", str(value)]
  out.mkdir(parents=True)
  environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
  subprocess.run(command, check=True, env=environment, cwd=out)  # they write logs where they are


def progress_of(folder: pathlib.Path) -> list[dict[str, Any]]:
  """What a peer said of each of its sets of lists."""
  return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def values_of(path: pathlib.Path, answers: dict[int, int]) -> dict[str, float]:
  """METRICS of stored lists, which have every user of the answers once."""
  with np.load(path) as lists:
    users = lists["user"].tolist()
    assert sorted(users) == sorted(answers), f"{path} has lists of other users"
    right = np.array([answers[user] for user in users])
    return {m: mean_value(m, lists["ids"], lists["scores"], right) for m in METRICS}


def mean_value(metric: str, ids: np.ndarray, scores: np.ndarray, answers: np.ndarray) -> float:
  """NDCG@10 or HR@10 of lists [n, 11] with the right answers [n], by recjax's rule for ties."""
  from recjax.evaluate.ranking import hits_of_lists, ranking_metrics

  hits = hits_of_lists(ids, scores, answers[:, None])
  ones = np.ones(len(answers), np.int64)
  return float(ranking_metrics(hits, ones, (10,))[metric].mean())
