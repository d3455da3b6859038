"""Comparisons of samples by users, with the users' past comparisons in chunks and a judge."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

# (samples [n, H, W, C], user [n], prompt [n]) -> values [n] by name, "reward" among them
Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]


class PreferenceTable(NamedTuple):
  """Pairs of samples of one prompt, of which a user preferred one.

  Attributes:
    name: name of the data set.
    samples: float32 [N, H, W, C], each once.
    prompt: int32 [N] prompt of each sample.
    prompts: what stands for each prompt, arrays [P, ...] by the name that a network knows it under.
    user: int32 [M] who compared, ascending, from 1.
    winner: int32 [M] number of the preferred sample.
    loser: int32 [M].
    chunk_user: int32 [K] users of the chunks, ascending.
    chunk: int32 [K, n] comparisons of each chunk; every comparison is in one chunk at most.
    tokens: float32 [K, L, D] what describes each chunk's user, or None.
    groups: users of "train" and "validation", and those of each group of the test by name.
    judge: how much users like samples, new ones too; "reward" and further values.
    vocabularies: size of user, padding included.
    facts: provenance for reports.
  """

  name: str
  samples: np.ndarray
  prompt: np.ndarray
  prompts: Mapping[str, np.ndarray]
  user: np.ndarray
  winner: np.ndarray
  loser: np.ndarray
  chunk_user: np.ndarray
  chunk: np.ndarray
  tokens: np.ndarray | None
  groups: Mapping[str, Any]
  judge: Judge
  vocabularies: Mapping[str, int]
  facts: Mapping[str, Any]
