"""The parts of UDITSR that learn beside its tables: the generator of demands, and two heads of scores.

All take vectors that others looked up. What depends on the user or the item alone is mapped before
pairs are made, so that users and items may have leading axes that broadcast: [B, 1] and [B, C], or [B]
and one item. Values are those of linear maps of everything joined.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.dense import Dense, SplitDense
from recjax.nn.pooling import attention_pool

_SLOPE = 0.01  # of the leaky ReLU


class DemandGenerator(nn.Module):
  """What a user asks an item for without a word: a vector [D] in the place of a query's.

    key = W_K [e_u ; w_1 ; ..] + b    over the vectors w of the words that the user searched with
    s_i = sum over the item's words v of a_v v,   a = softmax(key . W_A v)
    demand = MLP([e_u ; e_i ; w_1 + w_2 + .. ; s_i]), 4D -> 2D -> 2D -> D, tanh but for the last

  Attributes:
    width: D.
    attention: False: s_i is the mean of the item's words.
  """

  width: int
  attention: bool

  def setup(self):
    width = self.width
    if self.attention:
      self.key, self.words_to_key = Dense(width), Dense(width, use_bias=False)
    self.first = SplitDense(4 * width, 2 * width)
    self.second, self.last = Dense(2 * width), Dense(width)

  def of_user(self, user: jax.Array, words: jax.Array) -> jax.Array:
    """What pairs need of users [..., D] with words [..., T, D]: [..., 3D], or 2D without attention."""
    hidden = self.first(user, 0) + self.first(jnp.sum(words, axis=-2), 2 * self.width)
    if not self.attention:
      return hidden
    flat = words.reshape(*words.shape[:-2], -1)
    # key . W v = (W^T key) . v, so words are not mapped.
    key = self.words_to_key(self.key(jnp.concatenate([user, flat], axis=-1)))
    return jnp.concatenate([hidden, key], axis=-1)

  def of_item(self, item: jax.Array) -> jax.Array:
    """What pairs need of items [..., D] beside their words: [..., 2D]."""
    return self.first(item, self.width)

  def __call__(
    self, of_user: jax.Array, of_item: jax.Array, words: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """Demands [..., D] of pairs, with the items' words [..., T, D] where mask [..., T]."""
    hidden, key = jnp.split(of_user, [2 * self.width], axis=-1)
    if self.attention:
      scores = jnp.einsum("...d,...td->...t", key, words)
    else:
      scores = jnp.zeros(mask.shape, words.dtype)
    pooled, _ = attention_pool(scores, words, mask)
    hidden = self.first.with_bias(hidden + of_item + self.first(pooled, 3 * self.width))
    return self.last(jnp.tanh(self.second(jnp.tanh(hidden))))


class ScoreHead(nn.Module):
  """MLP of [user ; item ; demand], 3D -> 3D/2 -> 3D/4 -> 1, a leaky ReLU after every layer."""

  width: int

  def setup(self):
    self.first = SplitDense(3 * self.width, 3 * self.width // 2)
    self.second, self.last = Dense(3 * self.width // 4), Dense(1)

  def __call__(self, user: jax.Array, item: jax.Array, demand: jax.Array) -> jax.Array:
    """Scores [...] of vectors [..., D]."""
    parts = (self.first(x, place * self.width) for place, x in enumerate((user, item, demand)))
    hidden = nn.leaky_relu(self.first.with_bias(sum(parts)), _SLOPE)
    hidden = nn.leaky_relu(self.second(hidden), _SLOPE)
    return nn.leaky_relu(self.last(hidden), _SLOPE)[..., 0]


class Network(nn.Module):
  """Generator and heads; without `queries` the head of recommendations alone.

  Attributes:
    width: D.
    queries: whether anything is known of queries.
    attention: of the generator.
  """

  width: int
  queries: bool
  attention: bool

  def setup(self):
    self.recommend = ScoreHead(self.width)
    if self.queries:
      self.search = ScoreHead(self.width)
      self.generator = DemandGenerator(self.width, self.attention)

  def of_user(self, user: jax.Array, words: jax.Array) -> jax.Array:
    """See `DemandGenerator`."""
    return self.generator.of_user(user, words)

  def of_item(self, item: jax.Array) -> jax.Array:
    """See `DemandGenerator`."""
    return self.generator.of_item(item)

  def demand(
    self, of_user: jax.Array, of_item: jax.Array, words: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """See `DemandGenerator`."""
    return self.generator(of_user, of_item, words, mask)

  def score(
    self, user: jax.Array, item: jax.Array, query: jax.Array, generated: jax.Array, searches: jax.Array
  ) -> jax.Array:
    """Scores [...] by query [..., D] where searches [...], elsewhere by generated [..., D]."""
    by_demand = self.recommend(user, item, generated)
    if not self.queries:
      return by_demand
    return jnp.where(searches, self.search(user, item, query), by_demand)

  def __call__(self, vector: jax.Array, user_words: jax.Array, item_words: jax.Array) -> jax.Array:
    """Everything once, for shapes: vector [D], words [T, D]."""
    generated = vector
    if self.queries:
      mask = jnp.ones(item_words.shape[:-1], bool)
      generated = self.demand(
        self.of_user(vector, user_words), self.of_item(vector), item_words, mask
      )
    return self.score(vector, vector, vector, generated, jnp.zeros((), bool))
