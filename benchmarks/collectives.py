"""Bytes that a compiled program moves between devices, read from its optimized HLO text.

    collectives(compiled.as_text()) -> list of Collective, what one device takes part in

Sizes are those of shapes in the program; bytes sent follow the ring algorithm, in which every device
sends to its neighbour: twice (n - 1) / n of the array for an all-reduce over n devices, once for an
all-gather, a reduce-scatter or an all-to-all, the whole of it for a permute.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

# Of the whole array over n devices: what one of them sends in a ring.
_SENT = {
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-gather": lambda n: (n - 1) / n,
  "reduce-scatter": lambda n: (n - 1) / n,
  "all-to-all": lambda n: (n - 1) / n,
  "ragged-all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1.0,
  "collective-broadcast": lambda n: 1.0,
}
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
_INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?[\w.-]+ = (?P<shape>.*?) (?P<kind>" + "|".join(_SENT) + r")(?P<start>-start)?\("
)
_WHILE = re.compile(r"[ )}]while\(")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_REFERENCE = re.compile(
  r"\b(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
  """A collective operation as one device meets it in a run of the program.

  Attributes:
    kind: "all-reduce" and so on.
    size: bytes of the whole array: of the result, of a reduce-scatter of what it scatters.
    group: devices that take part together.
    times: how often it runs; 1 in a loop whose length the program does not say.
    counted: whether `times` is known.
  """

  kind: str
  size: int
  group: int
  times: int
  counted: bool

  @property
  def sent(self) -> float:
    """Bytes that one device sends, all times together."""
    return self.times * self.size * (_SENT[self.kind](self.group) if self.group > 1 else 0.0)


def collectives(text: str) -> list[Collective]:
  """The collectives of an HLO module, those of called computations and loops included.

  Raises ValueError for a text without entry, an element type of unknown size and groups in an unknown
  notation.
  """
  devices = _header(text, "num_partitions") * _header(text, "replica_count")
  own: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
  calls: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
  name = entry = None
  for line in text.split("\n"):
    head = _COMPUTATION.match(line)
    if head:
      name = head["name"]
      entry = name if head["entry"] else entry
      continue
    found = _INSTRUCTION.match(line)
    if found:
      kind, group = found["kind"], _group(line, found["kind"], devices)
      size = _bytes(_result(found["shape"], kind, bool(found["start"])))
      own[name].append((kind, size * (group if kind == "reduce-scatter" else 1), group))
      continue
    trips = _TRIPS.search(line)
    times = 1 if not _WHILE.search(line) else int(trips[1]) if trips else None
    called = _REFERENCE.findall(line)
    for branches in _BRANCHES.findall(line):
      called += [branch.strip().lstrip("%") for branch in branches.split(",")]
    calls[name] += [(other, times) for other in called]
  if entry is None:
    raise ValueError("This is no text of an HLO module: it has no ENTRY computation.")
  return _walk(entry, 1, True, own, calls)


def sent_by_kind(found: Sequence[Collective]) -> dict[str, float]:
  """Bytes that a device sends in a run, by kind, largest first."""
  total: dict[str, float] = defaultdict(float)
  for one in found:
    total[one.kind] += one.sent
  return dict(sorted(total.items(), key=lambda item: -item[1]))


def _walk(name, times, counted, own, calls) -> list[Collective]:
  found = [Collective(*one, times, counted) for one in own.get(name, ())]
  for other, trips in calls.get(name, ()):
    found += _walk(other, times * (trips or 1), counted and trips is not None, own, calls)
  return found


def _header(text: str, key: str) -> int:
  found = re.search(rf"{key}=(\d+)", text.split("\n", 1)[0])
  return int(found[1]) if found else 1


def _result(shape: str, kind: str, start: bool) -> str:
  """The result's shape; that of most asynchronous starts is (operands, results, ...)."""
  if not start or kind == "all-reduce":
    return shape
  parts, depth, first = [], 0, 1
  for at, letter in enumerate(shape):
    depth += letter in "([{"
    depth -= letter in ")]}"
    if (letter == "," and depth == 1) or depth == 0:
      parts.append(shape[first:at])
      first = at + 1
  return parts[1]


def _bytes(shape: str) -> int:
  """Bytes of an array or of all arrays of a tuple."""
  total = 0
  for element, sizes in re.findall(r"\b([a-z]\w*)\[([\d,<=]*)\]", shape):
    number = math.prod(int(s.lstrip("<=")) for s in sizes.split(",") if s)
    total += number * _bits(element) // 8
  return total


def _bits(element: str) -> int:
  if element in _BITS:
    return _BITS[element]
  found = re.match(r"[a-z](\d+)", element)
  if not found:
    raise ValueError(f"How long is an element of type {element!r}?")
  return int(found[1])


def _group(line: str, kind: str, devices: int) -> int:
  """How many devices take part together; written in one of four ways."""
  if kind == "collective-permute":
    listed = line.partition("source_target_pairs=")[2].partition("}}")[0] + "}"
    pairs = re.findall(r"\{(\d+),(\d+)\}", listed)
    return devices if any(a != b for a, b in pairs) else 1
  groups = line.partition("replica_groups=")[2]
  if not groups or groups.startswith("{}"):
    return devices
  if listed := re.match(r"\{\{([\d,]*)\}", groups):
    return len(listed[1].split(","))
  if tiled := re.match(r"\[\d+,(\d+)\]<=", groups):
    return int(tiled[1])
  if mesh := re.match(r"@?mesh\w*\[([^\]]*)\].*?\{([^}]*)\}", groups):
    sizes = dict(re.findall(r"'?(\w+)'?=(\d+)", mesh[1]))
    # 'axis' is all of an axis, 'axis':(1)2 a part of 2 of it.
    axes = re.findall(r"'?(\w+)'?(?::\(\d+\)(\d+))?(?:,|$)", mesh[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  raise ValueError(f"Which devices are meant by replica_groups={groups[:80]}?")
