"""A click table: rows that already are examples, in parts, with the truth where it is known."""

from typing import NamedTuple

import numpy as np


class ClickTable(NamedTuple):
  """Examples of click models by part.

  Attributes:
    name: name of the data set.
    parts: columns of "train", "validation" and "test" by name, each with n rows: hist_item,
      hist_cat [n, L] int32, oldest first; hist_mask [n, L] bool; target_item, target_cat, user_id,
      group_id [n] int32; label, weight [n] float32; where the truth is known, bayes [n] float32:
      the probability of a click.
    vocabularies: sizes of user, item and category, padding included.
    facts: provenance; `bayes_auc` by part is the AUC of the true probability.
  """

  name: str
  parts: dict[str, dict[str, np.ndarray]]
  vocabularies: dict[str, int]
  facts: dict
