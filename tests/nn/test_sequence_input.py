"""The input of self-attention: by hand, aligned at the newest position, and zero at padding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.nn.sequence_input import sequence_input


class Model(nn.Module):
  @nn.compact
  def __call__(self, table, ids, mask, *, dropout=0.0, train=False):
    return sequence_input(
      self, table, ids, mask, length=3, stddev=0.02, dropout=dropout, train=train
    )


TABLE = jnp.asarray([[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]], jnp.float32)
POSITION = jnp.asarray([[10.0] * 4, [20.0] * 4, [30.0] * 4])
VARIABLES = {"params": {"position": POSITION}}


def test_by_hand():
  ids, mask = jnp.asarray([[0, 2, 1]]), jnp.asarray([[False, True, True]])
  x = Model().apply(VARIABLES, TABLE, ids, mask)
  np.testing.assert_array_equal(x, [[[0] * 4, [30, 32, 34, 36], [32, 34, 36, 38]]])


def test_shorter_rows_have_the_newest_positions():
  ids, mask = jnp.asarray([[0, 2, 1]]), jnp.asarray([[False, True, True]])
  whole = Model().apply(VARIABLES, TABLE, ids, mask)
  short = Model().apply(VARIABLES, TABLE, ids[:, -2:], mask[:, -2:])
  np.testing.assert_array_equal(short, whole[:, -2:])


def test_dropout_is_of_training_alone_and_of_both_parts():
  ids, mask = jnp.full((64, 3), 1), jnp.ones((64, 3), bool)
  apply = lambda train: Model().apply(
    VARIABLES, TABLE, ids, mask, dropout=0.5, train=train, rngs={"dropout": jax.random.key(0)}
  )
  served, trained = np.asarray(apply(False)), np.asarray(apply(True))
  kept = trained != 0
  assert 0.4 < kept.mean() < 0.6
  np.testing.assert_allclose(trained[kept], 2 * served[kept])
