"""Comparisons by users with planted tastes, made from a seed without any network.

 - `latents`: x = mean of the prompt + A z + noise, with z normal and A orthonormal; 4 tokens of 4
   numbers each. What users like is a direction of z.
 - `pictures`: a shape that the prompt names, of any colour, size and place, on white. What users like
   is a direction of warmth, greenness, ink and contrast.
Users are drawn from the sphere; with `rewards` there are that many users instead, with orthonormal
tastes, who all judge the same pairs.
"""

import dataclasses

import numpy as np

from recjax.data.preference_table import PreferenceTable
from recjax.data.sources import _pictures
from recjax.data.sources._preferences import (
  TASTES,
  People,
  World,
  compare,
  pairs_within,
  plant_users,
)
from recjax.errors import ConfigError
from recjax.ranges import Positive
from recjax.registry import unknown

LICENCE = "made up by a program, free of rights"
GENERATORS = ("latents", "pictures")
_WIDTH = 16  # dimensions of a latent


@dataclasses.dataclass(frozen=True)
class Config(People):
  """Keys of `config.data` for planted tastes."""

  generator: str = "latents"  # latents | pictures
  prompts: Positive = 8  # of latents; pictures have one for each shape
  samples: Positive = 4000  # pictures to compare; latents are made anew for each pair
  size: Positive = 16  # of pictures, height and width


def open_source(config: Config) -> PreferenceTable:
  """The comparisons; raises ConfigError for settings that cannot work."""
  if config.generator not in GENERATORS:
    raise ConfigError(unknown("generator", config.generator, GENERATORS))
  rng = np.random.default_rng([config.seed, GENERATORS.index(config.generator)])
  users = plant_users(config, rng)
  if config.generator == "latents":
    world = latents(config, rng, users.pairs)
    even = 2 * np.arange(users.pairs)
    return compare(config, rng, users, world, (even, even + 1))
  world = pictures(config, rng)
  return compare(config, rng, users, world, pairs_within(rng, world.prompt, users.pairs))


def latents(config: Config, rng: np.random.Generator, pairs: int) -> World:
  """Samples [2 pairs, 2, 2, 4] of which every second has the prompt of the one before.

  `off_style` is the distance to the mean of the prompt in the directions that nobody judges.
  """
  basis = np.linalg.qr(rng.standard_normal((_WIDTH, _WIDTH)))[0]
  style, rest = basis[:, :TASTES], basis[:, TASTES:]
  mean = rng.standard_normal((config.prompts, _WIDTH - TASTES)) @ rest.T
  prompt = np.repeat(rng.integers(config.prompts, size=pairs), 2)
  samples = mean[prompt] + rng.standard_normal((2 * pairs, TASTES)) @ style.T
  samples += 0.1 * rng.standard_normal(samples.shape)

  away = lambda shown, asked: shown.reshape(len(shown), _WIDTH) - mean[asked]
  return World(
    "tastes_latents", samples.astype(np.float32).reshape(-1, 2, 2, 4), prompt,
    np.eye(config.prompts, dtype=np.float32),
    lambda shown, asked: away(shown, asked) @ style,
    lambda shown, asked: np.linalg.norm(away(shown, asked) @ rest, axis=1),
    lambda x: x.reshape(len(x), -1),
    {"way": f"planted latents, seed {config.seed}", "licence": LICENCE},
  )


def pictures(config: Config, rng: np.random.Generator) -> World:
  """Pictures of shapes [samples, size, size, 3]; the prompt is the shape."""
  prompt = rng.integers(len(_pictures.SHAPES), size=config.samples)
  samples = _pictures.draw_shapes(rng, prompt, config.size)
  measure = _pictures.Measure(samples, prompt)
  return World(
    "tastes_pictures", samples, prompt, np.eye(len(_pictures.SHAPES), dtype=np.float32),
    measure, measure.distance, _pictures.shrink,
    {"way": f"planted pictures, seed {config.seed}", "licence": LICENCE,
     "attributes": list(_pictures.ATTRIBUTES), "names": list(_pictures.SHAPES)},
  )
