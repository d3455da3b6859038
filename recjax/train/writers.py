"""What a run writes while it goes: metrics.jsonl, the source of truth, and TensorBoard, its view."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.errors import RecjaxError


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader sees the whole file or none of it."""
  partial = path.with_name(f".{path.name}.partial")
  with open(partial, "w") as file:
    json.dump(plain(value), file, indent=1)
    file.write("\n")
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def read_json(path: pathlib.Path) -> Any:
  """Reads JSON; raises RecjaxError where the file is torn, empty or unreadable."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise RecjaxError(f"{path} is damaged ({error}); delete it, or take a new workdir.") from error


def plain(value: Any) -> Any:
  """Arrays, NumPy scalars and tuples as JSON types; not-a-number as null."""
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if hasattr(value, "tolist"):
    return plain(np.asarray(value).tolist())
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


class Writer:
  """Appends metrics of a run; made anew after an interruption it forgets what came after `step`.

  The test comes last: a test line of the step itself stems from an end that was interrupted.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    self._path = workdir / "metrics.jsonl"
    kept = [
      line for line in read_metrics(workdir)
      if line["step"] < step or line["step"] == step and line["kind"] != "test"
    ]
    partial = self._path.with_name(".metrics.jsonl.partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(partial, self._path)
    self._file = open(self._path, "a")  # noqa: SIM115 - closed by close()
    from tensorboardX import SummaryWriter

    self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1, flush_secs=30)

  def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
    """One line: what kind of values (train, validation, test), at which step."""
    self._file.write(json.dumps({"step": step, "kind": kind, **plain(values)}) + "\n")
    self._file.flush()
    for name, value in values.items():
      for tag, v in _scalars(f"{kind}/{name}", value):
        if np.isfinite(v):  # an undefined value stands in metrics.jsonl as null
          self._board.add_scalar(tag, v, step)

  def close(self) -> None:
    """Flushes and closes the files."""
    self._file.close()
    self._board.close()


def _scalars(tag: str, value: Any):
  tag = tag.replace("@", "_at_")  # TensorBoard knows no '@' in names
  value = np.asarray(value, np.float64)
  if value.ndim == 0:
    yield tag, float(value)
  else:
    for i, v in enumerate(value.reshape(-1)):
      yield f"{tag}/seed{i}", float(v)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """All complete lines of a run's metrics.jsonl; a line torn by a crash is left out."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  if not path.exists():
    return []
  lines = []
  for text in path.read_text().split("\n"):
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      continue
  return lines
