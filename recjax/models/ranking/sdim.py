"""Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction (SDIM). Cao, Zhou,
Feng, Huang, Xiao, Chen and Chen, CIKM 2022, arXiv 2205.10249.

    s_j = [E_item(b_j); E_cat(c(b_j))],  q likewise for the candidate         shared tables
    bit_k(x) = [r_k . x >= 0],  r_k ~ N(0, I), k = 1 ... m                    drawn once, never trained
    s_j collides with q in group i where all tau bits of the group agree
    long(q, S) = tau / m sum_i l2(sum_j collide_i(q, s_j) s_j),  l2(x) = x / |x|
    short(q, S): attention of q over the newest behaviours
    z = MLP(norm([q, long, q * long, short, q * short]))                      a logit

A behaviour collides in a group with probability (1 - angle / pi)^tau, so that long(q, S) weighs
behaviours nearly as softmax attention does. What depends on the history alone is sums of behaviours by
group and code (`encode_history`), kept up to date behaviour by behaviour (`advance_history`); a
candidate reads one sum a group (`score_encoded`), however long the history. `nn.simhash` holds both
exact ways.

Where we depart from the paper, and why:
- The length of a sum is kept off zero by 1e-6 under the root: x / |x| has no gradient at zero.
- norm="count" divides each sum by the behaviours in it, which is what makes the expected weights sum
  to one; the paper's sentence asks for that, its formula for "l2". "none" leaves sums as they are.
- estimate="expected" weighs by the probability of a collision instead of drawing, which is the limit of
  infinitely many bits, and the paper's comparison.
- Padding is masked; a zero vector would share the code of ones.
- group=0 lets everything collide, which is mean pooling with norm="count".
- The paper gives neither tower nor widths nor optimizer. The short part is DIN's unit with a softmax.
- A reading compares with candidates where there are fewer of them than codes, and builds sums where
  there are more; both are equal but for rounding.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.models.learner import Learner
from recjax.models.ranking._click import (
  Outcome,
  check_names,
  click_learner,
  columns,
  history_width,
  item_tables,
  item_vectors,
)
from recjax.models.ranking._long_history import LongShortTower, newest, real_history
from recjax.nn import simhash
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.normalize import NORMS
from recjax.ranges import Count, Positive, Range, Rate, Weight

ESTIMATES = ("sampled", "expected")


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the paper's values in brackets, where it gives any."""

  name: str = "sdim"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone
  category_width: Count = 16  # of a category's vector, 0 where the data have none
  stddev: Weight = 0.1  # of the initial vectors
  bits: Positive = 48  # m [48]
  group: Annotated[int, Range(0, 16)] = 3  # tau, bits that must agree [3]; 0 is mean pooling
  reading: str = "l2"  # l2 | count | none: what is done to each group's sum [l2]
  estimate: str = "sampled"  # sampled | expected
  recent: Positive = 16  # newest behaviours of the short part [16, 50]
  unit_hidden: tuple[Positive, ...] = (32, 16)  # hidden widths of its unit; () leaves it out
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice
  norm: str = "layer"  # none | affine | batch | layer: of the tower's input
  dropout: Rate = 0.0  # after each hidden layer of the tower


class Encoded(NamedTuple):
  """What scores need of B histories.

  Attributes:
    buckets: sums by group and code.
    recent: the newest behaviours [B, N, D], newest last.
    real: bool [B, N].
  """

  buckets: simhash.Buckets
  recent: jax.Array
  real: jax.Array


class SDIM(nn.Module):
  """Tables and batch to an Outcome.

  Attributes:
    config: settings.
    width: of an item's vectors, D.
  """

  config: Config
  width: int

  def setup(self):
    config, shape = self.config, (self.config.bits, self.width)
    draw = lambda: jax.random.normal(self.make_rng("params"), shape, jnp.float32)
    self.rotations = self.variable("constants", "rotations", draw)
    self.tail = LongShortTower(
      config.unit_hidden, config.hidden, config.activation, config.norm, config.dropout
    )

  def __call__(
    self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], *, train: bool
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows."""
    config, mask = self.config, batch["hist_mask"]
    candidates, history = item_vectors(tables, batch, "target"), real_history(tables, batch)
    if config.estimate == "expected":
      weights = simhash.expected_weights(candidates, history, mask, config.group)
      long = simhash.read_expected(weights, history, config.reading)
    elif candidates.shape[1] < 2**config.group:
      codes = self.codes(history)
      long = simhash.read_collisions(self.codes(candidates), history, codes, mask, config.reading)
    else:
      buckets = simhash.build(history, self.codes(history), mask, config.group)
      long = simhash.read_buckets(buckets, self.codes(candidates), config.reading)
    recent = newest(history, mask, config.recent)
    return Outcome(self.tail(candidates, long, *recent, batch["weight"] > 0, train=train))

  def encode(self, tables: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Encoded:
    """What is kept of the histories of a batch."""
    history, mask = real_history(tables, batch), batch["hist_mask"]
    buckets = simhash.build(history, self.codes(history), mask, self.config.group)
    return Encoded(buckets, *newest(history, mask, self.config.recent))

  def advance(
    self, tables: Mapping[str, jax.Array], encoded: Encoded, batch: Mapping[str, jax.Array]
  ) -> Encoded:
    """The encoded histories less hist_item[:, 0] and with hist_item[:, 1], where hist_mask [B, 2]."""
    pair, mask = real_history(tables, batch), batch["hist_mask"]
    codes, buckets = self.codes(pair), encoded.buckets
    for place, sign in ((0, -1.0), (1, 1.0)):
      weight = sign * mask[:, place].astype(jnp.float32)
      buckets = simhash.add(buckets, pair[:, place], codes[:, place], weight)
    vectors = jnp.concatenate([encoded.recent, pair[:, 1:]], axis=1)
    real = jnp.concatenate([encoded.real, mask[:, 1:]], axis=1)
    return Encoded(buckets, *newest(vectors, real, encoded.recent.shape[1]))

  def score(
    self, tables: Mapping[str, jax.Array], encoded: Encoded, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Logits [B, C] of target_item [B, C] for encoded histories."""
    candidates = item_vectors(tables, batch, "target")
    long = simhash.read_buckets(encoded.buckets, self.codes(candidates), self.config.reading)
    counted = batch["weight"] > 0
    return self.tail(candidates, long, encoded.recent, encoded.real, counted, train=False)

  def codes(self, vectors: jax.Array) -> jax.Array:
    """Codes [..., G] of vectors [..., D]."""
    return simhash.codes(vectors, self.rotations.value, self.config.group)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; fields as in `_click.click_learner`.

  Three more predictions take a history apart from its candidates; together they score as `score` does.
    encode_history (variables, batch) -> Encoded
    advance_history (variables, encoded, batch) -> Encoded; the batch has hist_* [B, 2]: the behaviour
      that leaves the history and the one that joins it, hist_mask saying which of them there is
    score_encoded (variables, encoded, batch) -> logits in the shape of target_item

  Raises:
    ConfigError: for unknown options, missing fields, and bits that make no whole groups.
  """
  del counts
  check_names(
    ("reading", config.reading, simhash.NORMS),
    ("estimate", config.estimate, ESTIMATES),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  )
  simhash.check_groups(config.bits, config.group)
  tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  module = SDIM(config, history_width(schema, config.item_width, config.category_width))

  def apply(variables, *arguments, method):
    collections = {name: value for name, value in variables.items() if name != "tables"}
    return module.apply(collections, variables["tables"], *arguments, method=method)

  def encode_history(variables, batch):
    return apply(variables, batch, method="encode")

  def advance_history(variables, encoded, batch):
    return apply(variables, encoded, batch, method="advance")

  def score_encoded(variables, encoded, batch):
    logits = apply(variables, encoded, columns(batch), method="score")
    return logits.reshape(batch["target_item"].shape)

  apart = {}
  if config.estimate == "sampled":
    apart = {
      "encode_history": encode_history,
      "advance_history": advance_history,
      "score_encoded": score_encoded,
    }
  return click_learner(module, schema, tables, predict=apart)
