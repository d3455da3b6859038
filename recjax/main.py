"""The command line: `python -m recjax.main --config=experiments/NAME.py --workdir=FOLDER`."""

import os
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

from recjax.config import explain_flags
from recjax.errors import RecjaxError
from recjax.huge_pages import restart_with_huge_pages

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Experiment file, with arguments after a colon: experiments/sasrec.py:tiny",
  lock_config=True,
)
_MODE = flags.DEFINE_enum(
  "mode", "train", ["train", "evaluate", "recommend", "prove", "leaderboard", "encode"], "What to do."
)
# Programs whose configs a mode takes; a config that names none is an experiment's.
_TAKES = {
  "leaderboard": ("leaderboard",), "prove": ("experiment", "study"),
  "evaluate": ("experiment", "comparison"), "encode": ("encode",),
}
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same command goes on in it.")
_HISTORY = flags.DEFINE_string("history", "", "recommend: labels or ids, oldest first, '|' between.")
_TOP = flags.DEFINE_integer("top", 10, "recommend: how many items.", lower_bound=1)
_MULTIHOST = flags.DEFINE_bool(
  "multihost", False, "Join the other hosts of a pod or cluster job before anything else."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of process 0, where the cluster does not say it by itself."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "With --coordinator: how many processes.")
_PROCESS = flags.DEFINE_integer("process", None, "With --coordinator: number of this process.")


def main(argv: list[str]) -> None:
  """Runs one mode; mistakes in what was given end with one sentence, without a traceback."""
  if len(argv) > 1:
    sys.exit(f"recjax: what is {argv[1]!r}? Flags begin with '--'; see --help.")
  try:
    run()
  except RecjaxError as error:
    if os.environ.get("RECJAX_TRACEBACK"):
      raise
    sys.exit(f"recjax: {error}")
  except Exception as error:
    if "recjax.programs.start" in sys.modules:
      from recjax.programs import start

      start.end_if_alone(error)
    raise


def run() -> None:
  """Imports what the mode needs and calls it."""
  if _MODE.value != "prove" and not _WORKDIR.value:
    raise RecjaxError("Say where the run lives: --workdir=FOLDER.")
  if _MODE.value in ("train", "prove", "leaderboard", "encode") and _CONFIG.value is None:
    raise RecjaxError("Say what to run: --config=experiments/NAME.py.")
  from recjax.programs import start

  start.runtime(_MULTIHOST.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  from recjax.config import resolve

  config = None if _CONFIG.value is None else resolve(_CONFIG.value)
  workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
  program = getattr(config, "program", "experiment")
  takes = _TAKES.get(_MODE.value, ("experiment",))
  if config is not None and program not in takes:
    raise RecjaxError(
      f"--mode={_MODE.value} takes the config of {' or '.join(takes)}, and this is one of {program}."
    )
  if _MODE.value == "train":
    from recjax.programs.train import train

    if train(config, workdir)["status"] == "interrupted":
      sys.exit(143)  # what a shell reports for SIGTERM: not finished, run me again
  elif program == "comparison":
    from recjax.programs.comparison import compare

    compare(config, workdir)
  elif _MODE.value == "evaluate":
    from recjax.programs.evaluate import evaluate

    evaluate(config, workdir)
  elif _MODE.value == "recommend":
    from recjax.programs.recommend import recommend

    recommend(workdir, _HISTORY.value, _TOP.value)
  elif program == "leaderboard":
    from recjax.programs.leaderboard import leaderboard

    leaderboard(config, workdir)
  elif program == "encode":
    from recjax.programs.encode import encode

    encode(config, workdir)
  elif program == "study":
    from recjax.programs.study import study

    study(config)
  else:
    from recjax.programs.prove import prove

    prove(config, workdir)


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake in one ends with one sentence."""
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is not None:
      _CONFIG.value.keys()  # a config that failed to load says so only when it is used
    return rest
  except (
    ValueError, flags.Error, LookupError, AttributeError, OSError, TypeError, SyntaxError
  ) as error:
    sys.exit(f"recjax: {explain_flags(argv, error)}")


def entry() -> None:
  """Entry point of the installed command."""
  if {"--help", "--helpfull", "--helpshort", "-h"} & set(sys.argv[1:]):
    app.run(main)  # absl prints the help itself
  restart_with_huge_pages()
  app.run(main, flags_parser=parse)


if __name__ == "__main__":
  entry()
