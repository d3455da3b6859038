"""Two stages, as recommenders in use have them: one model finds candidates, another one orders them.

    encode_user, score_items   of the retrieval, which scores the whole catalogue
    score                      of the ranking, which scores given candidates beside the history

An evaluator that re-ranks (`list_fairness` with rerank="model") takes the first from the one and the
order from the other. Both are trained in stages of their own and taken over by `config.initialize`;
the loss here is that of the retrieval, so that a run of no learning rate keeps both as they are.

Variables of each collection stand under "retrieval" and "ranking" ("params/ranking"), tables under
names that begin so ("tables/ranking_item"). The ranking reads the fields of the retrieval's batch: one
that needs others, such as categories, is refused by its own `build`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recjax import registry
from recjax.data.schema import Field, Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner
from recjax.models.retrieval._next_item import require

STAGES = ("retrieval", "ranking")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """What must be chosen: any two models."""

  name: str = "two_stage"
  # Scores the whole catalogue.
  retrieval: Any = dataclasses.field(metadata={"module": "model"})
  # Scores candidates.
  ranking: Any = dataclasses.field(metadata={"module": "model"})


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner of both; raises ConfigError where a model does not offer what its stage needs."""
  require(schema, "target_item")
  candidates = {
    "label": Field("float", schema.fields["target_item"].shape),
    "weight": Field("float", schema.fields["target_item"].shape),
  }
  schemas = {"retrieval": schema, "ranking": schema.extend(**candidates)}
  learners = {}
  for stage, names in zip(STAGES, (("encode_user", "score_items"), ("score",)), strict=True):
    own = getattr(config, stage)
    learner = registry.resolve("model", own.name).build(own, schemas[stage], counts)
    for name in names:
      if name not in learner.predict:
        raise ConfigError(f"{own.name!r} cannot be the stage {stage!r}: it does not offer {name!r}.")
    if learner.loss is None:
      raise ConfigError(f"{own.name!r} counts, so it has nothing to take over as stage {stage!r}.")
    learners[stage] = learner
  retrieval, ranking = learners["retrieval"], learners["ranking"]

  def init(key, tables, batch):
    variables: dict[str, dict] = {}
    for stage, stage_key in zip(STAGES, jax.random.split(key), strict=True):
      given = schemas[stage].example(len(batch["target_item"])) | batch
      found = learners[stage].init(stage_key, part({"tables": tables}, stage)["tables"], given)
      for collection, tree in found.items():
        variables.setdefault(collection, {})[stage] = tree
    return variables

  def loss(variables, batch, key):
    objective = retrieval.loss(part(variables, "retrieval"), batch, key)
    changed = {
      name: {**variables[name], "retrieval": tree} for name, tree in objective.mutable.items()
    }
    return objective._replace(mutable=changed)

  draw = None
  if retrieval.draw is not None:
    draw = lambda variables, batch, key: retrieval.draw(part(variables, "retrieval"), batch, key)
  return Learner(
    retrieval.schema,
    {f"{stage}_{name}": spec for stage in STAGES for name, spec in learners[stage].tables.items()},
    init,
    loss,
    {
      "encode_user": lambda v, batch: retrieval.predict["encode_user"](part(v, "retrieval"), batch),
      "score_items": lambda v, state, ids: retrieval.predict["score_items"](
        part(v, "retrieval"), state, ids
      ),
      "score": lambda v, batch: ranking.predict["score"](part(v, "ranking"), batch),
    },
    draw,
    whole_tables=tuple(f"retrieval_{name}" for name in retrieval.whole_tables),
  )


def part(variables: Mapping[str, Any], stage: str) -> dict[str, Any]:
  """The variables of one stage, as its own learner knows them."""
  start = f"{stage}_"
  own = {
    name: tree[stage] for name, tree in variables.items() if name != "tables" and stage in tree
  }
  tables = {
    name.removeprefix(start): table
    for name, table in variables["tables"].items() if name.startswith(start)
  }
  return {**own, "tables": tables}
