"""From a trained encoder of items to the frozen table that models read."""

from pathlib import Path

import jax
import numpy as np

from recjax import registry
from recjax.data.frozen import FrozenTable, write_frozen
from recjax.errors import ConfigError
from recjax.serve.export import read_export


def write_item_vectors(
  run: Path, inputs: FrozenTable, path: Path, dtype: str = "int8", batch_size: int = 1024
) -> FrozenTable:
  """Encodes every item of `inputs` with the encoder of a finished run; an item of zeros gets zeros.

  Args:
    run: workdir of a model that has predict["encode"], which reads first_vector.
    inputs: what is encoded, as that run read it.
    path: of the table.
    dtype: of the table.
    batch_size: items encoded at once.

  Raises:
    ConfigError: the model is no encoder, or reads rows of another width or dtype.
  """
  export = read_export(run / "export")
  model = registry.resolve("model", export.config.model.name)
  learner = model.build(export.config.model, export.schema)
  if "encode" not in learner.predict:
    raise ConfigError(f"The model {export.config.model.name!r} of {run} encodes no items.")
  field, codes = export.schema.fields["first_vector"], inputs.codes
  if (field.kind, field.shape) != (inputs.kind, (inputs.width,)):
    raise ConfigError(
      f"{run} encodes rows of {field.shape[0]} {field.dtype}, not of {inputs.width} {codes.dtype}."
    )
  encode = jax.jit(lambda rows: learner.predict["encode"](export.variables, {"first_vector": rows}))
  count = len(codes) - 1
  width = jax.eval_shape(encode, jax.ShapeDtypeStruct((1, inputs.width), codes.dtype)).shape[1]

  def blocks():
    for start in range(1, count + 1, batch_size):
      rows = np.zeros((batch_size, inputs.width), codes.dtype)
      part = codes[start : start + batch_size]
      rows[: len(part)] = part
      made = np.array(encode(rows))[: len(part)]
      made[~part.any(1)] = 0.0
      yield made

  return write_frozen(path, blocks(), count, width, dtype)
