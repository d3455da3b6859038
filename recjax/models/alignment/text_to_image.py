"""Denoising diffusion with a prompt: the base that alignment methods start from. Ho, Jain and Abbeel,
NeurIPS 2020, arXiv 2006.11239; blank prompts for guidance as in Ho and Salimans, arXiv 2207.12598.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,    loss = mean over dimensions of (e - e_theta(x_t, t, c))^2

The network is a host of `recjax/diffusion`; t is drawn from its schedule. `explained` in the metrics is
1 - loss: the share of the noise's variance that the network tells.

Where we depart from the paper, and why:
- The network is a transformer, not a U-Net, and the schedule is the host's.
- No moving average of the weights.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.diffusion import small_host
from recjax.diffusion.schedules import add_noise
from recjax.losses.diffusion_preference import noise_error
from recjax.models.alignment import _host
from recjax.models.learner import Learner, Objective
from recjax.ranges import Share


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "text_to_image"
  # The network, by name in the registry.
  host: Any = dataclasses.field(default=small_host.Config(), metadata={"module": "host"})
  blank_prompt: Share = 0.1  # share of prompts that are left blank, so that guidance has a start


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads sample [B, H, W, C] and the prompts text_*. Its `params` are the host's."""
  del counts
  host = _host.host_of(config.host, schema, "sample")

  def errors(params, batch, text, key):
    """Errors [B] at random times and noises."""
    time_key, noise_key = jax.random.split(key)
    start = batch["sample"]
    time = host.schedule.draw(time_key, start.shape[:1])
    noise = jax.random.normal(noise_key, start.shape)
    noised = add_noise(host.schedule.log_snr(time), start, noise)
    return noise_error(noise, host.predict_noise(params, noised, time, text, None))

  def loss(variables, batch, key):
    blank_key, key = jax.random.split(key)
    text = _host.blanked(host, _host.text_of(batch), blank_key, config.blank_prompt)
    error = errors(variables["params"], batch, text, key)
    weight = jnp.float32(len(error))
    return Objective(jnp.sum(error), weight, {"explained": (jnp.sum(1 - error), weight)})

  def denoising_error(variables, batch, key):
    """Errors [B] at the times and noises of a key, with every prompt told."""
    return errors(variables["params"], batch, _host.text_of(batch), key)

  def generate(variables, batch, noise, extra=None, **how):
    """Samples; see `_host.generate`."""
    return _host.generate(host, variables["params"], batch, noise, extra, **how)

  init = lambda key, tables, batch: {"params": host.init(key)}
  predict = {"denoising_error": denoising_error, "generate": generate}
  return Learner(schema, {}, init, loss, predict)
