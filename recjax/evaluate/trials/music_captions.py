"""How well rules route real descriptions of music: MusicCaps (Agostinelli et al., arXiv 2301.11325).

Ten musicians described clips in a caption and in a list of aspects. The list labels a clip as vocal or
instrumental where it names one and not the other; the router sees the caption alone.
"""

import dataclasses
import re

import numpy as np
import pyarrow.parquet as pq

from recjax.data.sources.base import data_root
from recjax.errors import DataError
from recjax.evaluate import arena_routing

_NONE = re.compile(r"\bno (vocals?|voices?|singers?|singing)\b|\binstrumental\b")
_SOME = re.compile(r"\b(vocals?|vocalists?|singers?|singing|sings|rapp?ers?|rapping|choir)\b")


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of an arm."""

  # Answer this always, instead of routing: "", "vocal" or "instrumental".
  always: str = ""


def available() -> bool:
  """Whether the captions are there."""
  try:
    return (data_root() / "musiccaps" / "clips.parquet").is_file()
  except DataError:
    return False


def simulate(config: Config, seed: int) -> dict[str, float]:
  """Metrics: `accuracy`, `vocal_found` and `instrumental_found` of `clips` with a clear label.

  The captions are what they are: all seeds say the same.
  """
  rows = pq.read_table(
    data_root() / "musiccaps" / "clips.parquet", columns=["aspect_list", "caption"]
  ).to_pylist()
  truth, said = [], []
  for row in rows:
    aspects = row["aspect_list"].lower()
    without, with_ = bool(_NONE.search(aspects)), bool(_SOME.search(_NONE.sub(" ", aspects)))
    if without == with_:
      continue
    routed = arena_routing.route(row["caption"], refused=())
    truth.append(with_)
    said.append(config.always == "vocal" if config.always else not routed.prompt.instrumental)
  truth, said = np.array(truth), np.array(said)
  return {
    "accuracy": float((truth == said).mean()),
    "vocal_found": float(said[truth].mean()),
    "instrumental_found": float((~said[~truth]).mean()),
    "clips": float(len(truth)),
  }
