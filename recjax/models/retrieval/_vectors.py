"""Prediction functions of models whose scores are dot products with the rows of an item table.

A user has one vector or several. Several are merged when items are asked for: the score of an item is
the best that any of them gives, which ranks as merging the lists of all by score would.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from recjax.models.learner import Batch, Variables
from recjax.nn.interests import best_scores
from recjax.nn.tables import take


def take_items(variables: Variables, item_ids: jax.Array) -> jax.Array:
  """Rows of the table `item`, [..., D] for ids [...]."""
  return take(variables["tables"]["item"], item_ids)


def predictions(
  encode_user: Callable[[Variables, Batch], jax.Array],
  encode_items: Callable[[Variables, jax.Array], jax.Array] = take_items,
) -> dict[str, Callable]:
  """`encode_user`, `encode_items`, `score_items` and `score`.

  Args:
    encode_user: (variables, batch) -> one vector [B, D] of each user, or several [B, K, D].
    encode_items: (variables, ids [...]) -> vectors [..., D].
  """

  def score_items(variables, state, item_ids):
    """Scores [B, n] of the items [n] for what encode_user gave."""
    return best_scores(state, encode_items(variables, item_ids))

  def score(variables, batch):
    """Scores of target_item [B] or [B, C], in its shape."""
    state, targets = encode_user(variables, batch), batch["target_item"]
    several = state[:, None] if state.ndim == 2 else state
    vectors = encode_items(variables, targets.reshape(len(targets), -1))
    scores = jnp.max(jnp.einsum("bkd,bcd->bkc", several, vectors), axis=1)
    return scores.reshape(targets.shape)

  return {
    "encode_user": encode_user,
    "encode_items": encode_items,
    "score_items": score_items,
    "score": score,
  }
