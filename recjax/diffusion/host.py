"""What a text-to-image network offers to those who build on it.

A host is frozen where a paper adds to it. It names its attention sites, so that a branch with keys and
values of its own can be added to each (`nn.decoupled_attention`) without touching the host.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from recjax.diffusion.schedules import Schedule
from recjax.nn.decoupled_attention import Extra

Text = Mapping[str, jax.Array]  # named arrays [B, ...] that stand for the prompts
Added = Extra | Sequence[Extra] | None  # nothing, a branch, or several that add up


class Host(NamedTuple):
  """A text-conditioned diffusion network as pure functions.

  Attributes:
    init: (key) -> params.
    predict_noise: (params, noised [B, H, W, C], time [B], text, added) -> noise [B, H, W, C].
    blank: (text) -> text of the same shapes that says nothing, for guidance and prompt dropout.
    sites: attention sites by name, with the width of keys and values there.
    schedule: noise over time; `time` above is its time.
    shape: (H, W, C) of a sample.
  """

  init: Callable[[jax.Array], Any]
  predict_noise: Callable[[Any, jax.Array, jax.Array, Text, Added], jax.Array]
  blank: Callable[[Text], Text]
  sites: Mapping[str, int]
  schedule: Schedule
  shape: tuple[int, int, int]
