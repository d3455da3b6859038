"""What learners on top of a text-to-image host share: its batch fields, blank prompts, generation.

A batch gives the prompts in the fields text_NAME; the host gets them as text[NAME].
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from recjax.data.schema import Schema
from recjax.diffusion.guidance import guided, guided_by_two
from recjax.diffusion.host import Added, Host, Text
from recjax.diffusion.samplers import from_noise, sample
from recjax.errors import ConfigError
from recjax.models.learner import Batch
from recjax.registry import resolve

_TEXT = "text_"


def require(schema: Schema, *names: str) -> None:
  """Raises ConfigError where a batch lacks one of these fields."""
  missing = [name for name in names if name not in schema.fields]
  if missing:
    raise ConfigError(f"The batch lacks {', '.join(map(repr, missing))}.")


def host_of(config: Any, schema: Schema, field: str) -> Host:
  """The host that a config names, for samples like those of a field and the prompts of the schema."""
  require(schema, field)
  text = {name: schema.fields[_TEXT + name].shape for name in text_of(schema.fields)}
  return resolve("host", config.name).build(config, schema.fields[field].shape, text)


def text_of(batch: Mapping[str, Any]) -> dict[str, Any]:
  """The prompts of a batch, or the fields of a schema that describe them."""
  return {name.removeprefix(_TEXT): x for name, x in batch.items() if name.startswith(_TEXT)}


def blanked(host: Host, text: Text, key: jax.Array, rate: float) -> dict[str, jax.Array]:
  """Prompts of which a share, drawn row by row, says nothing; a host without blank prompts needs 0."""
  if not rate:
    return dict(text)
  rows = next(iter(text.values())).shape[0]
  chosen = jax.random.bernoulli(key, rate, (rows,))
  pick = lambda said, nothing: jnp.where(
    chosen.reshape(rows, *(1,) * (said.ndim - 1)), nothing, said
  )
  return jax.tree.map(pick, dict(text), dict(host.blank(text)))


def generate(
  host: Host,
  params: Any,
  batch: Batch,
  noise: jax.Array,
  extra: Added = None,
  *,
  steps: int = 20,
  text_scale: float = 1.0,
  user_scale: float = 1.0,
  limit: float = 0.0,
) -> jax.Array:
  """Samples [B, H, W, C] from noise [B, H, W, C] for the prompts of a batch, without further noise.

  Args:
    host: the network.
    params: of the host.
    batch: its text_ fields are read.
    noise: where to begin.
    extra: what the user adds, or None for the host alone.
    steps: of the sampler.
    text_scale: guidance from no prompt to the prompt; 1 needs no pass without a prompt.
    user_scale: guidance from the prompt to prompt and user; equal to text_scale needs no pass with
      the prompt alone.
    limit: predicted samples are cut to -limit .. limit at every step, as suits pictures, whose values
      have bounds; 0 = not.
  """
  text = text_of(batch)

  def predict(noised, time):
    run = lambda text, extra: host.predict_noise(params, noised, time, text, extra)
    if extra is None or user_scale == text_scale:
      told = run(text, extra)
      if text_scale == 1.0:
        return told
      return guided(run(host.blank(text), None), told, text_scale)
    prompted, personal = run(text, None), run(text, extra)
    if text_scale == 1.0:
      return guided(prompted, personal, user_scale)
    return guided_by_two(run(host.blank(text), None), prompted, personal, text_scale, user_scale)

  denoise = from_noise(predict, host.schedule)
  within = lambda noised, time: jnp.clip(denoise(noised, time), -limit, limit)
  schedule = host.schedule
  return sample(within if limit else denoise, noise, schedule, schedule.path(steps))
