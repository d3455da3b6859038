"""The end of every benchmark: its result is stored and its claims are printed."""

from collections.abc import Mapping
from typing import Any

from recjax.programs.results import write_result
from recjax.programs.runs import versions


def store(result: Mapping[str, Any], **peers: str) -> bool:
  """Writes docs/results/NAME.json and its page; whether all claims hold.

  `passed` and the versions of packages, and of `peers`, are added.
  """
  passed = all(claim["passed"] for claim in result["claims"])
  write_result({**result, "passed": passed, "versions": {**versions(), **peers}})
  for claim in result["claims"]:
    print(f"{'holds' if claim['passed'] else 'FAILS'}: {claim['text']}")
  return passed
