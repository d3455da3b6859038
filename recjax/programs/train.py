"""Training, from a config to a report: one story, read from top to bottom.

The same command on every host, run again after any interruption, ends in the same variables and the
same figures: a batch depends on seed and step alone, and a checkpoint holds everything else.
"""

import contextlib
import logging
import pathlib
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recjax.config import Config, fingerprint
from recjax.data.splits import with_validation
from recjax.errors import ConfigError
from recjax.programs import runs
from recjax.programs.assemble import Parts, assemble
from recjax.ranges import LARGEST
from recjax.registry import unknown
from recjax.train import hosts, memory
from recjax.train.checkpoint import Store, abstract_like
from recjax.train.diverged import stop_diverged
from recjax.train.feeds import make_feed
from recjax.train.progress import Progress, Stopwatch, progress_line
from recjax.train.step import Updater, over_seeds
from recjax.train.writers import Writer

log = logging.getLogger("recjax")


def train(
  config: Config, workdir: pathlib.Path, shared: pathlib.Path | None = None
) -> dict[str, Any]:
  """Trains, or goes on training, in a workdir; returns the report, also written as report.json.

  Stages are trained in the workdir, or in the folder `shared` of several runs.
  A finished workdir is left alone. After SIGTERM the state is saved and the report says
  `status: interrupted`.
  """
  # Workdir: finished, another config's, or ours to go on with.
  report = runs.finished(config, workdir)
  if report is not None:
    log.info("%s is finished: nothing to do.", workdir)
    return report
  started = time.perf_counter()

  # Stages that this experiment builds on; finished ones return at once.
  stages = runs.run_stages(config, workdir, train, shared)
  if stages is None:
    return {"status": "interrupted"}

  # Data, view, learner, evaluators.
  parts = assemble(config)
  rows = parts.view.train
  if parts.learner.loss is None:
    # Counting costs nothing, so the test is met with all that is known by then.
    with runs.begun(config, workdir):
      fit = lambda split: jax.device_put(parts.learner.fit(parts.data, split))
      variables = {"validation": fit(parts.split), "test": fit(with_validation(parts.split))}
      return runs.finish(parts, workdir, variables, Progress.create(1), 0, started)
  steps = total_steps(config, rows.count)

  # Shapes and shardings of the state; the feed owns the jitted update.
  updater = Updater(parts.learner, config, rows.schema, parts.mesh, steps)
  seeds = np.arange(config.seed, config.seed + config.seeds, dtype=np.uint32)
  seeds = seeds[0] if config.seeds == 1 else seeds
  create = over_seeds(updater.create, config.seeds)
  abstract = jax.eval_shape(create, seeds)
  shardings = updater.shardings(abstract, config.seeds)
  abstract = abstract_like(abstract, shardings)
  memory.check_fits(abstract, config)
  feed = make_feed(config, rows, updater.update, shardings, parts.mesh, steps)

  # The config can work: from here on the workdir is its own.
  with contextlib.ExitStack() as run, contextlib.ExitStack() as held:
    run.enter_context(runs.begun(config, workdir))
    one = over_seeds(updater.update, config.seeds, (0, None))
    run.enter_context(memory.explained(abstract, one, rows.schema, config))
    hold = lambda thing: held.enter_context(contextlib.closing(thing))
    hold(feed)
    tag = fingerprint(config)
    latest = hold(Store(workdir / "checkpoints", tag, keep=2))
    best = hold(Store(workdir / "best", tag, keep=2))

    # The state: restored if there is a checkpoint, else made in place.
    progress = Progress.create(config.seeds)
    if latest.latest is not None:
      saved = latest.load(
        latest.latest, {"state": abstract, "progress": progress.arrays()},
        config.allow_config_change,
      )
      state, progress = saved["state"], Progress(**saved["progress"])
      step = int(np.max(jax.device_get(state.step)))
      log.info("Going on from step %d.", step)
    else:
      state = jax.jit(create, out_shardings=shardings)(seeds)
      state = runs.initialize(config, stages, state)
      step = 0
    best.forget_after(step)
    keep_best = BestVariables(best, abstract.variables, config)
    writer = hold(Writer(workdir, step)) if jax.process_index() == 0 else None
    watch = Stopwatch(progress, feed)
    terminated = held.enter_context(Terminated())

    while step < steps and not progress.stopped.all():
      # Train up to the next thing to do, without a word from the host in between.
      stop = next_boundary(config, step, steps)
      clear = step % config.train.log_every == 0
      with jax.transfer_guard("disallow"):
        state = feed.advance(state, step, stop, clear)
      window, healthy = jax.device_get((state.window, state.healthy))
      if not healthy.all():
        stop_diverged(updater, rows, state, workdir, config)
      watch.count(stop - step)
      step = stop

      # Log.
      if step % config.train.log_every == 0 or step == steps:
        values = {name: total / np.maximum(weight, 1e-12) for name, (total, weight) in window.items()}
        speed = watch.lap(config.train.batch_size * config.seeds)
        log.info("%s", progress_line(step, steps, values, speed))
        if writer:
          writer.write(step, "train", {**values, **speed})

      # Evaluate, keep the best, stop early.
      last = step == steps
      if last or (config.train.evaluate_every and step % config.train.evaluate_every == 0):
        values = validate(parts, state.variables)
        improved = progress.update(step, values[config.train.select_metric], config.train.patience)
        log.info("%s", evaluation_line(step, values, progress, config.train.select_metric))
        if writer:
          writer.write(step, "validation", values)
        if improved.any():
          latest.wait()  # what an older state refers to is let go only once a newer one is written
          keep_best.save(step, state.variables, improved, progress)
        due = improved.any() or config.train.checkpoint_every == 0
      else:
        due = False

      # Save.
      interrupted = hosts.any_of(terminated.is_set())
      every = config.train.checkpoint_every
      if due or last or interrupted or (every and step % every == 0):
        progress.seconds = np.float64(watch.total())
        latest.save(step, {"state": state, "progress": progress.arrays()})
      if interrupted:
        log.info("Interrupted at step %d; the same command goes on from there.", step)
        return {"status": "interrupted", "step": step}
    variables = keep_best.load(abstract.variables)
    held.close()  # everything is on disk before the report says so

    # The best variables, the test part, the report.
    variables = {"validation": variables, "test": variables}
    return runs.finish(parts, workdir, variables, progress, step, started)


def total_steps(config: Config, row_count: int) -> int:
  """Steps of a run, from `train.steps` or `train.epochs`, exactly one of which is set."""
  if (config.train.steps > 0) == (config.train.epochs > 0):
    raise ConfigError("Set exactly one of train.steps and train.epochs above 0.")
  if config.train.steps:
    return config.train.steps
  steps = max(1, round(config.train.epochs * row_count / config.train.batch_size))
  if steps > LARGEST:
    raise ConfigError(f"train.epochs={config.train.epochs} are {steps} steps, above 2**31.")
  return steps


def next_boundary(config: Config, step: int, steps: int) -> int:
  """The next step after which the host has something to do."""
  intervals = (config.train.log_every, config.train.evaluate_every, config.train.checkpoint_every)
  return min([steps] + [(step // every + 1) * every for every in intervals if every > 0])


def validate(parts: Parts, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Validation values by name, each [seeds]; ConfigError if `select_metric` is not among them."""
  values = runs.values_by_name(runs.evaluate_part(parts, variables, "validation"))
  if parts.config.train.select_metric not in values:
    raise ConfigError(unknown("train.select_metric", parts.config.train.select_metric, values))
  return values


def evaluation_line(step: int, values: Mapping, progress: Progress, select: str) -> str:
  """What a validation says on one line."""
  text = ", ".join(f"{v:.4f}" for v in values[select])
  best = ", ".join(f"{v:.4f} at {s}" for v, s in zip(progress.best, progress.best_step, strict=True))
  return f"validation at step {step}: {select} {text} (best {best})"


class BestVariables:
  """The variables of the best validation so far, of each seed at its own step."""

  def __init__(self, store: Store, abstract: Any, config: Config):
    self._store, self._abstract, self._seeds = store, abstract, config.seeds
    self._allow = config.allow_config_change

  def save(self, step: int, variables: Any, improved: np.ndarray, progress: Progress) -> None:
    """Stores `variables` for the seeds that improved, and what was stored before for the others."""
    if self._seeds > 1 and not improved.all():
      known = progress.best_step[~improved]
      if (known >= 0).all() and self._store.latest is not None:
        before = self.load(self._abstract)
        mask = jax.numpy.asarray(improved)
        pick = lambda new, old: jax.numpy.where(
          mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old
        )
        variables = jax.tree.map(pick, variables, before)
    self._store.save(step, variables)
    # The state that refers to it is written after it is complete.
    self._store.wait()

  def load(self, abstract: Any) -> Any:
    """The stored variables."""
    return self._store.load(self._store.latest, abstract, self._allow)


class Terminated(threading.Event):
  """Set by SIGTERM while the context is open."""

  def __enter__(self) -> "Terminated":
    self._main = threading.current_thread() is threading.main_thread()
    if self._main:
      self._before = signal.signal(signal.SIGTERM, lambda *_: self.set())
    return self

  def __exit__(self, *_) -> None:
    if self._main:
      signal.signal(signal.SIGTERM, self._before)
