"""The view of pairs of items: one category, two items, nobody held out; errors."""

import numpy as np
import pytest
from logs import gathered

from recjax.data.load import load
from recjax.data.views import item_pairs
from recjax.errors import ConfigError, DataError

SIZES = {"num_train": 300, "num_validation": 5, "num_test": 5, "num_items": 640, "length": 10}


@pytest.fixture(scope="module")
def data():
  return load({"name": "planted", "generator": "vectors", **SIZES})


def test_pairs_are_of_one_category_and_held_out_items_are_in_none(data):
  view = item_pairs.build(item_pairs.Config(partners=3), data, None)
  first, second = view.train.columns["first"], view.train.columns["second"]
  assert (first != second).all() and ((first - 1) % 64 == (second - 1) % 64).all()
  held = [set(part.user.tolist()) for part in (view.validation, view.test)]
  own = set(first.tolist()) | set(second.tolist())
  assert not held[0] & held[1] and not own & (held[0] | held[1])
  seen = set(data.parts["train"]["hist_item"].ravel()) | set(data.parts["train"]["target_item"])
  assert own | held[0] | held[1] <= seen and view.facts["items"] == len(seen)
  assert len(held[0]) == len(held[1]) == round(0.1 * len(seen))
  assert set(np.bincount(first)[list(own)]) == {3}
  # Any other item of the category may be the partner.
  assert len(set(zip(first.tolist(), second.tolist(), strict=True))) > 0.7 * len(first)
  for part in (view.validation, view.test):
    np.testing.assert_array_equal(part.targets[:, 0], (part.user - 1) % 64 + 1)
    np.testing.assert_array_equal(
      gathered(part.rows)["first_vector"], data.frozen["item"].codes[part.user]
    )
  batch = gathered(view.train)
  np.testing.assert_array_equal(batch["second_vector"], data.frozen["item"].codes[second])
  np.testing.assert_array_equal(batch["pair_group"], (second - 1) % 64 + 1)
  np.testing.assert_array_equal(view.counts["item"], np.bincount(first, minlength=641))
  again = item_pairs.build(item_pairs.Config(partners=3), data, None)
  np.testing.assert_array_equal(again.train.columns["second"], second)


def test_what_cannot_be_paired_is_named(data):
  build = lambda data: item_pairs.build(item_pairs.Config(), data, None)
  with pytest.raises(DataError, match="needs a click table whose items have given vectors"):
    build(data._replace(frozen={}))
  without = {p: {n: c for n, c in x.items() if "cat" not in n} for p, x in data.parts.items()}
  with pytest.raises(DataError, match="pairs items by category, of which each must have one"):
    build(data._replace(parts=without))
  alone = {p: {**x, "hist_cat": x["hist_item"], "target_cat": x["target_item"]}
           for p, x in data.parts.items()}
  with pytest.raises(DataError, match="has no two training items of one category"):
    build(data._replace(parts=alone))
  with pytest.raises(ConfigError, match="held_out is a share above 0 and below 0.5, not 0.5"):
    item_pairs.Config(held_out=0.5)
