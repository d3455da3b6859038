"""Numbers that a setting can have, as types: `width: Positive = 64`, `dropout: Rate = 0.2`.

`config.typed` reads them from the annotations of a dataclass and refuses what is outside, whatever a
field is called. A field annotated with plain `int` or `float` may be any number that a device can hold.
"""

import math
from typing import Annotated, NamedTuple

LARGEST = 2**31 - 1  # int32, as ids, steps and seeds are on devices
LARGEST_FLOAT = 3.4e38  # float32


class Range(NamedTuple):
  """Numbers from `low` to `high`, either of which may be left out; never NaN or infinite."""

  low: float
  high: float
  above_low: bool = False
  below_high: bool = False

  def holds(self, value: float) -> bool:
    """Whether a number is inside."""
    inside = math.isfinite(value) and self.low <= value <= self.high
    at_edge = (self.above_low and value == self.low) or (self.below_high and value == self.high)
    return inside and not at_edge

  def __str__(self) -> str:
    if (self.low, self.high) == (0, 1) and not (self.above_low or self.below_high):
      return "between 0 and 1"
    low = f"{'above' if self.above_low else 'at least'} {self.low:g}"
    high = f"{'below' if self.below_high else 'at most'} {self.high:g}"
    if self.high == LARGEST:
      high = "below 2**31"
    elif self.high > LARGEST:
      high = "finite"
    return high if self.low in (-LARGEST, -LARGEST_FLOAT) else f"{low} and {high}"


ANY = {int: Range(-LARGEST, LARGEST), float: Range(-LARGEST_FLOAT, LARGEST_FLOAT)}
Count = Annotated[int, Range(0, LARGEST)]
Positive = Annotated[int, Range(1, LARGEST)]
Bytes = Annotated[int, Range(0, 2**63 - 1)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1, below_high=True)]  # of dropout: something is left
Weight = Annotated[float, Range(0, LARGEST_FLOAT)]
Above0 = Annotated[float, Range(0, LARGEST_FLOAT, above_low=True)]
