"""A small text-to-image network: a transformer over patches that looks at prompt tokens.

    x <- x + SelfAttention(m(LN(x), t));  x <- x + CrossAttention(LN(x), prompt);  x <- x +
    MLP(m(LN(x), t)) m(h, t) = h (1 + a_t) + b_t,    a_t, b_t linear in features of the log
    signal-to-noise ratio at t

The attention to the prompt is where other branches are added (`nn.decoupled_attention`); its sites are
called block_0, block_1 and so on. Output layers and (a, b) start at zero. After Peebles and Xie, ICCV
2023, arXiv 2212.09748, with cross-attention for the prompt.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.diffusion.host import Added, Host, Text
from recjax.diffusion.schedules import SCHEDULES
from recjax.errors import ConfigError
from recjax.nn.decoupled_attention import attend, decoupled_attention
from recjax.nn.dense import Dense
from recjax.ranges import Positive
from recjax.registry import unknown

_FREQUENCIES = 16


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the network."""

  name: str = "small"
  width: Positive = 64
  blocks: Positive = 3
  heads: Positive = 4  # must divide width
  expansion: Positive = 4  # hidden width of the MLP in multiples of width
  patch: Positive = 1  # side of a patch; must divide height and width of a sample
  text_tokens: Positive = 2  # tokens that the prompt's features become
  schedule: str = "linear"  # linear | scaled_linear | exponential | cosine


class SmallNetwork(nn.Module):
  """Noised samples to predicted noise."""

  config: Config

  @nn.compact
  def __call__(self, noised: jax.Array, log_snr: jax.Array, text: Text, extra: Added) -> jax.Array:
    """Noise [B, H, W, C] for noised [B, H, W, C], log_snr [B] and text["prompt"] [B, F]."""
    config, patch = self.config, self.config.patch
    batch, height, width, channels = noised.shape
    rows, columns = height // patch, width // patch
    dense = lambda name, size: Dense(size, name=name)
    normal = nn.initializers.normal(0.02)

    # Patches as tokens, row by row.
    x = noised.reshape(batch, rows, patch, columns, patch, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)
    x = dense("embed", config.width)(x)
    x = x + self.param("position", normal, (1, rows * columns, config.width), jnp.float32)
    prompt = dense("prompt", config.text_tokens * config.width)(text["prompt"])
    prompt = nn.LayerNorm(name="prompt_norm")(prompt.reshape(batch, config.text_tokens, -1))
    time = nn.silu(dense("time", config.width)(time_features(log_snr)))

    for number in range(config.blocks):
      x = Block(config, name=f"block_{number}")(x, time, prompt, extra)

    x = nn.LayerNorm(name="output_norm")(x)
    x = Dense(patch * patch * channels, kernel_init=nn.initializers.zeros, name="output")(x)
    x = x.reshape(batch, rows, columns, patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(noised.shape)


class Block(nn.Module):
  """Self-attention, attention to the prompt, MLP; its name is the site of added branches."""

  config: Config

  @nn.compact
  def __call__(
    self, x: jax.Array, time: jax.Array, prompt: jax.Array, extra: Added
  ) -> jax.Array:
    """x [B, S, D] with time [B, D] and prompt [B, T, D]; returns [B, S, D]."""
    config, width = self.config, self.config.width
    zeros = nn.initializers.zeros
    shifts = Dense(4 * width, kernel_init=zeros, name="modulation")(time)[:, None, :]
    scale_1, shift_1, scale_2, shift_2 = jnp.split(shifts, 4, axis=-1)
    dense = lambda name: Dense(width, name=name)
    norm = lambda name: nn.LayerNorm(name=name)

    h = norm("self_norm")(x) * (1 + scale_1) + shift_1
    mixed = attend(dense("self_query")(h), dense("self_key")(h), dense("self_value")(h), config.heads)
    x = x + Dense(width, kernel_init=zeros, name="self_output")(mixed)

    query = dense("query")(norm("cross_norm")(x))
    key, value = dense("key")(prompt), dense("value")(prompt)
    mixed = decoupled_attention(query, key, value, config.heads, self.name, extra)
    # Not zero at the start: a branch that is added here must reach the output at once.
    x = x + dense("output")(mixed)

    h = norm("mlp_norm")(x) * (1 + scale_2) + shift_2
    h = nn.gelu(Dense(config.expansion * width, name="mlp_hidden")(h))
    return x + Dense(width, kernel_init=zeros, name="mlp_output")(h)


def time_features(log_snr: jax.Array) -> jax.Array:
  """Sines and cosines [B, 2 * 16] of log signal-to-noise ratios [B], from slow to fast."""
  angle = log_snr[:, None] * np.geomspace(0.05, 5.0, _FREQUENCIES, dtype=np.float32)[None, :]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def build(
  config: Config, shape: tuple[int, int, int], text: Mapping[str, tuple[int, ...]]
) -> Host:
  """The network for samples of `shape` (H, W, C) and prompts of one vector: text {"prompt": (F,)}.

  A blank prompt is the zero vector. Raises ConfigError for sizes that do not go together.
  """
  if config.schedule not in SCHEDULES:
    raise ConfigError(unknown("schedule", config.schedule, SCHEDULES))
  if config.width % config.heads:
    raise ConfigError(f"width={config.width} is not divisible by heads={config.heads}.")
  if shape[0] % config.patch or shape[1] % config.patch:
    raise ConfigError(
      f"Samples of {shape[0]} x {shape[1]} cannot be cut into patches of {config.patch}."
    )
  if set(text) != {"prompt"} or len(text["prompt"]) != 1:
    raise ConfigError(f"The small host reads prompts of one vector, 'prompt', not {dict(text)}.")
  schedule = SCHEDULES[config.schedule]()
  network = SmallNetwork(config)

  def init(key):
    example = {"prompt": jnp.zeros((1, *text["prompt"]))}
    return network.init(key, jnp.zeros((1, *shape)), jnp.zeros((1,)), example, None)["params"]

  def predict_noise(params, noised, time, text, extra):
    return network.apply({"params": params}, noised, schedule.log_snr(time), text, extra)

  sites = {f"block_{number}": config.width for number in range(config.blocks)}
  blank = lambda text: jax.tree.map(jnp.zeros_like, dict(text))
  return Host(init, predict_noise, blank, sites, schedule, tuple(shape))
