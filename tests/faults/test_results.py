"""What benchmarks/faults.py makes of the tests that it runs."""

import xml.etree.ElementTree as ElementTree

import running

REPORT = """
<testsuites><testsuite>
  <testcase name="test_a" time="1.5"><properties>
    <property name="row" value='["fault a", 100, "bit-equal"]'/></properties></testcase>
  <testcase name="test_b" time="0.5"><failure message="no"/><properties>
    <property name="row" value='["fault b", 1, "bit-equal"]'/></properties></testcase>
  <testcase name="test_c" time="0"><skipped message="no mounts"/></testcase>
</testsuite></testsuites>
"""


def test_a_failed_or_skipped_test_is_a_row_and_a_failed_one_breaks_the_claim(monkeypatch):
  monkeypatch.syspath_prepend(running.ROOT / "benchmarks")
  import faults

  found = faults.read(ElementTree.fromstring(REPORT))
  assert found["rows"] == [
    ["fault a", 100, "bit-equal"], ["test_b", 1, "**failed**"], ["test_c", 0, "not done: no mounts"]
  ]
  assert (found["passed"], found["failed"], found["skipped"], found["seconds"]) == (1, 1, 1, 2.0)
  result = faults.result({"kill": found})
  assert not result["claims"][0]["passed"] and "memory" in result["left_out"]
  assert faults.result({"kill": {**found, "failed": 0}})["claims"][0]["passed"]
  assert sorted(faults.PARTS) == sorted(
    path.stem.removeprefix("test_") for path in (running.ROOT / "tests/faults").glob("test_*.py")
    if path.stem != "test_results"
  )
