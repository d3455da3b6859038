"""MUSE: A Simple Yet Effective Multimodal Search-Based Framework for Lifelong User Interest Modeling.
Wu, Yang, Chan, Gu, Feng, Yi, Sheng, Zhu, Xu, Ye and Zheng, 2025, arXiv 2512.07216.

    x_j = [E_item(b_j); E_cat(c(b_j))],  a likewise for the candidate         shared tables
    m_j, m_t: given vectors of behaviour and candidate, frozen
    search    X = the K behaviours with the largest cos(m_t, m_j)             no gradient
    SimTier   h(S)_k = w_k log(1 + #{j in S: ceil(cos(m_t, m_j) / .1) + 10 = k}),  22 tiers
    SA-TA     w = softmax(g_1 s_j + g_2 b_j + g_3 s_j b_j),  s_j = q . k_j,  b_j = cos(m_t, m_j) / tau
              q, k_j, v_j = silu(linear maps of a and x_j),  long = sum_j w_j v_j over X
    short     attention of linear maps, query a, over the newest behaviours N
    z = MLP([short, long, mean X, mean N, a, h(N), h(X)])                     a logit

The vectors come from an encoder of the items' pictures or texts, trained by contrast
(`models/retrieval/semantic_contrast.py`), and are read row by row from a frozen table
(`data/frozen.py`). With `encoder`, the table holds what is encoded (pixels) and a frozen encoder, taken
from such a run by `config.initialize`, makes vectors of it batch by batch.

Where we depart from the paper and the authors' code, and why:
- Padding is masked in search, histograms, attention and means. The code masks nothing, so that padding
  counts as cosine 0; most of its histories are full.
- Cosines are clipped at 1, so that rounding puts nothing into the last tier.
- tau is learned by its logarithm: a free tau could cross 0.
- The weights of an attention are softmax weights; the code adds 1e-7 to each.
- One logit and log loss instead of two and a softmax, the same functions; the code also sends its two
  logits through Dice, which we do not.
- Dense layers start as elsewhere in this library. No auxiliary tower: the released config has none.
- Fields of user and context are not read: batches of this library have none. With those of the
  release the tower would be 308 wide instead of 204.
- A behaviour without a vector is found after all that have one; its cosine is 0.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.errors import ConfigError
from recjax.models.learner import Learner
from recjax.models.ranking._click import (
  Outcome,
  check_names,
  click_learner,
  item_tables,
  item_vectors,
)
from recjax.models.ranking._long_history import newest_places, real_history, same_category
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.multi_interest import normalize
from recjax.nn.normalize import NORMS
from recjax.nn.picture_encoder import PictureEncoder
from recjax.nn.similarity import SimilarityAwareAttention, SimTier, cosine, has_vector, vector_values
from recjax.nn.target_attention import pool
from recjax.nn.top_k import gather, recency, top_behaviours
from recjax.nn.tower import CTRTower
from recjax.ranges import Count, Positive, Rate, Weight

SEARCHES = ("vectors", "ids", "category", "recent")
_WITHOUT = -1.1  # relevance of what has no vector: below every cosine


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the authors' values in brackets."""

  name: str = "muse"
  item_width: Count = 16  # of an item's vector, 0 to leave it out [16]
  category_width: Count = 16  # of a category's vector, 0 where the data have none [16]
  stddev: Weight = 0.1  # of the initial vectors [0.001]
  # vectors = cosine of given vectors; ids = cosine of learned ones (SIM soft); category = the newest in
  # the candidate's category (SIM hard); recent = the newest.
  search: str = "vectors"
  keep: Count = 20  # K, behaviours found; 0 leaves the long part out [50]
  recent: Count = 20  # newest behaviours of the short part; 0 leaves it out [50]
  tiers: Count = 10  # of SimTier in a unit of cosine; 0 leaves it out [10]
  similar: bool = True  # SA-TA; without, attention by ids alone
  # Vectors are made of what the table holds by a frozen encoder with these channels; () = they are it.
  encoder_channels: tuple[Positive, ...] = ()
  encoder_width: Positive = 16  # of the vectors that it makes
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower [256, 128, 64]
  activation: str = "dice_layer"  # of the tower: sigmoid | relu | prelu | dice | dice_layer
  norm: str = "none"  # none | affine | batch | layer: of the tower's input
  dropout: Rate = 0.0  # after each hidden layer of the tower


class MUSE(nn.Module):
  """Tables and batch to an Outcome.

  Attributes:
    config: settings.
    pixels: numbers in a row of the frozen table.
  """

  config: Config
  pixels: int

  @nn.compact
  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, mask = self.config, batch["hist_mask"]
    candidates = history = weights = None
    features = []
    if tables:
      candidates, history = item_vectors(tables, batch, "target"), real_history(tables, batch)
      features.append(candidates)
    given = self.encoder() if config.encoder_channels else lambda rows: rows
    target, behaviours = given(batch["target_vector"]), given(batch["hist_vector"])
    allowed = jnp.broadcast_to(mask[:, None], (*target.shape[:2], mask.shape[1]))
    both = has_vector(target)[:, :, None] & has_vector(behaviours)[:, None]
    cosines = jnp.where(allowed & both, cosine(target, behaviours), 0.0)
    if config.recent:
      place, real = newest_places(mask, config.recent)
      if tables:
        recent = jnp.take_along_axis(history, place[:, :, None], axis=1)
        recent = recent * real[:, :, None].astype(recent.dtype)
        features += [self.short(candidates, recent, real), _spread(_mean(recent, real), candidates)]
      if config.tiers:
        near = jax.vmap(lambda of_row, at: of_row[:, at])(cosines, place)
        real = jnp.broadcast_to(real[:, None], near.shape)
        features.append(SimTier(config.tiers, name="short_tiers")(near, real))
    if config.keep:
      relevance, found = self.relevance(batch, cosines, both, allowed, candidates, history)
      place, real = top_behaviours(relevance, found, config.keep)
      near = jnp.take_along_axis(cosines, place, axis=2)
      if tables:
        long = gather(history, place) * real[..., None].astype(history.dtype)
        attention = SimilarityAwareAttention(history.shape[-1], config.similar, name="long")
        interest, share = attention(candidates, long, near, real)
        features += [interest, _mean(long, real)]
        weights = _scatter(share, place, mask.shape[1])
      if config.tiers:
        features.append(SimTier(config.tiers, name="long_tiers")(near, real))
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    logits = tower(jnp.concatenate(features, axis=-1), batch["weight"] > 0, train=train)
    return Outcome(logits, weights)

  def encoder(self):
    """Rows [..., H * H] of the frozen table to vectors [..., M]; zero where the row is."""
    encoder = PictureEncoder(self.config.encoder_channels, self.config.encoder_width, parent=None)
    pixels = self.pixels
    start = lambda: encoder.init(self.make_rng("params"), jnp.zeros((1, pixels)))["params"]
    params = self.variable("encoder", "params", start).value

    def encode(rows):
      made = jax.lax.stop_gradient(encoder.apply({"params": params}, vector_values(rows)))
      return made * has_vector(rows)[..., None].astype(made.dtype)

    return encode

  def relevance(self, batch, cosines, both, allowed, candidates, history):
    """What the search goes by, [B, C, L], and what it may find."""
    search, mask = self.config.search, batch["hist_mask"]
    if search == "vectors":
      return jnp.where(both, cosines, _WITHOUT), allowed
    if search == "ids":
      unit = lambda x: normalize(jax.lax.stop_gradient(x), epsilon=1e-6)
      return jnp.einsum("bcd,bld->bcl", unit(candidates), unit(history)), allowed
    newest = jnp.broadcast_to(recency(mask)[:, None], allowed.shape)
    return newest, allowed & same_category(batch) if search == "category" else allowed

  def short(self, candidates: jax.Array, recent: jax.Array, real: jax.Array) -> jax.Array:
    """Attention [B, C, D] of candidates [B, C, D] to the newest behaviours [B, N, D]."""
    query = Dense(candidates.shape[-1], name="short_query")(candidates)
    facts = Dense(candidates.shape[-1], name="short_fact")(recent)
    scores = jnp.einsum("bcd,bnd->bcn", query, facts, preferred_element_type=jnp.float32)
    return pool(scores, facts, real, "softmax")[0]


def _mean(vectors: jax.Array, real: jax.Array) -> jax.Array:
  """Means [..., D] of vectors [..., N, D], zero where real [..., N] is False; zero without any."""
  count = jnp.sum(real, axis=-1, dtype=vectors.dtype)[..., None]
  return jnp.sum(vectors, axis=-2) / jnp.maximum(count, 1.0)


def _spread(vectors: jax.Array, candidates: jax.Array) -> jax.Array:
  """Vectors [B, D] for every candidate."""
  return jnp.broadcast_to(vectors[:, None], candidates.shape)


def _scatter(weights: jax.Array, place: jax.Array, length: int) -> jax.Array:
  """Weights [B, C, K] at their places [B, C, K] of a history, zero elsewhere: [B, C, L]."""
  one = lambda w, p: jnp.zeros(length, w.dtype).at[p].add(w)
  return jax.vmap(jax.vmap(one))(weights, place)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`, and hist_vector [B, L, M], target_vector [B, M].

  With item_width=0 and category_width=0 the histograms are all it has.

  Raises:
    ConfigError: for unknown options, missing fields, and settings that leave nothing.
  """
  del counts
  check_names(
    ("search", config.search, SEARCHES),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  for name in ("hist_vector", "target_vector"):
    if name not in schema.fields:
      raise ConfigError(f"MUSE goes by vectors given for items, but the batch lacks {name!r}.")
  if config.search == "category" and "hist_cat" not in schema.fields:
    raise ConfigError("search='category' looks for categories, of which the batch has none.")
  width = schema.fields["hist_vector"].shape[-1]
  if config.encoder_channels and math.isqrt(width) ** 2 != width:
    raise ConfigError(f"encoder_channels reads square pictures, but items have {width} numbers.")
  tables: dict[str, Any] = {}
  if config.item_width or config.category_width:
    tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  elif config.search == "ids" or not config.tiers or not (config.keep or config.recent):
    raise ConfigError(
      "Without item_width and category_width MUSE has histograms alone: it needs tiers above 0, keep "
      "or recent above 0, and another search than 'ids'."
    )
  return click_learner(MUSE(config, width), schema, tables, explains=bool(tables and config.keep))

