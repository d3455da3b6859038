"""Runs of the command in processes of their own or in this one, and what they leave behind."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from recjax.config import Config, read_config_file
from recjax.programs.prove import override
from recjax.train.writers import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
TINY = "experiments/sasrec.py:tiny"
# A run of three validations; every test that can shares it, so that it is compiled once.
SHORT = (
  "train.steps=30", "train.log_every=10", "train.evaluate_every=10", "train.batch_size=32",
  "model.width=16", "data.num_users=120",
)
ROWS = ("tables.training=rows", "model.loss=sampled_softmax")
TIMING = ("steps_per_second", "examples_per_second", "data_wait")


def short_config(*settings: str, reference: str = TINY) -> Config:
  """The short run with "key=value" settings, resolved."""
  return override(read_config_file(str(ROOT / reference)), (*SHORT, *settings))


def start(
  workdir: pathlib.Path, *settings: str, config: str = TINY, devices: int = 1,
  flags: Sequence[str] = (), variables: Mapping[str, str] | None = None,
) -> subprocess.Popen:
  """The command with "key=value" settings and environment variables, begun in a process of its own."""
  command = [sys.executable, "-m", "recjax.main", f"--workdir={workdir}", *flags]
  if config:
    command += [f"--config={config}", *(f"--config.{s}" for s in (*SHORT, *settings))]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
  environment |= variables or {}
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )


def end(process: subprocess.Popen, code: int = 0, seconds: float = 120) -> tuple[str, str]:
  """(stdout, stderr) of a process, which must exit with `code`; it never outlives the call."""
  try:
    out, err = process.communicate(timeout=seconds)
  finally:
    process.kill()
  assert process.returncode == code, (process.returncode, out[-2000:], err[-4000:])
  return out, err


def run(workdir: pathlib.Path, *settings: str, code: int = 0, **how: Any) -> tuple[str, str]:
  """Runs the command to its end; returns (stdout, stderr)."""
  return end(start(workdir, *settings, **how), code)


def when(process: subprocess.Popen, happened: Callable[[], bool], do: int, seconds: float = 100):
  """Sends the signal `do` as soon as something has happened; fails if the process ends before."""
  until = time.monotonic() + seconds
  try:
    while not happened():
      assert process.poll() is None, process.communicate()
      assert time.monotonic() < until, "it never happened"
      time.sleep(0.002)
  except BaseException:
    process.kill()
    raise
  os.kill(process.pid, do)


def start_processes(workdir: pathlib.Path, *settings: str) -> list[subprocess.Popen]:
  """The same command on two processes of two devices each."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  join = (f"--coordinator=127.0.0.1:{port}", "--processes=2")
  return [
    start(workdir, *settings, devices=2, flags=(*join, f"--process={i}")) for i in range(2)
  ]


def end_processes(processes: Sequence[subprocess.Popen], code: int = 0) -> list[tuple[str, str]]:
  """Waits for all; whatever happens, none is left."""
  try:
    return [end(process, code, seconds=120) for process in processes]
  finally:
    for process in processes:
      if process.poll() is None:
        kill(process)


def kill(process: subprocess.Popen) -> None:
  """Ends a process as a power cut would."""
  process.send_signal(signal.SIGKILL)
  process.communicate()


def interrupted(finished: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """A copy of a finished short run as it was after step 20."""
  shutil.copytree(finished, folder)
  (folder / "report.json").unlink()
  shutil.rmtree(folder / "export")
  for name in ("validation", "test"):
    (folder / f"cases_{name}.npz").unlink()
  for kind in ("checkpoints", "best"):
    shutil.rmtree(folder / kind / "30", ignore_errors=True)
  logged = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
  (folder / "metrics.jsonl").write_text("".join(logged[:4]))
  return folder


def lines(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """metrics.jsonl without what depends on the clock."""
  return [
    {k: v for k, v in line.items() if k not in TIMING} for line in read_metrics(workdir)
  ]


def report(workdir: pathlib.Path) -> dict[str, Any]:
  """The report of a finished run."""
  return json.loads((workdir / "report.json").read_text())


def exported(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """The exported variables by path."""
  return load_file(workdir / "export" / "variables.safetensors")


def assert_same(one: pathlib.Path, other: pathlib.Path) -> None:
  """Two finished runs agree to the bit in variables, metrics, cases and every logged value."""
  left, right = exported(one), exported(other)
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_array_equal(left[name], right[name], err_msg=name)
  for part in ("validation", "test"):
    assert report(one)[part] == report(other)[part]
    with np.load(one / f"cases_{part}.npz") as a, np.load(other / f"cases_{part}.npz") as b:
      assert sorted(a) == sorted(b)
      for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
  assert report(one)["best_step"] == report(other)["best_step"]
  assert lines(one) == lines(other)


def assert_close(one: pathlib.Path, other: pathlib.Path, rtol: float, atol: float) -> None:
  """Two finished runs agree to rounding: variables within tolerance, ranks all but always.

  A rounding error may swap two items whose scores nearly tie, so metrics may differ by 0.01.
  """
  left, right = exported(one), exported(other)
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_allclose(left[name], right[name], rtol, atol, err_msg=name)
  for a, b in zip(lines(one), lines(other), strict=True):
    assert (a["step"], a["kind"]) == (b["step"], b["kind"])
    for name in a.keys() - {"kind"}:
      if a["kind"] == "train":
        np.testing.assert_allclose(a[name], b[name], 2e-3, 2e-3, err_msg=name)
      elif "@" in name and not name.startswith(("popularity", "novelty", "gini")):
        np.testing.assert_allclose(a[name], b[name], 0, 0.01, err_msg=name)


def tree(workdir: pathlib.Path) -> dict[str, tuple[int, bytes]]:
  """Time of change and content of every file."""
  return {
    str(path.relative_to(workdir)): (path.stat().st_mtime_ns, path.read_bytes())
    for path in sorted(workdir.rglob("*")) if path.is_file()
  }
