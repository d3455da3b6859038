"""Items drawn against the targets, and how often each is expected among the draws."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field
from recjax.errors import ConfigError
from recjax.models.learner import Batch, Variables
from recjax.nn.sparse import holds
from recjax.registry import unknown

SAMPLINGS = ("uniform", "popularity")
_TRIES = 8


class Negatives:
  """Draws items uniformly or by their training counts; the counts are kept in `statistics`."""

  def __init__(self, size: int, sampling: str, counts: Mapping[str, np.ndarray] | None):
    """Of a vocabulary of `size` ids, padding included; raises ConfigError for an unknown sampling."""
    if sampling not in SAMPLINGS:
      raise ConfigError(unknown("sampling", sampling, SAMPLINGS))
    self._size, self._counts, self._by_popularity = size, counts, sampling == "popularity"

  def statistics(self) -> dict[str, jax.Array]:
    """What draws need of the variables' collection `statistics`; ConfigError for missing counts."""
    if not self._by_popularity:
      return {}
    return {"cumulative_count": _cumulative(self._counts, self._size)}

  def sample(self, variables: Variables, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Drawn ids of `shape`, with replacement."""
    if not self._by_popularity:
      return jax.random.randint(key, shape, 1, self._size, jnp.int32)
    cumulative = variables["statistics"]["cumulative_count"]
    ticket = jax.random.randint(key, shape, 0, cumulative[-1], jnp.int32)
    return jnp.searchsorted(cumulative, ticket, side="right").astype(jnp.int32)

  def expected_count(self, variables: Variables, ids: jax.Array, draws: int) -> jax.Array:
    """How often that many draws hold each of ids on average, float32; never seen counts as once."""
    if not self._by_popularity:
      return jnp.full(ids.shape, draws / (self._size - 1), jnp.float32)
    cumulative = variables["statistics"]["cumulative_count"]
    count = jnp.maximum(cumulative[ids] - cumulative[jnp.maximum(ids - 1, 0)], 1)
    return count.astype(jnp.float32) * (draws / cumulative[-1].astype(jnp.float32))

  def draw_shared(self, variables: Variables, batch: Batch, key: jax.Array, draws: int) -> Batch:
    """The batch with the `shared_fields`: draws for all rows, and the log-q of `sampled_softmax`."""
    ids = self.sample(variables, key, (1, draws))
    present = -jnp.expm1(-self.expected_count(variables, batch["target_item"], draws))
    return {
      **batch,
      "negative_item": ids,
      "negative_log_q": jnp.log(self.expected_count(variables, ids, draws)),
      "target_log_q": jnp.log(present),
    }


def draw_unseen(
  pairs: Mapping[str, jax.Array], user: jax.Array, key: jax.Array, size: int
) -> jax.Array:
  """An item for each user [B] that they did not have, int32 [B]; 0 where `_TRIES` draws had none.

  Args:
    pairs: `nn.sparse.sparse_rows` of who had what.
    user: ids.
    key: of the draws, which are even.
    size: of the items' vocabulary.
  """
  ids = jax.random.randint(key, (len(user), _TRIES), 1, size, jnp.int32)
  had = holds(pairs, user, ids)
  first = jnp.argmin(had, axis=1, keepdims=True)
  pick = lambda array: jnp.take_along_axis(array, first, axis=1)[:, 0]
  return jnp.where(pick(had), 0, pick(ids))


def shared_fields(draws: int, target: Field) -> dict[str, Field]:
  """Fields that `draw_shared` adds; the negatives are shared, hence have a batch axis of one."""
  return {
    "negative_item": Field("ids", (draws,), "item"),
    "negative_log_q": Field("float", (draws,)),
    "target_log_q": Field("float", target.shape),
  }


def _cumulative(counts, size):
  """Cumulative training counts int32 [V]; entry 0, of padding, is zero."""
  if counts is None or "item" not in counts:
    raise ConfigError("sampling='popularity' needs the training counts of the items.")
  count = np.asarray(counts["item"], np.int64).copy()
  count[0] = 0
  total = np.cumsum(count)
  if count.shape != (size,) or not 0 < total[-1] < 2**31:
    raise ConfigError(
      f"sampling='popularity' needs {size} item counts with a sum between 1 and 2^31, not "
      f"{len(count)} counts with the sum {total[-1]}."
    )
  return jnp.asarray(total, jnp.int32)
