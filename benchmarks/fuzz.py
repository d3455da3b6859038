"""Fuzzing: mutated configs, command lines, CSV files and folders of Parquet files.

    python benchmarks/fuzz.py [--examples 500] [--seed 0]

Every mutation must end in one of two ways. It works, which for a config means that all shapes of a
run fit, up to a step, and for data that every row is in the log or counted as dropped, by the count of
another reader. Or it is refused with one sentence that names the key, value or file. The mutations are
those of tests/fuzz, where a few of each run with every test. Writes docs/results/fuzz.json.
Needs `.[test]`.
"""

import argparse
import collections
import contextlib
import io
import os
import pathlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz import configs, files, flags  # noqa: E402 - found by what stands above
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from store import store  # noqa: E402

OUTCOMES = ("accepted", "refused", "failed")
LEAST = 500  # mutations of each kind of input that the claims need


def draw(cases: Any, examples: int, number: int) -> list[Any]:
  """Different mutations, `examples` of them unless there are fewer; the seed decides which."""
  found: dict[str, Any] = {}
  for attempt in range(8):

    @seed(1000 * number + attempt)
    @settings(
      max_examples=examples, database=None, deadline=None, phases=(Phase.generate,),
      suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def collect(case):
      found.setdefault(repr(case), case)

    collect()
    if len(found) >= examples:
      break
  return list(found.values())[:examples]


def quiet(judge: Callable[[Any], tuple[str, str]], case: Any) -> tuple[str, str]:
  """What becomes of a case, without what preparing data prints."""
  with contextlib.redirect_stdout(io.StringIO()):
    return judge(case)


def judge_files(cases: list[files.Case]) -> Iterable[tuple[str, str]]:
  """What becomes of data files, each case in a folder of its own."""
  for case in cases:
    with tempfile.TemporaryDirectory() as folder:
      yield quiet(lambda c, f=folder: files.judge(c, pathlib.Path(f) / "data"), case)


def judge_configs(cases: list[configs.Case]) -> Iterable[tuple[str, str]]:
  """What becomes of configs."""
  return (quiet(configs.judge, case) for case in cases)


INPUTS = {  # the strategy, the kinds of mutation, what becomes of cases
  "configs": (configs.cases, configs.KINDS, judge_configs),
  "command lines": (flags.cases, flags.KINDS, flags.judge_all),
  "CSV files": (files.csv_cases, files.CSV_KINDS, judge_files),
  "Parquet folders": (files.parquet_cases, files.PARQUET_KINDS, judge_files),
}


def measure(name: str, examples: int, number: int) -> tuple[dict[str, Any], list[dict[str, str]]]:
  """The table of outcomes by kind of mutation, and what failed; about as many of each kind."""
  strategy, kinds, judge_all = INPUTS[name]
  cases = []
  for kind in kinds:
    cases += draw(strategy((kind,)), -(-examples // len(kinds)), number)
  # Kinds of which there are few are made up for by any others.
  known = {repr(case) for case in cases}
  more = draw(strategy(kinds), examples, number)
  cases += [case for case in more if repr(case) not in known][: max(examples - len(cases), 0)]
  counts: collections.Counter = collections.Counter()
  failures = []
  for case, (outcome, said) in zip(cases, judge_all(cases), strict=True):
    counts[case.kind, outcome] += 1
    if outcome == "failed":
      what = getattr(case, "changes", getattr(case, "arguments", getattr(case, "detail", "")))
      failures.append({"kind": case.kind, "what": repr(what), "said": said})
      print(f"failed: {name}, {case.kind}, {what!r}: {said}", flush=True)
  kinds = sorted({kind for kind, _ in counts})
  rows = [[kind, *(counts[kind, outcome] for outcome in OUTCOMES)] for kind in kinds]
  rows.append(["all", *(sum(row[i] for row in rows) for i in (1, 2, 3))])
  return {"caption": name, "columns": ["mutation", *OUTCOMES], "rows": rows}, failures


def main() -> None:
  """Runs all four and stores what came of them."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--examples", type=int, default=LEAST, help="mutations of each kind of input")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  os.chdir(ROOT)
  tables, failures, errors = [], {}, []
  with tempfile.TemporaryDirectory() as cache:
    os.environ["RECJAX_CACHE_DIR"] = cache
    for number, name in enumerate(INPUTS):
      started = time.perf_counter()
      try:
        table, failures[name] = measure(name, options.examples, 4 * options.seed + number)
      except Exception as error:  # noqa: BLE001 - a defect of the harness is told, not hidden
        errors.append(f"{name}: {type(error).__name__}: {error}")
        traceback.print_exc()
        continue
      tables.append(table)
      print(f"{name}: {table['rows'][-1]} in {time.perf_counter() - started:.0f} s", flush=True)
  totals = {table["caption"]: table["rows"][-1][1:] for table in tables}
  enough = not errors and min(sum(total) for total in totals.values()) >= LEAST
  data = [name for name in totals if name not in ("configs", "command lines")]
  accepted = sum(totals[name][0] for name in data)
  count = sum(map(sum, totals.values()))
  broken = [f for found in failures.values() for f in found]
  passed = store({
    "name": "fuzz",
    "title": "Mutated configs, command lines and data files",
    "page": "reliability",
    "command": f"python benchmarks/fuzz.py --examples {options.examples} --seed {options.seed}",
    "note": "Each line is a kind of mutation of a valid input. Accepted: a run can begin, or every row "
    "of the file is in the log or counted as dropped, by another reader's count. Refused: one sentence "
    "that names the key, value or file. Failed: anything else, and values that cannot work but "
    "were taken.",
    "tables": tables,
    "claims": [
      {
        "name": "no traceback", "passed": enough and not broken,
        "text": f"no traceback and no sentence that does not name the cause in {count} mutations, "
        f"{LEAST} or more of each kind of input; {len(broken)} failed",
      },
      {
        "name": "no row lost", "passed": enough and not any(failures.get(n) for n in data),
        "text": f"every row of {accepted} mutated data files that were read is accounted for",
      },
    ],
    "failures": failures,
    "errors": errors,
  })
  sys.exit(0 if passed else 1)


if __name__ == "__main__":
  main()
