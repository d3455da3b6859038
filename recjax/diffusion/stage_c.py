"""Stable Cascade's Stage C: from text to a small latent, as a `Host`.

Stage C denoises latents [24, 24, 16] of images of 768 to 1024 pixels, given text. The stages that turn
a latent into an image, B and A, are not here, nor are the encoders of text and images: text states and
latents are computed beforehand (docs/papers/stable_cascade.md). Würstchen: Pernias et al., ICLR 2024,
arXiv 2306.00637; the network follows the code of Stable Cascade (Stability AI, MIT licence).

    embed     1x1 convolution, norm
    down 0    blocks C T A                        -> skip
              norm, 1x1 convolution
    down 1    blocks C T A
    up 0      blocks C T A
              norm, 1x1 convolution
    up 1      blocks C T A, the first C of which also reads skip
    output    norm, 1x1 convolution

Both levels have the same resolution and width. The condition is [text, pooled text, image], each mapped
to tokens of one width, normalised; pooled text and image give four tokens each. Time enters every block
as [sin, cos] of 10,000 t, beside two conditions, sca and crp, that are 0.

Where we depart from the code, and why
- No dropout (0.1 there): whoever compares two runs of the network wants the network's difference alone.
- sca and crp are constants, and there is no input of a ControlNet: nobody here uses them.
- Normalisation and softmax are in float32 whatever `dtype` is.
- The time that the network sees is clipped, where the code recovers it from the clipped ratio: equal.

Checked: number, names and shapes of all parameters of both published sizes, and the computation on
random weights against a second one in NumPy. Not checked: activations of the published weights, which
may not be used commercially and are not distributed with this library.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from recjax.diffusion.host import Added, Host, Text
from recjax.diffusion.schedules import Cosine
from recjax.diffusion.stage_c_blocks import Block, norm, scaled_xavier
from recjax.errors import ConfigError
from recjax.nn.decoupled_attention import Extra, branches
from recjax.nn.dense import Dense
from recjax.ranges import Positive

CONDITIONS = ("time", "sca", "crp")
TOKENS = 4  # of pooled text, and of an image


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes; the defaults are those of the larger of the two published networks, 3.6B parameters."""

  width: Positive = 2048
  condition_width: Positive = 2048  # of the condition's tokens
  heads: Positive = 32  # of every attention; they divide the width
  down: tuple[Positive, Positive] = (8, 24)  # blocks of each level on the way down
  up: tuple[Positive, Positive] = (24, 8)  # and up, in the order they are run
  text_width: Positive = 1280  # of text states and pooled text
  image_width: Positive = 768  # of an image's embedding
  time_width: Positive = 64  # of the embedding of time
  side: Positive = 24  # of a latent
  channels: Positive = 16
  dtype: str = "float32"  # of the computation; parameters keep theirs
  remat: bool = False  # recompute each block when differentiating instead of keeping what is inside it


FULL = Config()
LITE = Config(width=1536, condition_width=1536, heads=24, down=(4, 12), up=(12, 4))


def sites(config: Config) -> list[str]:
  """Names of the blocks in the order they are run; each is an attention site."""
  levels = [("down", config.down), ("up", config.up)]
  return [
    f"{way}_{level}_{index}"
    for way, counts in levels
    for level, count in enumerate(counts)
    for index in range(count)
  ]


def embed_time(time: jax.Array, width: int) -> jax.Array:
  """[B] in 0, ..., 1 to [B, width], float32: sines, then cosines, of falling frequency."""
  highest = 10_000.0
  rates = np.exp(-np.log(highest) * np.arange(width // 2) / (width // 2 - 1)).astype(np.float32)
  angles = (time.astype(jnp.float32) * highest)[:, None] * rates[None, :]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def seen_time(schedule: Cosine, time: jax.Array) -> jax.Array:
  """The time that belongs to the clipped ratio at `time`: 0.9936 at 1, by the default schedule."""
  start = schedule.offset / (1 + schedule.offset) * np.pi / 2

  def at(signal):
    angle = np.arccos(np.sqrt(signal) * np.cos(start))
    return angle / (np.pi / 2) * (1 + schedule.offset) - schedule.offset

  return jnp.clip(time, at(1 - schedule.clip), at(schedule.clip))


class StageC(nn.Module):
  """The network."""

  config: Config

  @nn.compact
  def __call__(
    self, noised: jax.Array, time: jax.Array, text: Text, extra: Added = None
  ) -> jax.Array:
    """Noise [B, H, W, C], float32, in noised [B, H, W, C] at time [B]; text as in `build_stage_c`."""
    config = self.config
    dense = lambda name, width, **kwargs: Dense(
      width, dtype=config.dtype, name=name,
      **{"kernel_init": nn.initializers.xavier_uniform(), **kwargs},
    )
    clip = self.condition(text)
    still = jnp.zeros_like(time)
    embeddings = [embed_time(value, config.time_width) for value in (time, still, still)]
    block = nn.remat(Block) if config.remat else Block

    def run(name, x, skip=None):
      module = block(config.heads, sum(config.down), CONDITIONS, config.dtype, name=name)
      return module(x, skip, embeddings, clip, _at(extra, name))

    def level(way, number, x, skip=None):
      for index in range(getattr(config, way)[number]):
        x = run(f"{way}_{number}_{index}", x, skip if index == 0 else None)
      return x

    x = norm(dense("embed", config.width, kernel_init=scaled_xavier(0.02**2))(noised))
    skip = level("down", 0, x)
    x = level("down", 1, dense("down_map", config.width)(norm(skip)))
    x = dense("up_map", config.width)(norm(level("up", 0, x)))
    x = norm(level("up", 1, x, skip))
    noise = dense("noise", config.channels, kernel_init=nn.initializers.zeros)(x)
    return noise.astype(jnp.float32)

  def condition(self, text: Text) -> jax.Array:
    """Tokens [B, L + 8, condition_width] of text."""
    config, batch = self.config, len(text["text"])

    def tokens(name, value, count):
      dense = Dense(
        count * config.condition_width, dtype=config.dtype,
        kernel_init=nn.initializers.normal(0.02), name=name,
      )
      return dense(value).reshape(batch, -1, config.condition_width)

    image = text.get("image")
    if image is None:
      image = jnp.zeros((batch, config.image_width), config.dtype)
    parts = [
      tokens("text", text["text"], 1),
      tokens("pooled", text["pooled"], TOKENS),
      tokens("image", image, TOKENS),
    ]
    return norm(jnp.concatenate(parts, axis=1))


def build_stage_c(config: Config, empty: Text | None = None) -> Host:
  """Stage C as a host of a user branch; sites are blocks, as `sites` names them, `width` wide.

  Text is {"text": CLIP's states [B, L, text_width], "pooled": [B, text_width]}, with L = 77 in the
  published weights, and optionally "image": an image's embedding [B, image_width], else zeros.

  Args:
    config: see `Config`.
    empty: text of the empty caption, for one prompt (no batch axis), which `blank` gives for every
      prompt. The network was trained with it as the text that says nothing; without it, no blank.

  Raises:
    ConfigError: where heads do not divide the width, a level has no block, text has the wrong parts, or
      an `Extra` names a site that is not there.
  """
  if config.width % config.heads:
    raise ConfigError(f"{config.heads} heads do not divide a width of {config.width}.")
  if min(*config.down, *config.up) < 1 or len(config.down) != 2 or len(config.up) != 2:
    raise ConfigError(f"Stage C has two levels with blocks, not down={config.down}, up={config.up}.")
  if config.time_width % 2 or config.time_width < 4:
    raise ConfigError(f"The embedding of time has an even width from 4, not {config.time_width}.")
  module, schedule = StageC(config), Cosine()
  shape = (config.side, config.side, config.channels)
  width_at = dict.fromkeys(sites(config), config.width)

  def init(key):
    text = {"text": jnp.zeros((1, 1, config.text_width)), "pooled": jnp.zeros((1, config.text_width))}
    return module.init(key, jnp.zeros((1, *shape)), jnp.zeros(1), text)["params"]

  def predict_noise(params, noised, time, text, extra=None):
    _check(text)
    strange = {name for one in branches(extra) for name in (*one.key, *one.value)} - set(width_at)
    if strange:
      raise ConfigError(f"Stage C of these sizes has no site {min(strange)!r}; see `sites`.")
    return module.apply({"params": params}, noised, seen_time(schedule, time), text, extra)

  def blank(text):
    if empty is None:
      raise ConfigError("Stage C has no blank text: build it with the text of the empty caption.")
    _check(text)
    # An image would still say something.
    wanted = {name: jnp.zeros_like(value[0]) if name == "image" else jnp.asarray(empty[name])
              for name, value in text.items()}
    return {name: jnp.broadcast_to(value[None], text[name].shape) for name, value in wanted.items()}

  return Host(init, predict_noise, blank, width_at, schedule, shape)


def _check(text: Text) -> None:
  if not {"text", "pooled"} <= set(text) <= {"text", "pooled", "image"}:
    names = ", ".join(sorted(text)) or "nothing"
    raise ConfigError(f"Stage C reads text and pooled, and image where there is one, not {names}.")


def _at(extra: Added, site: str) -> tuple[Extra, ...]:
  """What is added at one site, so that a block neither keeps nor differentiates the rest."""
  return tuple(
    one._replace(key={site: one.key[site]}, value={site: one.value[site]})
    for one in branches(extra) if site in one.key
  )
