"""A run's folder: what is in it, who may go on in it, how it ends.

    config.json     the resolved config, written first
    metrics.jsonl   every logged value; tensorboard/ shows the same
    checkpoints/    latest states; best/ the variables of the best validation
    stages/NAME/    runs that this one builds on
    cases_PART.npz  value of every metric for every evaluated case
    NAME_PART.png   pictures, where an evaluator makes some
    export/         variables, config, schema and names, for serving and other programs
    variables_of_seeds.safetensors   where several seeds were trained: of all of them
    report.json     written last: its presence means finished
    .lock           held while a run writes here
"""

import contextlib
import dataclasses
import importlib.metadata
import logging
import pathlib
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

import recjax
from recjax.config import Config, essential, fingerprint, read_config_file, resolve, to_json
from recjax.errors import ConfigError, RecjaxError, writing
from recjax.evaluate.evaluation import Evaluation
from recjax.evaluate.pictures import write_png
from recjax.programs.assemble import Parts
from recjax.programs.lock import locked
from recjax.programs.seal import read_report, sealed
from recjax.registry import unknown
from recjax.serve.export import write_export
from recjax.train import hosts
from recjax.train.arrays import load_arrays, save_arrays
from recjax.train.progress import Progress
from recjax.train.state import TrainState
from recjax.train.writers import Writer, read_json, write_json

log = logging.getLogger("recjax")

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def read_run_config(workdir: pathlib.Path) -> Config:
  """The config that a workdir was begun with."""
  path = pathlib.Path(workdir) / "config.json"
  if not path.is_file():
    raise RecjaxError(f"{workdir} is not a run: it has no config.json.")
  try:
    return resolve(read_json(path))
  except ConfigError as error:
    raise RecjaxError(
      f"{path} is damaged or of another recjax ({error}) Delete it, or take a new workdir."
    ) from error


def finished(config: Config, workdir: pathlib.Path) -> dict[str, Any] | None:
  """The report of a run of this config that is finished, else None; see `guard` for another's."""
  guard(config, workdir)
  if not (workdir / "report.json").is_file() or difference(config, workdir):
    return None
  return read_report(workdir)


def guard(config: Config, workdir: pathlib.Path) -> None:
  """Raises ConfigError where the workdir belongs to another config, naming the first difference."""
  if config.allow_config_change or not (workdir / "config.json").is_file():
    return
  if found := difference(config, workdir):
    key, theirs, ours = found
    raise ConfigError(
      f"{workdir} was begun with {key}={theirs!r}, this config has {ours!r}; take a new workdir, "
      "or pass --config.allow_config_change=True to go on all the same."
    )


def difference(config: Config, workdir: pathlib.Path) -> tuple[str, Any, Any] | None:
  """(key, value in the workdir, value here) of the first key that matters and differs, or None."""
  ours, theirs = (
    _flat(essential(c), separator=".") for c in (config, read_run_config(workdir))
  )
  for key in sorted({*ours, *theirs}):
    if ours.get(key) != theirs.get(key):
      return key, theirs.get(key), ours.get(key)
  return None


@contextlib.contextmanager
def begun(config: Config, workdir: pathlib.Path) -> Iterator[None]:
  """Makes the workdir this config's, and this run's alone as long as the context is open.

  What another config reported there no longer holds.
  """
  with locked(workdir):
    guard(config, workdir)  # again, now that no other run can begin here
    hosts.wait_for_all("workdir read")
    if jax.process_index() == 0:
      if (workdir / "config.json").is_file() and difference(config, workdir):
        with writing(workdir):
          (workdir / "report.json").unlink(missing_ok=True)
      write_json(workdir / "config.json", to_json(config))
    yield


def run_stages(
  config: Config, workdir: pathlib.Path, train: Callable, shared: pathlib.Path | None = None
) -> dict[str, pathlib.Path] | None:
  """Trains the stages in order, with the seeds of the run; their folders, or None if interrupted.

  Stages live in the workdir, or in the folder `shared`, where their config is part of their name: runs
  that build on the same stage then train it once. A stage that names a folder is a run finished before.
  """
  folders = {}
  for name, reference in config.stages.items():
    log.info("Stage %s: %s", name, reference)
    if not reference.partition(":")[0].endswith(".py"):
      folders[name] = pathlib.Path(reference)
      if not (folders[name] / "report.json").is_file():
        raise ConfigError(f"Stage {name!r}: {reference} is neither a config file nor a finished run.")
      continue
    stage = read_config_file(reference)
    if not isinstance(stage, Config):
      raise ConfigError(f"Stage {name!r}: {reference} is a config of {stage.program}, no experiment.")
    stage = dataclasses.replace(stage, seed=config.seed, seeds=config.seeds)
    own = workdir / "stages" / name
    folders[name] = own if shared is None else shared / f"{name}-{fingerprint(stage)}"
    if train(stage, folders[name], shared)["status"] == "interrupted":
      return None
  return folders


def initialize(
  config: Config, folders: Mapping[str, pathlib.Path], state: TrainState
) -> TrainState:
  """The state with the variables that `config.initialize` takes from stages in these folders.

  Seed by seed where the stage has as many seeds; else every seed starts from the stage's first.
  """
  variables = state.variables
  for target, origin in config.initialize.items():
    stage, _, path = origin.partition(":")
    if stage not in config.stages:
      raise ConfigError(f"config.initialize[{target!r}]: " + unknown("stage", stage, config.stages))
    source = _flat(load_arrays(_variables_file(folders[stage], config.seeds)))
    picked = {k: v for k, v in source.items() if k == path or k.startswith(path + "/")}
    if not picked:
      raise ConfigError(f"Stage {stage!r}: " + unknown("variable", path, source))
    for name, value in picked.items():
      variables = _replace(variables, (target + name[len(path):]).split("/"), value, origin)
  return TrainState(**{**vars(state), "variables": variables})


def _variables_file(folder: pathlib.Path, seeds: int) -> pathlib.Path:
  """Variables of all seeds of a finished run where it has as many as asked for, else of the first."""
  if seeds > 1 and read_run_config(folder).seeds == seeds:
    return folder / "variables_of_seeds.safetensors"
  return folder / "export" / "variables.safetensors"


def _replace(tree: Mapping, path: list[str], value: np.ndarray, origin: str) -> dict:
  if not isinstance(tree, Mapping):
    raise ConfigError(f"{origin!r} does not fit: there is a single variable where it has several.")
  if path[0] not in tree:
    raise ConfigError(f"Taking {origin!r}: " + unknown("variable", path[0], tree))
  old = tree[path[0]]
  if len(path) > 1:
    return {**tree, path[0]: _replace(old, path[1:], value, origin)}
  if old.shape[-value.ndim :] != value.shape:
    raise ConfigError(f"{origin!r} of shape {value.shape} does not fit shape {old.shape}.")
  value = np.broadcast_to(value, old.shape).astype(old.dtype)
  return {**tree, path[0]: jax.device_put(value, old.sharding)}


def evaluate_part(
  parts: Parts, variables: Mapping[str, Any], part: str
) -> list[dict[str, Evaluation]]:
  """What every evaluator of a part finds, one dict a seed."""
  prepare = parts.learner.predict.get("prepare")
  found = []
  for i in range(parts.config.seeds if parts.learner.loss else 1):
    own = variables
    if parts.config.seeds > 1 and parts.learner.loss:
      own = jax.tree.map(lambda a, i=i: a[i], variables)
    if prepare:
      own = jax.jit(prepare)(own)
    found.append({name: run(own) for name, run in parts.evaluators[part].items()})
  return found


def values_by_name(evaluations: list[dict[str, Evaluation]]) -> dict[str, np.ndarray]:
  """Values [seeds] by name, of all evaluators together."""
  first = evaluations[0]
  return {
    name: np.asarray([e[evaluator].values[name] for e in evaluations], np.float64)
    for evaluator in first
    for name in first[evaluator].values
  }


def finish(
  parts: Parts,
  workdir: pathlib.Path,
  variables: Mapping[str, Any],
  progress: Progress,
  step: int,
  started: float,
) -> dict[str, Any]:
  """Evaluates each part's variables, exports those of the test, writes the report; returns it."""
  config = parts.config
  parts_of_report = {}
  for part in ("validation", "test"):
    evaluations = evaluate_part(parts, variables[part], part)
    parts_of_report[part] = summary(evaluations)
    if jax.process_index() == 0:
      save_cases(workdir / f"cases_{part}.npz", evaluations)
      for name, image in pictures_of(evaluations).items():
        write_png(workdir / f"{name}_{part}.png", image)
  report = {
    "status": "finished",
    "name": config.name,
    **parts_of_report,
    "seeds": list(range(config.seed, config.seed + config.seeds)),
    "steps": step,
    "best_step": progress.best_step,
    "train_seconds": float(progress.seconds),
    "session_seconds": time.perf_counter() - started,
    "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "parameters": count_variables(variables["test"], config.seeds if parts.learner.loss else 1),
    "data": {**parts.data.facts, "split": parts.split.facts if parts.split else None},
    "view": parts.view.facts,
    "config_fingerprint": fingerprint(config),
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "versions": versions(),
  }
  exported = first_seed(parts, variables["test"])
  if config.seeds > 1 and parts.learner.loss is not None:
    every = hosts.to_host(variables["test"])
    if jax.process_index() == 0:
      save_arrays(workdir / "variables_of_seeds.safetensors", every)
  if jax.process_index() == 0:
    write_export(
      workdir / "export", exported, to_json(config), parts.view.train.schema,
      getattr(parts.data, "items", {}),
    )
    if parts.learner.loss is not None:
      writer = Writer(workdir, step)
      writer.write(step, "test", {k: v["mean"] for k, v in report["test"]["metrics"].items()})
      writer.close()
    write_json(workdir / "report.json", sealed(report, workdir))
  log.info("%s", metrics_block(report["test"]["metrics"]))
  log.info("Finished: %s", workdir / "report.json")
  hosts.wait_for_all("report written")
  return read_json(workdir / "report.json")


def metrics_block(metrics: Mapping[str, Any]) -> str:
  """Test metrics as lines to read: those of lists one row a metric, a column a cut-off."""
  by_name: dict[str, list[str]] = {}
  for name, value in metrics.items():
    metric, _, cutoff = name.partition("@")
    spread = f" +- {value['std']:.4f}" if value["std"] else ""
    cell = f"{value['mean']:.4f}{spread}"
    by_name.setdefault(metric, []).append(f"@{cutoff} {cell}" if cutoff else cell)
  return "\n".join(f"test {metric:<12} " + "   ".join(c) for metric, c in by_name.items())


def first_seed(parts: Parts, variables: Any) -> Any:
  """The variables of the first seed, as whole NumPy arrays."""
  if parts.config.seeds > 1 and parts.learner.loss is not None:
    variables = jax.tree.map(lambda a: a[0], variables)
  return hosts.to_host(variables)


def summary(evaluations: list[dict[str, Evaluation]]) -> dict[str, Any]:
  """Mean, deviation and values over seeds of every metric, and the counts behind them."""
  metrics = {
    name: {
      "mean": float(values.mean()),
      "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
      "values": values,
    }
    for name, values in values_by_name(evaluations).items()
  }
  facts = {k: v for e in evaluations[0].values() for k, v in e.facts.items()}
  return {"metrics": metrics, "facts": facts}


def save_cases(path: pathlib.Path, evaluations: list[dict[str, Evaluation]]) -> None:
  """Per-case values [seeds, cases] as "evaluator/metric", with "evaluator/user" of each case."""
  arrays = {}
  for evaluator, first in evaluations[0].items():
    arrays[f"{evaluator}/user"] = first.case_user
    for name in first.per_case:
      arrays[f"{evaluator}/{name}"] = np.stack([e[evaluator].per_case[name] for e in evaluations])
  partial = path.with_name(f".{path.stem}.partial.npz")
  with writing(path):
    np.savez(partial, **arrays)
    partial.replace(path)


def pictures_of(evaluations: list[dict[str, Evaluation]]) -> dict[str, np.ndarray]:
  """Images that the evaluators of the first seed made, by name."""
  return {name: image for e in evaluations[0].values() for name, image in e.pictures.items()}


def count_variables(variables: Mapping[str, Any], seeds: int) -> dict[str, int]:
  """Numbers in each collection, of one seed."""
  return {
    name: sum(a.size for a in jax.tree.leaves(tree)) // seeds for name, tree in variables.items()
  }


def versions() -> dict[str, str]:
  """Versions of recjax, Python and the packages that figures depend on."""
  found = {"recjax": recjax.__version__, "python": platform.python_version()}
  for name in _PACKAGES:
    found[name] = importlib.metadata.version(name)
  return found


def _flat(tree: Any, prefix: str = "", separator: str = "/") -> dict[str, Any]:
  if not isinstance(tree, Mapping):
    return {prefix: tree}
  start = prefix + separator if prefix else ""
  return {
    k: v for name, value in tree.items()
    for k, v in _flat(value, f"{start}{name}", separator).items()
  }


def one_seed(config: Config) -> Config:
  """The same config with its first seed only."""
  return dataclasses.replace(config, seeds=1)
