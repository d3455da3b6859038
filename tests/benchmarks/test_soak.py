"""What the claims of benchmarks/soak.py refuse, and a short soak."""

import pytest
import soak


def made(memory=0.0, slower=1.0, files=0, threads=0, code=143):
  """Two hours of samples: growth in bytes an hour, late step time, late files and threads."""
  hours = [i / 100 for i in range(200)]
  samples = [
    {"time": 3600 * h, "own": 1e9 * (1 if h > 0.2 else 0.5) + memory * h + 1e6 * (i % 7),
     "files": 20 + files * (h > 1.6) + i % 3, "threads": 9 + threads * (h > 1.6)}
    for i, h in enumerate(hours)
  ]
  speeds = [100.0 / (slower if h > 1.4 else 1) * (0.1 if h < 0.1 else 1) for h in hours]
  return {"samples": samples, "steps_per_second": speeds, "exit_code": code}


def passed(**changes):
  found = {"one long run": made(), "short runs": made(**changes)}
  return [claim["passed"] for claim in soak.claims(found, soak.MEMORY_LIMIT, soak.STEP_LIMIT)]


def test_a_slow_start_is_no_growth():
  assert passed() == [True] * 5
  assert passed(memory=15 << 20, slower=1.05) == [True] * 5


@pytest.mark.parametrize(
  "changes, failing",
  [({"memory": 25 << 20}, 0), ({"slower": 1.2}, 1), ({"files": 5}, 2), ({"threads": 5}, 3),
   ({"code": 1}, 4)],
)
def test_each_kind_of_growth_is_refused(changes, failing):
  assert passed(**changes) == [i != failing for i in range(5)]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_minute_of_both_processes(tmp_path):
  """Limits are coarse: so short a time has few samples, and memory is still warming up."""
  found = soak.watch(tmp_path, 60)
  held = soak.claims(found, memory_limit=20 << 30, step_limit=3.0)
  assert [c for c in held if not c["passed"] and "threads" not in c["name"]] == []
  assert len(found["one long run"]["steps_per_second"]) > 4
