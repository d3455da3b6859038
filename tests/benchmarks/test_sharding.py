"""The short version of benchmarks/sharding.py, on the eight devices of the tests' process."""

import copy

import pytest
import sharding


def test_tables_are_cut_and_traffic_follows_the_batch(monkeypatch):
  """Two towers over 2 x 4 devices, at two sizes, against what one device holds."""
  name = "two towers, by rows"
  monkeypatch.setattr(sharding, "PROGRAMS", {name: sharding.PROGRAMS[name]})
  runs = []
  for size, rows in enumerate((100_000, 1_600_000)):
    found = sharding.measure(sharding.PROGRAMS[name], rows, (2, 4), 64)
    # A table row and its accumulator; on one device, all of them.
    whole = 5 * rows * 4 * (sharding.WIDTH + 1)
    runs += [
      {"program": name, "size": size, "mesh": (2, 4), **found},
      {"program": name, "size": size, "mesh": (1, 1), **found, "tables": whole, "sent": 0},
    ]
    assert found["sent"] > 64 * sharding.WIDTH * 4
  assert all(claim["passed"] for claim in sharding.claims(runs)), sharding.claims(runs)

  # A table that is gathered whole fails each claim.
  for what, failing in (("tables", 0), ("sent", 1), ("working", 2)):
    wrong = copy.deepcopy(runs)
    wrong[2][what] *= 4
    assert [c["passed"] for c in sharding.claims(wrong)] == [i != failing for i in range(3)]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_meshes_hold_all_devices(devices):
  found = sharding.meshes(devices)
  assert len(set(found)) == len(found) and all(a * b == devices for a, b in found)


def test_a_pod_is_as_fast_as_its_slowest_resource():
  small = {"flops": 197e9, "touched": 819e7}
  large = {"sent": 5e8, "tables": 10e9, "working": 7e9}
  row = sharding.pod_row("x", (256, 1), 1000, small, large)
  assert row[3:] == ["1.00", "10.00", "5.00", "memory", "100,000", "17.0", "no"]
