"""Modeling Long-term User Behaviors with Diffusion-driven Multi-interest Network for CTR Prediction.
Lai, Jin, Zhang, Zheng, Zhao, Dong, Lei and Wang, RecSys 2025, arXiv 2508.15311.

    e_j: vector of behaviour j,  v: of the candidate
    M = reshape(W v + b) [D, K];  O = Gram-Schmidt(M), columns o_i               channels
    A_ji = e_j . o_i;  m_ji = [i = argmax A_j] [j among the most relevant of i]  routing, filtering
    r_i = 1 / L sum_j m_ji A_ji e_j;  r'_i = r_i / |r_i|                         interests
    x_t = sqrt(a_t) r'_i + sqrt(1 - a_t) e;  f(x_t, t, r'_other, o_i) -> r'_i    denoiser, predicts x_0
    r*_i: T' denoising steps from r'_i noised to t = T' - 1                      generated interests
    L_diff = mean_i |f(x_t) - r'_i|^2 / D,  t uniform
    L_cl = mean_i InfoNCE(g1(r'_i), g2(r*_i)) over the rows of the batch
    z = MLP(norm([v, W v + b, r, r*, s])),  s: Transformer over [newest k behaviours, v], at v
    loss = log loss(z) + lambda_1 L_diff + lambda_2 L_cl

`nn.multi_interest` holds channels, routing and pooling, `nn.interest_generators` the denoiser,
`nn.short_term` s, `_interest_diffusion` L_diff and r*, `losses.info_nce` the contrast.

Where we depart from the paper, and why. Its text was open to us only in parts; the authors' code is
incomplete in places and disagrees with itself in others, which is noted.
- The denoiser predicts x_0 in training and in sampling. The code trains it so, but its sampler takes
  the output for the noise.
- Sampling begins at exactly the noise of its first step. The code adds noise of a random time up to
  1000 and then makes the last ten steps only.
- Scores are deterministic: means are followed, without noise (serve_noise=True adds it, from a fixed
  key). The code draws noise at serving, too.
- The denoiser adds what the network says to a share of its input, by how much noise there is
  (`denoiser`). The network's output by itself, as in the code, has to learn to copy first: after an
  epoch of planted clicks, generated interests had a cosine of .05 to their own.
- The auxiliary losses count. The code's trainer never adds them.
- L_diff trains the denoiser alone: its target, its conditions and channels are constants to it, or
  the extractor could lower it by making all interests alike.
- Channels come from Gram-Schmidt instead of a QR factorisation, whose signs are not determined;
  routing depends on them. A fixed jitter of 1e-4 keeps M from being singular.
- Filtering keeps a share of the history (the code: 100 behaviours) among those routed to a channel
  (code: topk_first), and ties. Sums are divided by the number of real behaviours (code: "length",
  which counts padding).
- The short-term part is a plain Transformer, as in the paper; the code runs the denoiser's blocks.
- Channels that got no behaviour have interest zero, and count neither in L_diff nor in L_cl. Rows
  are each other's negatives even where they share a user.
- The tower has one norm, at its input, and no features of users or contexts. It is given products
  of interests and candidate, as our DIN is (r_times_v=False: the paper).
- W starts as positive weights of the candidate's own coordinates (`weighings`), not as noise.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.diffusion import schedules
from recjax.diffusion.samplers import preconditioned
from recjax.errors import ConfigError
from recjax.losses.binary import binary_cross_entropy
from recjax.losses.info_nce import info_nce
from recjax.models.learner import Learner, Objective
from recjax.models.ranking._click import columns, item_tables, item_vectors
from recjax.models.ranking._interest_diffusion import denoising_loss, generate
from recjax.nn.activations import ACTIVATIONS
from recjax.nn.dense import Dense
from recjax.nn.interest_generators import ContrastHead, InterestAutoencoder, InterestDenoiser
from recjax.nn.multi_interest import (
  DENOMINATORS,
  ORDERS,
  ROUTINGS,
  aggregate,
  gram_schmidt,
  normalize,
  route_and_filter,
)
from recjax.nn.normalize import NORMS
from recjax.nn.short_term import ShortTerm
from recjax.nn.tower import CTRTower
from recjax.ranges import Above0, Count, Positive, Range, Rate, Weight
from recjax.registry import unknown

GENERATORS = ("none", "diffusion", "vae")
SCHEDULES = {"linear": schedules.linear, "exponential": schedules.exponential}
JITTER = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen; the values of the authors' configs in brackets."""

  name: str = "diffumin"
  item_width: Count = 16  # of an item's vector, 0 to go by categories alone [8]
  category_width: Count = 16  # of a category's vector, 0 where the data have none [8]
  stddev: Weight = 0.1  # of the initial vectors
  # Extractor.
  channels: Positive = 4  # K, interests of a user [4]
  orthogonal: bool = True  # channels by Gram-Schmidt; else each normalised by itself
  routing: str = "top1"  # top1 | soft: a behaviour's channel, or a softmax over all
  # p: of the history, what a channel keeps at most [100 behaviours].
  keep_share: Annotated[float, Range(0, 1, above_low=True)] = 0.2
  filter_order: str = "routed_first"  # routed_first | topk_first [topk_first]
  denominator: str = "real"  # real | length: what divides a channel's sum [length]
  # Generator.
  generator: str = "diffusion"  # none | diffusion | vae
  schedule: str = "linear"  # linear | exponential: beta from 1e-4 to 0.02 over diffusion_steps
  diffusion_steps: Positive = 1000  # T
  start_t: Count = 9  # where sampling begins; higher varies interests more
  sampler_steps: Positive = 10  # T', evenly from start_t to 0
  denoiser_layers: Count = 2
  heads: Positive = 2  # of all attention; divides the width of an item
  stop_grad_sampler: bool = False  # no gradient through the sampler: less memory and time
  renorm: bool = True  # generated interests get length one
  serve_noise: bool = False  # noise in scores, from a fixed key [True]
  kl_weight: Weight = 1e-3  # vae
  generator_weight: Weight = 0.01  # lambda_1
  contrast_weight: Weight = 0.001  # lambda_2; 0 leaves the calibrator out
  temperature: Above0 = 0.05  # tau of the contrast
  # Short-term part and tower.
  r_times_v: bool = True  # give the tower the product of each interest and the candidate [False]
  recent: Positive = 20  # k, newest behaviours of the short-term part
  short_layers: Count = 2
  hidden: tuple[Positive, ...] = (64, 32)  # hidden widths of the tower [1024, 512, 256]
  activation: str = "dice"  # of the tower: sigmoid | relu | prelu | dice
  norm: str = "batch"  # none | affine | batch | layer: of the tower's input
  dropout: Rate = 0.0  # after each hidden layer of the tower


class Outcome(NamedTuple):
  """What the network makes of B histories with C candidates each.

  Attributes:
    logits: [B, C].
    channels: o [B, C, K, D].
    interests: r [B, C, K, D].
    generated: r* [B, C, K, D]; zero without a generator.
    shares: [B, C, L, K], what part of a behaviour went to a channel.
    alive: bool [B, C, K], channels that got a behaviour.
    generation: the generator's loss [B, C, K].
    contrast: the calibrator's loss [B, C, K].
  """

  logits: jax.Array
  channels: jax.Array
  interests: jax.Array
  generated: jax.Array
  shares: jax.Array
  alive: jax.Array
  generation: jax.Array
  contrast: jax.Array


class DiffuMIN(nn.Module):
  """Tables and batch to an Outcome."""

  config: Config

  @nn.compact
  def __call__(
    self,
    tables: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    key: jax.Array | None,
    *,
    train: bool,
  ) -> Outcome:
    """The outcome for target_item [B, C] and its fellows; noise is drawn from `key`, if any.

    `weight` [B, C] says which candidates count in batch statistics and as negatives.
    """
    config, mask = self.config, batch["hist_mask"]
    history = item_vectors(tables, batch, "hist") * mask[:, :, None].astype(jnp.float32)
    candidates = item_vectors(tables, batch, "target")
    counted = batch["weight"] > 0
    rows, several, width = candidates.shape
    shape = (rows, several, config.channels, width)

    projected = Dense(config.channels * width, kernel_init=weighings, name="channels")(candidates)
    channels = _channels(projected.reshape(shape), config.orthogonal)
    relevance = jnp.einsum("bld,bckd->bclk", history, channels)
    shares = route_and_filter(
      relevance,
      jnp.broadcast_to(mask[:, None], relevance.shape[:3]),
      config.keep_share,
      config.routing,
      config.filter_order,
    )
    interests = aggregate(history, relevance, shares, mask, config.denominator)
    alive = jnp.any(shares > 0, axis=2)

    flat = lambda x: x.reshape(rows * several, *x.shape[2:])
    unit, valid = normalize(interests), alive & counted[:, :, None]
    generated, generation = self._generate(flat(unit), flat(channels), key)
    generated = generated * flat(alive)[..., None].astype(generated.dtype)
    contrast = self._contrast(flat(unit), generated, flat(valid))
    generated = generated.reshape(shape)

    short = ShortTerm(config.recent, config.short_layers, config.heads, name="short")
    short = short(history, mask, candidates)
    flat = lambda x: x.reshape(rows, several, -1)
    features = [candidates, projected, flat(interests), short]
    if config.r_times_v:
      features.append(flat(interests * candidates[:, :, None]))
    if config.generator != "none":
      features.append(flat(generated))
    tower = CTRTower(config.hidden, config.activation, config.norm, config.dropout, name="tower")
    logits = tower(jnp.concatenate(features, axis=-1), counted, train=train)
    valid = valid.astype(jnp.float32)
    return Outcome(
      logits, channels, interests, generated, shares, alive,
      generation.reshape(valid.shape) * valid, contrast.reshape(valid.shape),
    )

  def _generate(self, unit, channels, key):
    """Generated interests [N, K, D] for those of length one, and the generator's loss [N, K]."""
    config = self.config
    constant, directions = jax.lax.stop_gradient((unit, channels))
    if config.generator == "none":
      return jnp.zeros_like(unit), jnp.zeros(unit.shape[:2])
    if config.generator == "vae":
      autoencoder = InterestAutoencoder(name="autoencoder")
      made, divergence = autoencoder(constant, directions, key)
      loss = jnp.mean(jnp.square(made - constant), axis=-1) + config.kl_weight * divergence
      generated = autoencoder(unit, channels, key)[0]
    else:
      network = InterestDenoiser(config.denoiser_layers, config.heads, parent=None)
      time = jnp.zeros(unit.shape[:2], jnp.int32)
      # The sampler's loop is one of JAX, in which Flax modules cannot be called but applied.
      create = lambda key: network.init(key, unit, time, unit, channels)["params"]
      params = self.param("denoiser", create)
      schedule = SCHEDULES[config.schedule](config.diffusion_steps)
      denoise = denoiser(network, params, schedule)
      loss = jnp.zeros(unit.shape[:2])
      if key is not None:
        key, of_loss = jax.random.split(key)
        loss = denoising_loss(denoise, schedule, constant, directions, of_loss)
      generated = generate(
        denoise, schedule, unit, channels, _times(config), key,
        remat=not config.stop_grad_sampler,
      )
      if config.stop_grad_sampler:
        generated = jax.lax.stop_gradient(generated)
    return normalize(generated) if config.renorm else generated, loss

  def _contrast(self, unit, generated, valid):
    """The calibrator's loss [N, K] of interests and generated ones, [N, K, D]."""
    if self.config.generator == "none" or not self.config.contrast_weight:
      return jnp.zeros(unit.shape[:2])
    return contrast(
      ContrastHead(name="head_interest")(unit), ContrastHead(name="head_generated")(generated), valid,
      self.config.temperature,
    )[0]


def denoiser(
  network: InterestDenoiser, params: Mapping, schedule: schedules.Schedule
) -> Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]:
  """(noised [N, K, D], time [N, K], interests [N, K, D], channels [N, K, D]) -> f [N, K, D].

  Interests and channels have length one, so a coordinate's deviation is 1 / sqrt(D); the network is
  given all with a deviation of about one.
  """

  def denoise(noised, time, interests, channels):
    length = np.float32(noised.shape[-1] ** 0.5)  # of a vector whose coordinates have deviation 1
    scaled = lambda x, time, *others: network.apply(
      {"params": params}, x, time, *(length * other for other in others)
    )
    return preconditioned(scaled, schedule, 1 / length)(noised, time, interests, channels)

  return denoise


def contrast(left, right, valid, temperature):
  """InfoNCE of each channel over the rows: losses and hits [N, K], for [N, K, D] and valid [N, K]."""
  each = jax.vmap(info_nce, in_axes=(1, 1, 1, None), out_axes=1)
  return each(left, right, valid, temperature)


def weighings(key, shape, dtype=jnp.float32):
  """Initial W [D, K D]: channel i starts as the candidate, its coordinates weighed at random.

  So relevance starts as a kind of similarity; from weights drawn independently it starts as noise.
  """
  width, count = shape[0], shape[1] // shape[0]
  weight = jax.random.exponential(key, (width, count, 1), dtype)
  return (weight * jnp.eye(width, dtype=dtype)[:, None]).reshape(shape)


def _channels(projected, orthogonal):
  """Directions [B, C, K, D] of length one from projections of that shape."""
  count, width = projected.shape[2:]
  jitter = JITTER * np.random.default_rng(0).normal(size=(1, 1, count, width))
  projected = projected + jnp.asarray(jitter, projected.dtype)
  if not orthogonal:
    return normalize(projected)
  return jnp.swapaxes(gram_schmidt(jnp.swapaxes(projected, 2, 3)), 2, 3)


def _times(config):
  """Falling times of the sampler, from start_t to 0."""
  return np.round(np.linspace(config.start_t, 0, config.sampler_steps)).astype(np.int32)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner. One batch row is a history with one candidate (target_item []) or several ([C]).

  Reads hist_item, hist_mask, target_item, label (of target_item's shape) and weight (that shape, or
  one a row); with categories also hist_cat and target_cat.

  Raises:
    ConfigError: for unknown options, numbers that cannot work and missing fields.
  """
  del counts
  tables = item_tables(schema, config.item_width, config.category_width, config.stddev)
  _check(config, schema)
  module = DiffuMIN(config)

  def apply(variables, batch, key, **options):
    collections = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    return module.apply(collections, variables["tables"], columns(batch), key, **options)

  def init(key, tables, batch):
    return module.init(key, tables, columns(batch), None, train=False)

  def loss(variables, batch, key):
    wide = columns(batch)
    noise, dropout = jax.random.split(key)
    made, mutable = apply(
      variables, batch, noise, train=True, rngs={"dropout": dropout}, mutable=["batch_stats"]
    )
    value, weight = binary_cross_entropy(made.logits, wide["label"], wide["weight"])
    metrics = {"log_loss": (value, weight)}
    parts = {
      "generator_loss": (made.generation, config.generator_weight),
      "contrast_loss": (made.contrast, config.contrast_weight),
    }
    for name, (losses, factor) in parts.items():
      part = jnp.sum(jnp.mean(losses, axis=-1) * wide["weight"])
      if config.generator != "none" and factor:
        value = value + factor * part
        metrics[name] = (part, weight)
    return Objective(value, weight, metrics | _measures(config, made, wide["weight"]), mutable)

  def outcome(variables, batch):
    key = jax.random.key(0) if config.serve_noise else None
    return apply(variables, batch, key, train=False)

  def score(variables, batch):
    """Logits of target_item [B] or [B, C], in its shape."""
    return outcome(variables, batch).logits.reshape(batch["target_item"].shape)

  def explain(variables, batch):
    """Arrays behind the scores of target_item [B] or [B, C], with its shape in front of their own.

    `channels`, `interests` and `generated` [K, D], and `shares` [L, K]: the part of each behaviour
    that a channel takes.
    """
    made = outcome(variables, batch)._asdict()
    shape = batch["target_item"].shape
    names = ("channels", "interests", "generated", "shares")
    return {name: made[name].reshape(*shape, *made[name].shape[2:]) for name in names}

  return Learner(schema, tables, init, loss, {"score": score, "explain": explain})


def _measures(config, made, weight):
  """Metrics of interests, over channels that are alive; see docs/papers/diffumin.md."""
  alive = made.alive.astype(jnp.float32) * weight[..., None]
  unit = jax.lax.stop_gradient(normalize(made.interests))
  measures = {"dead_channels": (jnp.sum(weight[..., None] - alive), weight.sum() * config.channels)}
  if config.generator != "none":
    near = jnp.sum(unit * normalize(jax.lax.stop_gradient(made.generated)), axis=-1)
    measures["cosine_generated"] = (jnp.sum(near * alive), jnp.sum(alive))
  if config.channels > 1:
    both = made.alive[..., :, None] & made.alive[..., None, :]
    both = both & ~jnp.eye(config.channels, dtype=bool)[None, None]
    both = both * weight[..., None, None]
    overlap = jnp.abs(jnp.einsum("bckd,bcjd->bckj", unit, unit))
    measures["overlap"] = (jnp.sum(overlap * both), jnp.sum(both))
  return measures


def _check(config, schema):
  """Raises ConfigError for options and numbers that cannot work."""
  for kind, name, known in (
    ("routing", config.routing, ROUTINGS),
    ("filter_order", config.filter_order, ORDERS),
    ("denominator", config.denominator, DENOMINATORS),
    ("generator", config.generator, GENERATORS),
    ("schedule", config.schedule, SCHEDULES),
    ("activation", config.activation, ACTIVATIONS),
    ("norm", config.norm, NORMS),
  ):
    if name not in known:
      raise ConfigError(unknown(kind, name, known))
  several = schema.fields["target_cat"].shape if config.category_width else ()
  kinds = several[-1] if len(several) > len(schema.fields["target_item"].shape) else 1
  width = config.item_width + kinds * config.category_width
  if width % config.heads:
    raise ConfigError(f"heads={config.heads} does not divide {width}, the width of an item.")
  if config.channels > width:
    raise ConfigError(f"channels={config.channels} is above {width}, an item's width.")
  if not config.sampler_steps <= config.start_t + 1 <= config.diffusion_steps:
    raise ConfigError(
      f"sampler_steps={config.sampler_steps}, start_t={config.start_t} and diffusion_steps="
      f"{config.diffusion_steps} need sampler_steps <= start_t + 1 <= diffusion_steps."
    )
