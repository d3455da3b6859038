"""Lists of any systems beside each other: comparison.json, comparison.md and pictures.

    python -m recjax.main --mode=evaluate --config=experiments/comparison.py --workdir=runs/compared \\
        --config.lists='("mine=a.parquet","theirs=b.run")' --config.relevance=right.qrels

A run of recjax, after `--mode=evaluate --workdir=RUN`, is given by its folder.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.data.sources.base import fingerprint
from recjax.errors import ConfigError, writing
from recjax.evaluate import comparison
from recjax.evaluate.evaluation import Evaluation
from recjax.evaluate.list_files import Task, read_all
from recjax.evaluate.markdown import table
from recjax.programs.list_files import FOLDER, ITEMS, LISTS, RELEVANCE, TRAINING
from recjax.programs.lock import locked
from recjax.programs.runs import versions
from recjax.ranges import Positive
from recjax.registry import unknown
from recjax.train.writers import write_json

log = logging.getLogger("recjax")


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of a comparison; docs/comparison.md explains the files."""

  program: str
  name: str
  # "NAME=FILE" of every system, or "NAME=FOLDER" of a run.
  lists: tuple[str, ...] = ()
  # These are read where they are named; of the first run, if there is one, where relevance is not.
  relevance: str = ""
  training: str = ""
  items: str = ""
  users: str = ""
  cutoffs: tuple[Positive, ...] = (1, 5, 10, 20)
  # Metrics that are tested, broken down by group and drawn.
  metrics: tuple[str, ...] = ("ndcg@10", "hr@10")

  def __post_init__(self):
    if not self.cutoffs:
      raise ConfigError("config.cutoffs are the lengths of lists, at least one of them.")


def compare(config: Config, workdir: pathlib.Path) -> dict[str, Any]:
  """Reads the files; writes the comparison into the workdir and returns it."""
  figures = _drawing()
  files, judged_by = _files(config)
  task, lists = read_all(files, depth=max(config.cutoffs) + 1, **judged_by, users=config.users)
  evaluations, reasons = {}, {}
  for name, own in lists.items():
    evaluations[name], reasons[name] = comparison.judge(task, own, config.cutoffs)
  known = next(iter(evaluations.values())).per_case
  for metric in config.metrics:
    if metric not in known:
      raise ConfigError(unknown("metric in config.metrics", metric, known))
  result = {
    "name": config.name,
    "settings": dataclasses.asdict(config),
    "task": task.facts,
    "systems": {
      name: {"values": e.values, "facts": e.facts, "undefined": reasons[name]}
      for name, e in evaluations.items()
    },
    "pairs": comparison.pairwise(evaluations, config.metrics),
    "groups": comparison.by_group(evaluations, task.groups, config.metrics),
    "versions": versions(),
  }
  page = markdown(result)
  with locked(workdir):
    write_json(workdir / "comparison.json", result)
    with writing(workdir):
      (workdir / "comparison.md").write_text(page)
      for name, figure in figures(evaluations, task, config.metrics).items():
        figure.savefig(workdir / f"{name}.png", dpi=150)
  log.info("%s", page)
  log.info("Written: %s", workdir / "comparison.md")
  return result


def _files(config: Config) -> tuple[dict[str, str], dict[str, str]]:
  """File by name of every system, and the files that they are judged by."""
  files, runs = {}, {}
  for entry in config.lists:
    name, sign, file = entry.partition("=")
    if not (name and sign and file):
      raise ConfigError(f"config.lists has {entry!r}; a system is given as NAME=FILE.")
    if name in files:
      raise ConfigError(f"config.lists names the system {name!r} twice.")
    path = pathlib.Path(file)
    if path.is_dir():
      runs[name] = path = path / FOLDER
      if not (path / LISTS).is_file():
        raise ConfigError(
          f"{file} has no lists yet; make them: python -m recjax.main --mode=evaluate --workdir={file}"
        )
      path = path / LISTS
    files[name] = str(path)
  if not files:
    raise ConfigError("Say which lists to judge: --config.lists='(\"NAME=FILE\",)'.")
  if config.relevance:
    judged_by = {key: getattr(config, key) for key in ("relevance", "training", "items")}
    return files, judged_by
  if not runs:
    raise ConfigError("Say what the right answers are: --config.relevance=FILE.")
  first, *others = runs
  for other in others:
    if fingerprint(runs[first] / RELEVANCE) != fingerprint(runs[other] / RELEVANCE):
      raise ConfigError(f"The runs {first!r} and {other!r} were tested on different right answers.")
  names = {"relevance": RELEVANCE, "training": TRAINING, "items": ITEMS}
  return files, {key: str(runs[first] / name) for key, name in names.items()}


def markdown(result: Mapping[str, Any]) -> str:
  """The comparison to read: a table of all values, then tests, groups and what qualifies them."""
  systems = result["systems"]
  names = list(systems)
  lines = [f"# {result['name']}", ""]
  lines += [", ".join(f"{key}: {value:,}" for key, value in result["task"].items()) + ".", ""]
  values = {n: [systems[s]["values"][n] for s in names] for n in systems[names[0]]["values"]}
  rows = [[n, *(_number(v) for v in row)] for n, row in values.items()]
  lines += table(["", *names], rows)
  if result["pairs"]:
    lines += ["## Differences", "", "Paired over users; p by Holm over the pairs of a metric.", ""]
    lines += table(
      ["metric", "system", "minus", "difference", "95 % of the bootstrap", "p (t)", "p (Wilcoxon)"],
      [
        [
          test["metric"], test["system"], test["other"], f"{test['difference']:+.4f}",
          "{:+.4f} to {:+.4f}".format(*test["bootstrap_95"]), f"{test['t_p_holm']:.2g}",
          f"{test['wilcoxon_p_holm']:.2g}",
        ]
        for test in result["pairs"]
      ],
    )
  for column, groups in result["groups"].items():
    metrics = result["settings"]["metrics"]
    lines += [f"## By {column}", "", "Mean ± standard error over the users of a group.", ""]
    lines += table(
      [column, "users", *(f"{s}, {m}" for s in names for m in metrics)],
      [
        [
          group["value"] or "(none)", f"{group['users']:,}",
          *(
            "{mean:.4f} ± {error:.4f}".format(**group["systems"][s][m])
            for s in names for m in metrics
          ),
        ]
        for group in groups
      ],
    )
  lines += ["## What qualifies these figures", ""]
  for name in names:
    for fact, count in systems[name]["facts"].items():
      lines.append(f"- {name}: {fact}: {count:,}")
  undefined = {}
  for name in names:
    for reason in systems[name]["undefined"].values():
      undefined.setdefault(reason, []).append(name)
  lines += [f"- {', '.join(who)}: {reason}" for reason, who in undefined.items()]
  return "\n".join(lines) + "\n"


def _number(value: float) -> str:
  return "–" if np.isnan(value) else f"{value:.4g}"


def _drawing():
  """The function that draws; ConfigError, before any work is done, where matplotlib is missing."""
  try:
    from matplotlib.figure import Figure
  except ImportError:
    raise ConfigError("Drawing needs an extra: run pip install 'recjax[plot]'.") from None

  def draw(evaluations: Mapping[str, Evaluation], task: Task, metrics) -> dict[str, Any]:
    names = list(evaluations)
    means = Figure(figsize=(3.2 * len(metrics), 1.2 + 0.3 * len(names)), layout="constrained")
    for axes, metric in zip(np.atleast_1d(means.subplots(1, len(metrics))), metrics, strict=True):
      values = [evaluations[n].per_case[metric] for n in names]
      error = [1.96 * v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in values]
      axes.errorbar([v.mean() for v in values], range(len(names)), xerr=error, fmt="o", capsize=3)
      axes.set_yticks(range(len(names)), names)
      axes.invert_yaxis()
      axes.set_title(f"{metric}, 95 %")
    exposure = Figure(figsize=(5, 4), layout="constrained")
    axes = exposure.add_subplot()
    share = np.linspace(0, 1, task.num_items + 1)
    for name, evaluation in evaluations.items():
      counts = np.sort(np.bincount(evaluation.lists.ravel(), minlength=task.num_items + 1)[1:])
      axes.plot(share, np.concatenate([[0], np.cumsum(counts)]) / counts.sum(), label=name)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.5)
    axes.set_xlabel("share of items, least recommended first")
    axes.set_ylabel("share of recommendations")
    axes.legend()
    return {"metrics": means, "exposure": exposure}

  return draw
