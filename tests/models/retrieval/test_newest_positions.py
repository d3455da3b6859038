"""Encoders that are asked for the newest positions alone give what they give for all positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models.retrieval import bert4rec, gru4rec, mqsa_ted, sasrec
from recjax.nn.encoder_block import LAYOUTS
from recjax.nn.tables import TableSpec, init_rows

LENGTH, WIDTH, ITEMS = 7, 8, 12
SASRECS = {
  f"sasrec-{norm}-{layers}": sasrec.SASRec(
    sasrec.Config(width=WIDTH, layers=layers, norm=norm), LENGTH
  )
  for norm in LAYOUTS for layers in (0, 1, 2)
}
ENCODERS = {
  **SASRECS,
  "gru4rec": gru4rec.GRU4Rec(gru4rec.Config(width=WIDTH, layers=2)),
  "mqsa-1": mqsa_ted.MQSA(mqsa_ted.Config(width=WIDTH, heads=2, query_window=3), LENGTH),
  "mqsa-2": mqsa_ted.MQSA(mqsa_ted.Config(width=WIDTH, heads=2, query_window=3, blocks=2), LENGTH),
}


@pytest.fixture(scope="module")
def batch():
  """Histories that fill the row, part of it, one place, and none."""
  mask = np.arange(LENGTH)[None] >= LENGTH - np.array([LENGTH, 4, 1, 0])[:, None]
  ids = np.random.default_rng(0).integers(1, ITEMS, mask.shape)
  return {"hist_item": jnp.asarray(ids * mask, jnp.int32), "hist_mask": jnp.asarray(mask)}


TABLES = {"item": init_rows(jax.random.key(0), TableSpec("item", WIDTH, 0.5), 0, ITEMS)}


@pytest.mark.parametrize("name", ENCODERS)
def test_states_of_the_newest_positions_are_those_among_all(name, batch):
  encoder = ENCODERS[name]
  variables = encoder.init(jax.random.key(1), TABLES, batch, train=False)
  every = encoder.apply(variables, TABLES, batch, train=False)
  for newest in (1, 3, LENGTH):
    some = encoder.apply(variables, TABLES, batch, train=False, newest=newest)
    np.testing.assert_allclose(some, every[:, -newest:], atol=2e-6)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_so_do_those_that_see_both_sides(layers, batch):
  encoder = bert4rec.BERT4Rec(bert4rec.Config(width=WIDTH, layers=layers, heads=2), LENGTH)
  given = TABLES, batch["hist_item"], batch["hist_mask"], batch["hist_mask"] & (batch["hist_item"] > 6)
  variables = encoder.init(jax.random.key(1), *given, train=False)
  every = encoder.apply(variables, *given, train=False)
  for newest in (1, 3, LENGTH):
    some = encoder.apply(variables, *given, train=False, newest=newest)
    np.testing.assert_allclose(some, every[:, -newest:], atol=2e-6)
