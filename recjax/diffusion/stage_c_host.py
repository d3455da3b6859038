"""Stage C as a host that configs can name: `model.host={'name': 'stage_c', 'weights': PATH, ...}`.

Samples are latents [side, side, channels]; prompts are text_text [L, text_width] and text_pooled
[text_width], with text_image [image_width] where there are images. See `stage_c` for the network.
"""

import dataclasses
import zipfile
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from recjax.diffusion import stage_c
from recjax.diffusion.host import Host
from recjax.diffusion.stage_c_weights import check_weights, read_weights
from recjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Config(stage_c.Config):
  """Sizes, and where the weights and the text of the empty caption are."""

  name: str = "stage_c"
  weights: str = ""  # safetensors file with the published names; none = random weights
  param_dtype: str = "float32"  # of the parameters; the published ones are bfloat16
  empty: str = ""  # npz file with text and pooled of the empty caption; blank prompts need it


def build(
  config: Config, shape: tuple[int, int, int], text: Mapping[str, tuple[int, ...]]
) -> Host:
  """Stage C for samples of `shape` and prompts of the shapes `text`; `init` reads the weights.

  Raises:
    ConfigError: where sizes do not go together.
    DataError: where a file cannot be read or does not fit.
  """
  expected = (config.side, config.side, config.channels)
  if tuple(shape) != expected:
    raise ConfigError(f"Stage C of these sizes denoises {expected}, not samples of {tuple(shape)}.")
  widths = {"text": config.text_width, "pooled": config.text_width, "image": config.image_width}
  for name, found in text.items():
    if name in widths and found[-1:] != (widths[name],):
      raise ConfigError(f"Stage C of these sizes reads {name} of width {widths[name]}, not {found}.")
  host = stage_c.build_stage_c(config, _empty_caption(config) if config.empty else None)
  cast = lambda params: jax.tree.map(lambda x: x.astype(config.param_dtype), params)
  if not config.weights:
    return host._replace(init=lambda key: cast(host.init(key)))

  def init(key):
    check_weights(config.weights, config)
    shapes = jax.eval_shape(lambda key: cast(host.init(key)), key)
    # Read by a callback: as constants of the program that makes variables, they would be held twice.
    return jax.pure_callback(
      lambda: read_weights(config.weights, config, jnp.dtype(config.param_dtype)), shapes
    )

  return host._replace(init=init)


def _empty_caption(config: Config) -> dict[str, np.ndarray]:
  """Arrays text [L, text_width] and pooled [text_width] of the file."""
  try:
    with open(config.empty, "rb") as stream, np.load(stream, allow_pickle=False) as file:
      found = {name: file[name] for name in ("text", "pooled")}
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise DataError(f"{config.empty} does not give text and pooled: {error}.") from error
  for name, rank in (("text", 2), ("pooled", 1)):
    array = found[name]
    if array.ndim != rank or array.shape[-1] != config.text_width:
      raise DataError(
        f"{config.empty}: {name} has shape {array.shape}, not {rank} axes, the last of "
        f"{config.text_width}."
      )
  return found
