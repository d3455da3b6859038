"""From a config to the parts of a run: data, split, view, learner, evaluators."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from recjax import registry
from recjax.config import Config
from recjax.data.load import load
from recjax.data.log import EventLog
from recjax.data.splits import Split, make_split
from recjax.data.views.rows import View
from recjax.evaluate.evaluation import Catalogue
from recjax.models.learner import Learner
from recjax.train.mesh import make_mesh


class Parts(NamedTuple):
  """What a run is made of.

  Attributes:
    config: the resolved config.
    mesh: the devices.
    data: the event log, or a table of examples.
    split: training ranges and held-out moments; None for tables, which come split.
    view: rows to train on and cases to evaluate.
    learner: the model as pure functions.
    evaluators: part ("validation", "test") -> evaluator name -> function of variables.
  """

  config: Config
  mesh: Mesh
  data: Any
  split: Split | None
  view: View
  learner: Learner
  evaluators: Mapping[str, Mapping[str, Callable]]


def assemble(config: Config) -> Parts:
  """Loads the data and builds everything that a run needs; no training state yet."""
  mesh = make_mesh(config.mesh)
  data = load(config.data)
  split = make_split(data, config.split) if isinstance(data, EventLog) else None
  view = registry.resolve("view", config.view.name).build(config.view, data, split)
  model = registry.resolve("model", config.model.name)
  learner = model.build(config.model, view.train.schema, view.counts)
  items = data.items if isinstance(data, EventLog) else {}
  catalogue = None
  if "item" in data.vocabularies:
    catalogue = Catalogue(
      data.vocabularies["item"] - 1, view.counts["item"], items.get("category"),
      getattr(view.counts, "transitions", None),
    )
  evaluators = {
    part: {
      name: registry.resolve("evaluator", name).build(
        settings, learner.predict, getattr(view, part), mesh=mesh, catalogue=catalogue
      )
      for name, settings in config.evaluate.items()
    }
    for part in ("validation", "test")
  }
  return Parts(config, mesh, data, split, view, learner, evaluators)
