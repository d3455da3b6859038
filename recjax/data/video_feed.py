"""A feed of short videos: products that people touched, videos of products, and what was watched."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

# Kinds of actions, by their number in `actions["kind"]`; 0 is padding.
ACTIONS = ("purchase", "cart", "wishlist", "long_view", "click")


class VideoFeed(NamedTuple):
  """Products, videos, users and a log of impressions; ids start at 1, row 0 is padding.

  Attributes:
    name: name of the data set.
    products: picture int8 [P + 1, M], square pictures of three channels (code c stands for c / 127),
      and words int32 [P + 1, W], padded with 0.
    videos: frames int8 [V + 1, F, M], duration float32 [V + 1] in seconds, known bool [V + 1]: may be
      in the log. The others are new.
    actions: of users, product and kind int32 [U + 1, A], padded with 0, and age float32 [U + 1, A] in
      days.
    log: user, video, slot int32 [n] (slots from 1), seconds float32 [n] watched, and random bool [n]:
      shown in a list in random order.
    truth: user int32 [b] -> float32 [b, V + 1], the probability that a video is watched to its half in
      the first slot, were it of the usual duration.
    vocabularies: sizes of user, video, product and word, padding included.
    facts: provenance for reports.
  """

  name: str
  products: Mapping[str, np.ndarray]
  videos: Mapping[str, np.ndarray]
  actions: Mapping[str, np.ndarray]
  log: Mapping[str, np.ndarray]
  truth: Callable[[np.ndarray], np.ndarray]
  vocabularies: dict[str, int]
  facts: dict[str, Any]
