"""What a paper's file gives: a `Learner`, a tuple of pure functions, in the manner of optax.

    build(config, schema) -> Learner

`variables` is a dict of collections: `params` (dense, trained by optax), `tables` (embedding tables
by name, trained densely or row by row), and any others the paper needs (`batch_stats`,
`statistics`), which only `Objective.mutable` changes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from recjax.data.schema import Schema
from recjax.nn.tables import TableSpec

Variables = dict[str, Any]
Batch = dict[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, weight)


class Objective(NamedTuple):
  """A loss as a sum and its weight, so that parts of a batch can be added before dividing.

  Attributes:
    loss: scalar sum to minimise; the step divides the gradient by the total weight.
    weight: scalar, for example the number of real targets. Not differentiated.
    metrics: further (sum, weight) pairs to report.
    mutable: new values of the collections that the forward pass changes, such as batch_stats.
  """

  loss: jax.Array
  weight: jax.Array
  metrics: Metrics = {}
  mutable: Mapping[str, Any] = {}


class Learner(NamedTuple):
  """A system to train, as pure functions.

  Attributes:
    schema: fields of the batch that `loss` reads: the view's, plus what `draw` adds.
    tables: embedding tables by name; the trainer creates, shards and updates them.
    init: (key, tables, batch) -> variables without `tables`.
    loss: (variables, batch, key) -> Objective. Fields that index a vocabulary with a table may hold
      compact ids (row numbers of a smaller table in `variables["tables"]`); 0 stays padding.
    predict: named functions of (variables, batch or state, ...), those of `docs/adding_a_paper.md`.
    draw: optional (variables, batch, key) -> batch with further fields (negatives, masks), computed
      from true ids before any table is made compact.
    fit: optional (log, split) -> variables for models that count instead of descending.
    whole_tables: tables of which `loss` reads every row, so that they cannot be trained by rows.
  """

  schema: Schema
  tables: Mapping[str, TableSpec]
  init: Callable[[jax.Array, Mapping[str, jax.Array], Batch], Variables]
  loss: Callable[[Variables, Batch, jax.Array], Objective] | None
  predict: Mapping[str, Callable]
  draw: Callable[[Variables, Batch, jax.Array], Batch] | None = None
  fit: Callable | None = None
  whole_tables: tuple[str, ...] = ()
