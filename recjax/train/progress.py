"""How a run is doing: the best validation of each seed, patience, speed and time."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.errors import RecjaxError


@dataclasses.dataclass
class Progress:
  """Validation history of each seed [S], stored in checkpoints.

  A seed that ran out of patience keeps its best for good, even while other seeds of the same program
  train on: it ends where it would have ended alone.
  """

  best: np.ndarray
  best_step: np.ndarray
  stale: np.ndarray
  stopped: np.ndarray
  seconds: np.ndarray

  @classmethod
  def create(cls, seeds: int) -> "Progress":
    """Nothing validated yet."""
    return cls(
      np.full(seeds, -np.inf), np.full(seeds, -1, np.int64), np.zeros(seeds, np.int64),
      np.zeros(seeds, np.int64), np.zeros((), np.float64),
    )

  def arrays(self) -> dict[str, np.ndarray]:
    """The fields as arrays, for a checkpoint."""
    return {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}

  def update(self, step: int, values: np.ndarray, patience: int) -> np.ndarray:
    """Takes in a validation [S]; returns which seeds improved. patience 0 = never stop."""
    if not np.isfinite(values).all():
      raise RecjaxError(f"The validation value at step {step} is not finite: {np.asarray(values)}.")
    improved = (np.asarray(values) > self.best) & (self.stopped == 0)
    self.best = np.where(improved, values, self.best)
    self.best_step = np.where(improved, step, self.best_step)
    self.stale = np.where(improved, 0, self.stale + 1)
    if patience:
      self.stopped = np.where(self.stale >= patience, 1, self.stopped)
    return improved


class Stopwatch:
  """Wall time of training, also across interruptions, and speed between log lines."""

  def __init__(self, progress: Progress, feed: Any):
    self._before = float(progress.seconds)
    self._feed = feed
    self._start = self._mark = time.perf_counter()
    self._wait, self._steps = 0.0, 0

  def count(self, steps: int) -> None:
    """Steps made."""
    self._steps += steps

  def total(self) -> float:
    """Seconds since training began, without the time between interruption and restart."""
    return self._before + time.perf_counter() - self._start

  def lap(self, examples_per_step: int) -> dict[str, float]:
    """Speed since the last call: steps/s, examples/s, share of time waited for data."""
    now = time.perf_counter()
    elapsed = max(now - self._mark, 1e-9)
    speed = {
      "steps_per_second": self._steps / elapsed,
      "examples_per_second": self._steps * examples_per_step / elapsed,
      "data_wait": (self._feed.wait_seconds - self._wait) / elapsed,
    }
    self._mark, self._wait, self._steps = now, self._feed.wait_seconds, 0
    return speed


def progress_line(
  step: int, steps: int, values: Mapping[str, np.ndarray], speed: Mapping[str, float]
) -> str:
  """What training says on one line: losses, speed, waiting, time to go."""
  metrics = "  ".join(
    f"{name} {np.mean(value):.4f}" for name, value in values.items() if name != "gradient_norm"
  )
  left = (steps - step) / max(speed["steps_per_second"], 1e-9)
  eta = f"{int(left // 3600)}h{int(left % 3600 // 60):02d}m" if left >= 3600 else (
    f"{int(left // 60)}m{int(left % 60):02d}s"
  )
  return (
    f"step {step}/{steps}  {metrics}  |g| {np.mean(values['gradient_norm']):.3f}  "
    f"{speed['examples_per_second']:,.0f} examples/s  data wait {speed['data_wait']:.0%}  eta {eta}"
  )
