"""A click table: rows that already are examples, in parts, with the truth where it is known."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recjax.data.frozen import FrozenTable


class ClickTable(NamedTuple):
  """Examples of click models by part.

  Attributes:
    name: name of the data set.
    parts: columns of "train", "validation" and "test" by name, each with n rows: hist_item,
      hist_cat [n, L] int32, oldest first; hist_mask [n, L] bool; target_item, target_cat, user_id,
      group_id [n] int32; label, weight [n] float32; where the truth is known, bayes [n] float32:
      the probability of a click. Items of A categories have hist_cat [n, L, A], target_cat [n, A].
    vocabularies: sizes of user, item and category, padding included.
    bayes_auc: AUC of the true probability by part, which no model can be expected to beat; empty
      where the truth is not known.
    facts: provenance for reports; `bayes_auc` is that of the test part.
    frozen: given vectors by the vocabulary whose ids they have; only "item" is read.
  """

  name: str
  parts: dict[str, dict[str, np.ndarray]]
  vocabularies: dict[str, int]
  bayes_auc: dict[str, float]
  facts: dict[str, Any]
  frozen: Mapping[str, FrozenTable] = {}
