"""Proofs: a config's claims, checked by running every arm in every world and comparing them.

    config.proof = {
      "title": ..., "note": ...,
      "worlds": {name: {"arms": (names,), "metrics": ("ndcg@10",), "reference": arm, "seeds": 5,
                        "config": "experiments/x.py:arg", "arguments": "data=...",
                        "set": ("data.name=...",)}},
      "arms": {name: {"config": "experiments/y.py:arg", "set": ("model.pool=mean",)}},
      "claims": ({"name": ..., "world": ..., "metric": ..., "better": arm,
                  "worse": arm or "fact:NAME", "margin": 0.01},),   better - worse >= margin
      "run": "",  # "world+world": the others are only taken up where all their runs are finished
    }

A world is a table: its arms run with seeds 0, 1, ... and are compared on its metrics, by paired tests
against its reference. A run's config is the arm's, else the world's, else this very one. Arguments of
the world are added to those of a file that is named; settings of the arm and then of the world are
applied. A claim is about means over seeds; "at_least" or "at_most" instead of "worse" compares with a
number, and "relative" instead of "margin" is a share of worse. Thresholds are part of the config,
fixed before the run. Runs live in the workdir and are picked up again, stages in its folder `stages`,
where arms that build on the same one share it; the result is written to docs/results/NAME.json. Claims
about worlds that are left out are not stated.
"""

import ast
import dataclasses
import logging
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.config import Config, read_config_file, resolve, to_json
from recjax.errors import ConfigError, DataError, RecjaxError
from recjax.evaluate import significance
from recjax.programs.results import write_result
from recjax.programs.runs import finished, versions
from recjax.programs.train import train
from recjax.registry import unknown

log = logging.getLogger("recjax")

_KEYS = ("title", "note", "worlds", "arms", "claims", "run")
_WORLD_KEYS = ("arms", "metrics", "reference", "seeds", "config", "arguments", "set")
_ARM_KEYS = ("config", "set")


def prove(config: Config, workdir: pathlib.Path | None) -> dict[str, Any]:
  """Runs the proof of a config; writes and returns its result. RecjaxError if it is interrupted."""
  proof = dict(config.proof)
  if not proof.get("worlds"):
    raise ConfigError(f"{config.name} states no proof: config.proof has no worlds.")
  _check_keys(proof, _KEYS, "config.proof")
  workdir = workdir or pathlib.Path("runs") / "proof" / config.name
  chosen = tuple(filter(None, proof.get("run", "").split("+"))) or tuple(proof["worlds"])
  for world in chosen:
    if world not in proof["worlds"]:
      raise ConfigError(unknown("world", world, proof["worlds"]))
  runs: dict[str, dict[str, Run]] = {}
  for world, setting in proof["worlds"].items():
    _check_keys(setting, _WORLD_KEYS, f"config.proof.worlds.{world}")
    own = {}
    for arm in setting["arms"]:
      if arm not in proof["arms"]:
        raise ConfigError(unknown("arm", arm, proof["arms"]))
      _check_keys(proof["arms"][arm], _ARM_KEYS, f"config.proof.arms.{arm}")
      own[arm] = arm_config(config, setting, proof["arms"][arm])
    folder = workdir / world
    done = [finished(arm_own, folder / arm) is not None for arm, arm_own in own.items()]
    if world not in chosen and not all(done):
      log.info("Proof %s: %s is not chosen and not finished: left out", config.name, world)
      continue
    runs[world] = {}
    for arm, arm_own in own.items():
      log.info("Proof %s: %s, %s", config.name, world, arm)
      report = train(arm_own, folder / arm, workdir / "stages")
      if report["status"] != "finished":
        raise RecjaxError(f"The proof was interrupted in {world}; the same command goes on.")
      runs[world][arm] = Run(report, folder / arm)
  first = next(iter(proof["worlds"]))
  stated = [claim for claim in proof.get("claims", ()) if claim.get("world", first) in runs]
  claims = [check(claim, runs) for claim in stated]
  result = {
    "name": config.name,
    "title": proof.get("title", config.name),
    "note": proof.get("note", ""),
    "command": f"python -m recjax.main --mode=prove --config=experiments/{config.name}.py",
    "tables": [table(world, runs[world], proof["worlds"][world]) for world in runs],
    "claims": claims,
    "left_out": [world for world in proof["worlds"] if world not in runs],
    "passed": all(claim["passed"] for claim in claims),
    "data": {w: next(iter(r.values())).report["data"] for w, r in runs.items()},
    "versions": versions(),
  }
  write_result(result)
  for claim in claims:
    log.info("%s  %s", "holds" if claim["passed"] else "FAILS", claim["text"])
  return result


def arm_config(config: Config, world: Mapping[str, Any], arm: Mapping[str, Any]) -> Config:
  """The config of one arm in one world, without a proof of its own."""
  reference = arm.get("config") or world.get("config")
  if reference and world.get("arguments"):
    reference += f"{',' if ':' in reference else ':'}{world['arguments']}"
  base = read_config_file(reference) if reference else config
  seeds = (f"seeds={world.get('seeds', 1)}", "seed=0")
  base = override(base, (*seeds, *arm.get("set", ()), *world.get("set", ())))
  return dataclasses.replace(base, proof={})


def _check_keys(mapping: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
  for key in mapping:
    if key not in known:
      raise ConfigError(unknown(f"key of {where}", key, known))


class Run:
  """A finished run, read back."""

  def __init__(self, report: Mapping[str, Any], folder: pathlib.Path):
    self.report, self._folder = report, folder

  def values(self, metric: str, part: str = "test") -> np.ndarray:
    """The metric of every seed."""
    metrics = self.report[part]["metrics"]
    if metric not in metrics:
      raise ConfigError(unknown("metric", metric, metrics))
    return np.asarray(metrics[metric]["values"], np.float64)

  def cases(self, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(user [n], values [seeds, n]) of the test cases, or None where the metric has none."""
    path = self._folder / "cases_test.npz"
    try:
      with np.load(path, allow_pickle=False) as stored:
        name = next((n for n in stored if n.partition("/")[2] == metric), None)
        return None if name is None else (stored[name.partition("/")[0] + "/user"], stored[name])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise DataError(f"{path} is damaged ({error}): remove the folder and run it again.") from None


def override(config: Config, settings: tuple[str, ...]) -> Config:
  """The config with "dotted.key=value" settings applied; unknown keys raise ConfigError."""
  tree = to_json(config)
  for setting in settings:
    path, found, text = setting.partition("=")
    if not found:
      raise ConfigError(f"{setting!r} is not of the form key=value.")
    *parents, leaf = path.split(".")
    node = tree
    for name in parents:
      if not isinstance(node.get(name), dict):
        raise ConfigError(unknown("config key", name, node))
      node = node[name]
    if leaf not in node:
      raise ConfigError(unknown("config key", leaf, node))
    try:
      node[leaf] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      node[leaf] = text
  return resolve(tree)


def check(claim: Mapping[str, Any], runs: Mapping[str, Mapping[str, Run]]) -> dict[str, Any]:
  """A claim with both sides measured: mean over seeds of each, and whether the margin holds."""
  world = claim.get("world", next(iter(runs)))
  if world not in runs:
    raise ConfigError(unknown("world", world, runs))
  arms = runs[world]
  metric, margin = claim["metric"], float(claim.get("margin", 0.0))
  side = lambda arm: arms[arm] if arm in arms else _raise(unknown("arm", arm, arms))
  better = float(side(claim["better"]).values(metric).mean())
  if "at_least" in claim:
    worse, against = float(claim["at_least"]), f"{claim['at_least']}"
  elif "at_most" in claim:
    worse, against = float(claim["at_most"]), f"{claim['at_most']}"
  elif str(claim["worse"]).startswith("fact:"):
    fact = claim["worse"].removeprefix("fact:")
    known: Any = side(claim["better"]).report["data"]
    for name in fact.split("."):
      if name not in known:
        raise ConfigError(unknown("fact of the data", name, known))
      known = known[name]
    worse, against = float(known), f"{fact} {float(known):.4f}"
  else:
    worse = float(side(claim["worse"]).values(metric).mean())
    against = f"{claim['worse']} {worse:.4f}"
  sign = f"{margin:+g} or more" if margin else "no less"
  if "relative" in claim:
    margin, sign = float(claim["relative"]) * worse, f"{float(claim['relative']):+.1%} or more"
  passed = better - worse >= margin
  if "at_most" in claim:
    passed, sign = better <= worse, "no more"
  text = f"{claim['name']}: {metric} of {claim['better']} {better:.4f} against {against}: {sign}"
  return {
    **claim, "world": world, "left": better, "right": worse, "difference": better - worse,
    "margin": margin, "passed": bool(passed), "text": text,
  }


def _raise(message: str):
  raise ConfigError(message)


def table(world: str, arms: Mapping[str, Run], setting: Mapping[str, Any]) -> dict[str, Any]:
  """One row an arm: metrics as mean and deviation over seeds, paired tests against the reference."""
  metrics = tuple(setting["metrics"])
  reference = setting.get("reference")
  rows = []
  for arm, run in arms.items():
    row: dict[str, Any] = {"arm": arm}
    for metric in metrics:
      row[metric] = {"mean": run.values(metric).mean(), "std": _deviation(run.values(metric))}
    row["parameters"] = learned(run.report["parameters"])
    row["train_seconds"] = run.report["train_seconds"]
    row["cases"] = run.report["test"]["facts"]
    if reference and arm != reference:
      row["paired"] = {m: paired(run, arms[reference], m) for m in metrics}
    rows.append(row)
  for metric in metrics:
    significance.correct([row["paired"][metric] for row in rows if "paired" in row])
  return {
    "world": world, "metrics": metrics, "reference": reference, "rows": rows,
    "seeds": list(range(setting.get("seeds", 1))),
  }


def learned(parameters: Mapping[str, int]) -> int:
  """Numbers that were learned; for a model that counts, those it counted."""
  trained = sum(parameters.get(name, 0) for name in ("params", "tables"))
  return trained or sum(parameters.values())


def _deviation(values: np.ndarray) -> float:
  return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def paired(left: Run, right: Run, metric: str) -> dict[str, Any]:
  """Paired tests of two runs over the same test cases, each case averaged over seeds first.

  Where the metric has no value per case, only the test over seeds is there; where it is not defined
  (NaN) for one of the runs, no test is.
  """
  values = left.values(metric), right.values(metric)
  if not all(np.isfinite(v).all() for v in values):
    return {"over_seeds_t_p": None}
  same = len(values[0]) == len(values[1]) > 1
  over_seeds = significance.paired_t(values[0] - values[1]) if same else None
  a, b = left.cases(metric), right.cases(metric)
  result = {"over_seeds_t_p": over_seeds.p_value if over_seeds else None}
  if a is None or b is None:
    return result
  difference = significance.paired_differences(a[0], a[1].mean(0), b[0], b[1].mean(0))
  return {**result, **significance.paired(difference)}
