"""Mutated command lines, each parsed by a copy of one process that has imported the command."""

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fuzz.configs import ENVIRONMENT, ROOT, bases, is_number, leaves, misspelled

KINDS = ("value", "key", "form", "reference")
TEXTS = (
  "abc", "", " ", "-1", "nan", "inf", "1e400", "[1,2", "(1,)", "(1, 'a')", "None", "True", "{}",
  "{'a': 1}", "'", '"', "1;2", "a\nb", "ü", "2**40", "1099511627776", "__import__('os')", "0", "1.5",
)
_CHILD = """
import json, os, sys
from recjax import main
from recjax.config import read_config_file, resolve
from recjax.errors import RecjaxError
def answer(argv):
  sys.argv = argv  # where ml_collections looks for overrides
  try:
    main.parse(argv)
    resolve(main._CONFIG.value)
    return "accepted", ""
  except RecjaxError as error:
    return "refused", "recjax: " + str(error)
  except SystemExit as end:
    return "refused", str(end.code)
  except BaseException as error:
    return "failed", f"{type(error).__name__}: {error}"
read_config_file(sys.argv[1])  # so that copies have imported what configs need
for line in sys.stdin:
  read, write = os.pipe()
  if not os.fork():
    os.write(write, json.dumps(answer(["recjax", *json.loads(line)])).encode())
    os._exit(0)
  os.close(write)
  with os.fdopen(read) as pipe:
    print(pipe.read() or json.dumps(["failed", "the process died"]), flush=True)
  os.wait()
"""


class Case(NamedTuple):
  """Arguments of the command, and whether they must be refused (None: not known)."""

  kind: str
  arguments: tuple[str, ...]
  refusal: bool | None


def cases(kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy[Case]:
  """Mutated command lines."""
  return _cases(tuple(sorted(bases())), kinds)


@st.composite
def _cases(draw: Any, names: tuple[str, ...], kinds: tuple[str, ...]) -> Case:
  pick = lambda *values: draw(st.sampled_from(values))
  base = pick(*names)
  stem, _, suffix = base.partition(":")
  reference = f"--config=experiments/{stem}.py" + (f":{suffix}" if suffix else "")
  own = [(p, v) for p, v in leaves(bases()[base]) if not set(p) & set(ENVIRONMENT)]
  path, old = pick(*[leaf for leaf in own if leaf[0][0] != "data" or leaf[0][-1] == "name"])
  kind, text, key = pick(*kinds), pick(*TEXTS), ".".join(path)
  if kind == "value":
    word = text.strip().strip("'\"")
    refusal = is_number(old) and not word.replace(".", "").replace("-", "").isdigit()
    return Case(kind, (reference, f"--config.{key}={text}"), refusal or None)
  if kind == "key":
    wrong = misspelled(draw, path[-1])
    known = {p[-1] for p, _ in own if p[:-1] == path[:-1]}
    key = ".".join((*path[:-1], wrong))
    return Case(kind, (reference, f"--config.{key}={text}"), wrong not in known)
  if kind == "reference":
    wrong = misspelled(draw, pick("experiments", stem, f"{stem}.py"))
    odd = pick(
      f"--config={wrong}", f"--config={wrong}/{stem}.py", f"{reference},nonsense", f"{reference}:x=1",
      "--config=", "--config=/", "--config=recjax/errors.py", "--config=README.md", "--config",
    )
    return Case(kind, (odd, f"--config.{key}={text}")[: pick(1, 2)], True)
  odd = pick(
    f"--config.{key}", f"--config.{key}.deeper={text}", f"--config.{path[0]}={text}",
    f"--config.{key}[0]={text}", f"--config.{key}[99]={text}", f"--config.={text}",
    f"--config..{key}=1", f"--config{key}={text}", f"-config.{key}={text}", f"--noconfig.{key}",
    f"--config.{key}=={text}",
    f"--config.train.={text}", "--", f"--mode={text}", f"--top={text}", f"--processes={text}",
  )
  return Case(kind, (reference, odd), None)


def judge_all(found: list[Case]) -> list[tuple[str, str]]:
  """("accepted" | "refused" | "failed", what was said) of each command line."""
  lines = "".join(json.dumps(case.arguments) + "\n" for case in found)
  done = subprocess.run(
    [sys.executable, "-c", _CHILD, "experiments/ppd.py:tiny"],
    input=lines, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True,
    timeout=600, check=False,
  )
  answers = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(answers) == len(found), (len(answers), done.stderr[-3000:])
  return [_judged(case, *answer) for case, answer in zip(found, answers, strict=True)]


def _judged(case: Case, outcome: str, said: str) -> tuple[str, str]:
  if outcome == "refused" and not (said.startswith("recjax: ") and said.isprintable()):
    return "failed", f"no sentence: {said!r}"
  if outcome == "refused" and case.kind in ("value", "key"):
    key, _, text = case.arguments[1].removeprefix("--config.").partition("=")
    named = key.rpartition(".")[2] in said or repr(text) in said
    if not named or "Unknown command line flag" in said:
      return "failed", f"does not name {key}: {said}"
  if outcome == "accepted" and case.refusal:
    return "failed", "accepted, which cannot work"
  return outcome, said
