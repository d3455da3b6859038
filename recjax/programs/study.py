"""Studies: a config's claims about methods, checked by trials whose truth is known.

Where `prove` trains arms on data, a study runs a registered trial with seeds `first_seed`,
`first_seed` + 1, ... for each arm of a world: `simulate(config, seed) -> {metric: value}`. Claims and
results are those of `prove`.

    {"worlds": {name: {"trial": name, "seeds": 200, "metrics": ("coverage",),
                       "arms": {arm: settings of the trial}}},
     "claims": those of recjax/programs/prove.py, about means over seeds, "run": "world+world"}

A world whose trial needs a data set that is not there (`available()`) is left out.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.config import typed
from recjax.errors import ConfigError
from recjax.programs.prove import check
from recjax.programs.results import write_result
from recjax.programs.runs import versions
from recjax.ranges import Count, Positive
from recjax.registry import resolve, unknown

log = logging.getLogger("recjax")


@dataclasses.dataclass(frozen=True)
class World:
  """One trial, run for each arm with the same seeds."""

  trial: str
  arms: Mapping[str, Mapping[str, Any]]
  # Those of the table; empty: all.
  metrics: tuple[str, ...] = ()
  seeds: Positive = 1
  first_seed: Count = 0


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of a study."""

  program: str
  name: str
  title: str
  worlds: Mapping[str, World]
  claims: tuple[Mapping[str, Any], ...] = ()
  note: str = ""
  # "world+world": only these; empty: all. A result of some is not stored.
  run: str = ""


class Simulated:
  """Values of an arm's metrics, one a seed."""

  def __init__(self, values: Mapping[str, np.ndarray]):
    self._values = values

  def values(self, metric: str) -> np.ndarray:
    """[seeds]."""
    if metric not in self._values:
      raise ConfigError(unknown("metric", metric, self._values))
    return self._values[metric]

  @property
  def metrics(self) -> tuple[str, ...]:
    """Names of all metrics."""
    return tuple(self._values)


def study(config: Config) -> dict[str, Any]:
  """Runs the study; writes (where no world is left unchosen) and returns its result."""
  chosen = tuple(filter(None, config.run.split("+"))) or tuple(config.worlds)
  for name in chosen:
    if name not in config.worlds:
      raise ConfigError(unknown("world", name, config.worlds))
  runs, seconds, left_out = {}, {}, []
  for name in chosen:
    world = config.worlds[name]
    module = resolve("trial", world.trial)
    if hasattr(module, "available") and not module.available():
      log.info("Study %s: the data of %s are not there: left out", config.name, name)
      left_out.append(name)
      continue
    runs[name], seconds[name] = {}, {}
    for arm, settings in world.arms.items():
      own = typed(module.Config, settings, f"config.worlds.{name}.arms.{arm}")
      begun = time.perf_counter()
      found = [module.simulate(own, world.first_seed + s) for s in range(world.seeds)]
      seconds[name][arm] = time.perf_counter() - begun
      log.info("Study %s: %s, %s: %.1f s", config.name, name, arm, seconds[name][arm])
      runs[name][arm] = Simulated({m: np.array([f[m] for f in found]) for m in found[0]})
  claims = [check(claim, runs) for claim in config.claims if claim["world"] in runs]
  result = {
    "name": config.name,
    "title": config.title,
    "note": config.note,
    "command": f"python -m recjax.main --mode=prove --config=experiments/{config.name}.py",
    "tables": [table(name, runs[name], config.worlds[name], seconds[name]) for name in runs],
    "claims": claims,
    "left_out": left_out,
    "passed": all(claim["passed"] for claim in claims),
    "versions": versions(),
  }
  if len(chosen) == len(config.worlds):
    write_result(result)
  for claim in claims:
    log.info("%s  %s", "holds" if claim["passed"] else "FAILS", claim["text"])
  return result


def table(
  name: str, arms: Mapping[str, Simulated], world: World, seconds: Mapping[str, float]
) -> dict[str, Any]:
  """One row an arm: mean and deviation over seeds of each metric; a dash where an arm has none."""
  metrics = world.metrics or tuple(dict.fromkeys(m for arm in arms.values() for m in arm.metrics))
  return {
    "caption": name,
    "seeds": [world.first_seed + s for s in range(world.seeds)],
    "columns": ["", *metrics, "s"],
    "rows": [
      [arm, *(_cell(run, metric) for metric in metrics), f"{seconds[arm]:.1f}"]
      for arm, run in arms.items()
    ],
    "means": {
      arm: {m: run.values(m).mean() for m in metrics if m in run.metrics} for arm, run in arms.items()
    },
  }


def _cell(run: Simulated, metric: str) -> str:
  if metric not in run.metrics:
    return "–"
  values = run.values(metric)
  spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 and np.ptp(values) else ""
  return f"{values.mean():.4f}{spread}"
