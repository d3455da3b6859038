"""Evaluation of a finished run, again or with other evaluators."""

import pathlib
from typing import Any

import jax

from recjax.config import Config, fingerprint
from recjax.errors import RecjaxError
from recjax.programs import runs
from recjax.programs.assemble import assemble
from recjax.programs.list_files import FOLDER, write_lists
from recjax.serve.export import read_export
from recjax.train.mesh import tree_shardings
from recjax.train.writers import write_json


def evaluate(config: Config | None, workdir: pathlib.Path) -> dict[str, Any]:
  """Evaluates the exported variables of a run; writes and returns evaluation.json.

  With a config, its evaluators and data are used (its model must be the run's); without one, the
  run's own config. What the first evaluator that ranks the catalogue recommends in the test is
  written, too, see `list_files`.
  """
  export = read_export(workdir / "export")
  config = config or export.config
  if config.model != export.config.model:
    raise RecjaxError(f"The config's model is not the one that {workdir} trained.")
  config = runs.one_seed(config)
  parts = assemble(config)
  places = tree_shardings(export.variables, parts.mesh, config.mesh.rules)
  variables = jax.device_put(export.variables, places)
  result: dict[str, Any] = {"config_fingerprint": fingerprint(config), "name": config.name}
  for part in ("validation", "test"):
    evaluations = runs.evaluate_part(parts, variables, part)
    result[part] = runs.summary(evaluations)
    for name, value in result[part]["metrics"].items():
      print(f"{part} {name} {value['mean']:.4f}")
  if jax.process_index() == 0:
    write_json(workdir / "evaluation.json", result)
    made = [e for e in evaluations[0].values() if e.lists is not None]
    if made:
      write_lists(parts, made[0], workdir / FOLDER)
  return result
