"""What a run writes while it goes: metrics.jsonl, the source of truth, and TensorBoard, its view."""

import json
import logging
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recjax.errors import RecjaxError, writing

log = logging.getLogger("recjax")


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader sees the whole file or none of it."""
  partial = path.with_name(f".{path.name}.partial")
  with writing(path), open(partial, "w") as file:
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
    with writing(self._path):
      partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
      os.replace(partial, self._path)
      self._file = open(self._path, "a")  # noqa: SIM115 - closed by close()
    self._board = Board(workdir / "tensorboard", step + 1)

  def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
    """One line: what kind of values (train, validation, test), at which step."""
    with writing(self._path):
      self._file.write(json.dumps({"step": step, "kind": kind, **plain(values)}) + "\n")
      self._file.flush()
    scalars = (pair for name, value in values.items() for pair in _scalars(f"{kind}/{name}", value))
    # An undefined value stands in metrics.jsonl as null.
    self._board.write(step, {tag: v for tag, v in scalars if np.isfinite(v)})

  def close(self) -> None:
    """Closes the files; what was written is on its way to the disk already."""
    with writing(self._path):
      self._file.close()
    self._board.close()


class Board:
  """A TensorBoard event file, written by the calling thread: a writer thread that met a full disk
  would leave the run waiting for it.
  """

  def __init__(self, folder: pathlib.Path, first_step: int):
    """TensorBoard forgets what earlier files of the folder hold from `first_step` on."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2
    from tensorboardX.summary import scalar

    self._folder, self._event, self._scalar = folder, event_pb2.Event, scalar
    with writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._events = EventsWriter(str(folder / "events"))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._put([event_pb2.Event(wall_time=time.time(), step=first_step, session_log=start)])

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Finite values by tag."""
    now = time.time()
    self._put([
      self._event(wall_time=now, step=step, summary=self._scalar(tag, value))
      for tag, value in values.items()
    ])

  def close(self) -> None:
    """Closes the file."""
    with writing(self._folder):
      self._events.close()

  def _put(self, events: Sequence[Any]) -> None:
    with writing(self._folder):
      for event in events:
        self._events.write_event(event)
      self._events.flush()


def _scalars(tag: str, value: Any):
  tag = tag.replace("@", "_at_")  # TensorBoard knows no '@' in names
  value = np.asarray(value, np.float64)
  if value.ndim == 0:
    yield tag, float(value)
  else:
    for i, v in enumerate(value.reshape(-1)):
      yield f"{tag}/seed{i}", float(v)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """All complete lines of a run's metrics.jsonl; a last line torn by a crash is left out.

  So is one that is damaged otherwise, with a warning.
  """
  path = pathlib.Path(workdir) / "metrics.jsonl"
  if not path.exists():
    return []
  lines = []
  texts = path.read_text(errors="replace").split("\n")
  for number, text in enumerate(texts, start=1):
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      line = None
    if isinstance(line, dict) and isinstance(line.get("step"), int) and "kind" in line:
      lines.append(line)
    elif number < len(texts):
      log.warning("%s: line %d is damaged and left out.", path, number)
  return lines
