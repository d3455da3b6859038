"""The network after HCN: centres that compete for behaviours, level by level; branches that meet."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn.attention import masked_softmax
from recjax.nn.dense import Dense
from recjax.nn.interests import SelfAttentiveInterests
from recjax.nn.multi_interest import normalize

_EPSILON = 1e-8


def shares(
  centres: jax.Array, keys: jax.Array, mask: jax.Array, competition: bool = True
) -> jax.Array:
  """How much of each behaviour's value goes into each centre, A [B, K, L].

    S = centres keys^T / sqrt(D);  G = softmax over the K centres of S, zero at padding
    A = G / (sum over the history of G)

  so that a behaviour which one centre claims counts little for the others (as in slot attention,
  Locatello et al., NeurIPS 2020). Without `competition` A is the softmax over the history of S.

  Args:
    centres: [B, K, D].
    keys: [B, L, D].
    mask: bool [B, L].
    competition: whether centres compete.
  """
  scores = jnp.einsum("bkd,bld->bkl", centres, keys) * keys.shape[-1] ** -0.5
  if not competition:
    return masked_softmax(scores, jnp.broadcast_to(mask[:, None], scores.shape))
  given = jax.nn.softmax(scores, axis=1) * mask[:, None].astype(scores.dtype)
  return given / (jnp.sum(given, axis=2, keepdims=True) + _EPSILON)


def co_attention(
  short: jax.Array, long: jax.Array, bridge: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What each branch looks like from the other.

    Q = tanh(C_s W C_l^T);  P_s = softmax of Q's rows times C_l;  P_l = softmax of Q^T's rows times C_s

  Args:
    short: C_s, [B, K, D].
    long: C_l, [B, K, D].
    bridge: W, [D, D].

  Returns:
    Q [B, K, K], P_s and P_l [B, K, D].
  """
  affinity = jnp.tanh(jnp.einsum("bkd,de,bje->bkj", short, bridge, long))
  from_long = jnp.einsum("bkj,bjd->bkd", jax.nn.softmax(affinity, axis=2), long)
  from_short = jnp.einsum("bkj,bkd->bjd", jax.nn.softmax(affinity, axis=1), short)
  return affinity, from_long, from_short


def square_cosines(centres: jax.Array) -> jax.Array:
  """Mean over pairs i < j of cos^2 of centres [B, K, D]; [B]. Zero for one centre."""
  count = centres.shape[1]
  unit = normalize(centres)
  cosines = jnp.square(jnp.einsum("bkd,bjd->bkj", unit, unit))
  own = jnp.sum(jnp.diagonal(cosines, axis1=1, axis2=2), axis=1)
  return (jnp.sum(cosines, axis=(1, 2)) - own) / max(count * (count - 1), 1)


class Level(nn.Module):
  """One update of centres [B, K, D] by a history [B, L, D].

    U = A (x W_v),  A of queries LN(C) W_q and keys x W_k;  g = sigmoid(W_g [C; U] + b), b = 1 at first
    C <- g C + (1 - g) U;  C <- C + W_2 relu(W_1 LN(C)), W_2 = 0 at first
  """

  competition: bool = True

  @nn.compact
  def __call__(self, centres: jax.Array, history: jax.Array, mask: jax.Array) -> jax.Array:
    """The next centres [B, K, D]."""
    width = centres.shape[-1]
    linear = lambda name, x: Dense(width, use_bias=False, name=name)(x)
    queries = linear("query", nn.LayerNorm(name="query_norm")(centres))
    given = shares(queries, linear("key", history), mask, self.competition)
    update = jnp.einsum("bkl,bld->bkd", given, linear("value", history))
    both = jnp.concatenate([centres, update], axis=-1)
    gate = nn.sigmoid(Dense(width, bias_init=nn.initializers.ones, name="gate")(both))
    centres = gate * centres + (1.0 - gate) * update
    hidden = Dense(2 * width, name="hidden")(nn.LayerNorm(name="norm")(centres))
    return centres + Dense(width, kernel_init=nn.initializers.zeros, name="output")(nn.relu(hidden))


class Branch(nn.Module):
  """Centres of a history: K attentions, then `levels` updates, mixed with learned weights.

  Attributes:
    interests: K.
    expansion: hidden width of the attentions in multiples of the history's.
    levels: H; 0 leaves the attentions' results, which are ComiRec-SA's.
    share_levels: whether all levels have the same parameters.
    competition: whether centres compete for behaviours.
    positions: of the longest history, if the attentions know positions.
  """

  interests: int
  expansion: int
  levels: int
  share_levels: bool = True
  competition: bool = True
  positions: int | None = None

  @nn.compact
  def __call__(self, history: jax.Array, mask: jax.Array) -> jax.Array:
    """Centres [B, K, D] of a history [B, L, D] under mask [B, L]; zero where nothing is real."""
    extract = SelfAttentiveInterests(
      self.interests, self.expansion * history.shape[-1], self.positions, name="attention"
    )
    centres = extract(history, mask)
    if not self.levels:
      return centres
    found = [centres]
    shared = Level(self.competition, name="level") if self.share_levels else None
    for index in range(self.levels):
      level = shared or Level(self.competition, name=f"level_{index + 1}")
      found.append(level(found[-1], history, mask))
    mix = self.param("mix", nn.initializers.zeros, (self.levels + 1,), jnp.float32)
    mixed = jnp.einsum("h,hbkd->bkd", jax.nn.softmax(mix), jnp.stack(found))
    return mixed * jnp.any(mask, axis=1)[:, None, None].astype(mixed.dtype)


class CoInterest(nn.Module):
  """Interests of two branches' centres, each branch seen from the other.

    V_s = g_s C_s + (1 - g_s) P_s,  g_s = sigmoid(W [C_s; P_s; C_s P_s] + b);  V_l alike

  With `pair` the K interests V_s,k + V_l,m(k), m(k) = argmax_j Q_kj; else the 2 K of both. Where a
  branch has no behaviours the other one's centres stand in its place, so that no zero vector wins
  against negative scores. Without `meet` centres stay as they are.
  """

  meet: bool = True
  pair: bool = False

  @nn.compact
  def __call__(
    self, short: jax.Array, long: jax.Array, has_short: jax.Array, has_long: jax.Array
  ) -> jax.Array:
    """Interests [B, 2 K or K, D] of centres [B, K, D] of branches that are there or not, bool [B]."""
    has_short, has_long = has_short[:, None, None], has_long[:, None, None]
    both = has_short & has_long
    width = short.shape[-1]
    affinity = jnp.zeros((len(short), short.shape[1], long.shape[1]), short.dtype)
    seen_short, seen_long = short, long
    if self.meet:
      bridge = self.param("bridge", nn.initializers.lecun_normal(), (width, width), jnp.float32)
      affinity, from_long, from_short = co_attention(short, long, bridge)
      pairs = (("short", short, from_long), ("long", long, from_short))
      blended = []
      for name, own, other in pairs:
        together = jnp.concatenate([own, other, own * other], axis=-1)
        gate = nn.sigmoid(Dense(width, name=f"gate_{name}")(together))
        blended.append(jnp.where(both, gate * own + (1.0 - gate) * other, own))
      seen_short, seen_long = blended
    if self.pair:
      match = jnp.argmax(affinity, axis=2)[:, :, None]
      paired = seen_short + jnp.take_along_axis(seen_long, match, axis=1)
      return jnp.where(both, paired, jnp.where(has_short, seen_short, seen_long))
    first = jnp.where(has_short, seen_short, seen_long)
    second = jnp.where(has_long, seen_long, seen_short)
    return jnp.concatenate([first, second], axis=1)
