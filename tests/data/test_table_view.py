"""The view of click tables: histories of the test part in random order, and nothing else."""

import numpy as np
import pytest
from logs import gathered

from recjax.data.load import load
from recjax.data.schema import Field
from recjax.data.views import table


@pytest.mark.parametrize("generator", ["threads", "multi"])
def test_only_the_order_of_test_histories_is_shuffled(generator):
  sizes = {"num_train": 40, "num_validation": 40, "num_test": 40}
  data = load({"name": "planted", "generator": generator, **sizes})
  mask = data.parts["test"]["hist_mask"]
  begin = np.random.default_rng(0).integers(0, mask.shape[1], 40)
  mask[:] = np.arange(mask.shape[1]) >= begin[:, None]
  made = [table.build(table.Config(shuffle_test=s), data, None) for s in (False, True)]
  for part in ("train", "validation", "test"):
    rows = [getattr(view, part) for view in made]
    plain, mixed = (gathered(r if part == "train" else r.rows) for r in rows)
    for name in plain:
      moved = part == "test" and name in ("hist_item", "hist_cat")
      assert (plain[name] != mixed[name]).any() == moved, (part, name)
  mask = plain["hist_mask"]
  np.testing.assert_array_equal(plain["hist_item"][~mask], mixed["hist_item"][~mask])
  # An item keeps its categories.
  first = lambda batch: batch["hist_cat"].reshape(*mask.shape, -1)[:, :, 0]
  pairs = [np.sort(np.where(mask, 1000 * b["hist_item"] + first(b), 0)) for b in (plain, mixed)]
  np.testing.assert_array_equal(*pairs)
  again = table.build(table.Config(shuffle_test=True), data, None).test.rows
  np.testing.assert_array_equal(gathered(again)["hist_item"], mixed["hist_item"])


def test_vectors_are_those_of_the_items():
  sizes = {"num_train": 40, "num_validation": 40, "num_test": 40}
  data = load({"name": "planted", "generator": "vectors", **sizes})
  made = table.build(table.Config(), data, None)
  assert made.train.schema.fields["hist_vector"] == Field("vector", (100, 16))
  vectors = data.frozen["item"].codes
  for rows in (made.train, made.validation.rows):
    batch = gathered(rows)
    for kind in ("hist", "target"):
      np.testing.assert_array_equal(batch[f"{kind}_vector"], vectors[batch[f"{kind}_item"]])
  assert "item_vectors" not in batch
