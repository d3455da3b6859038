"""Pictures as arrays in [-1, 1]: what users may like about them, and made-up ones to try it on."""

import numpy as np

SHAPES = ("disc", "square", "diamond", "ring", "cross", "bar")
ATTRIBUTES = ("warmth", "greenness", "ink", "contrast")
_BLOCK = 512


def attributes(pictures: np.ndarray) -> np.ndarray:
  """Warmth, greenness, ink (distance from white) and contrast, float32 [n, 4], of RGB [n, H, W, 3]."""
  colour = np.clip((pictures + 1) / 2, 0, 1)
  red, green, blue = np.moveaxis(colour, -1, 0)
  mean = lambda x: x.mean(axis=(1, 2))
  found = (
    mean(red - blue), mean(green - (red + blue) / 2), mean(1 - colour.min(-1)),
    colour.mean(-1).std(axis=(1, 2)),
  )
  return np.stack(found, axis=1).astype(np.float32)


class Measure:
  """What tastes in pictures are about: attributes relative to those of known pictures of the prompt.

  The mean over the known pictures of a prompt is 0; one unit is the deviation within prompts.
  """

  def __init__(self, pictures: np.ndarray, prompt: np.ndarray):
    self._pictures, self._prompt = pictures, prompt
    found, size = attributes(pictures), np.maximum(np.bincount(prompt), 1)[:, None]
    total = np.zeros((len(size), len(ATTRIBUTES)))
    np.add.at(total, prompt, found)
    self._mean = total / size
    self._deviation = (found - self._mean[prompt]).std(axis=0)

  def __call__(self, pictures: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Values [n, 4] of pictures [n, H, W, 3] and their prompts [n]."""
    return (attributes(pictures) - self._mean[prompt]) / self._deviation

  def distance(self, pictures: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Root mean squared distance [n] to the nearest known picture of the prompt."""
    distance = np.zeros(len(pictures))
    for number in np.unique(prompt):
      asked = np.flatnonzero(prompt == number)
      known = self._pictures[self._prompt == number].reshape(-1, pictures[0].size)
      lengths = np.square(known).sum(1)
      for start in range(0, len(asked), _BLOCK):
        rows = asked[start : start + _BLOCK]
        x = pictures[rows].reshape(len(rows), -1)
        squared = np.square(x).sum(1)[:, None] - 2 * x @ known.T + lengths[None]
        distance[rows] = np.sqrt(np.maximum(squared.min(1), 0) / x.shape[1])
    return distance


def shrink(pictures: np.ndarray, size: int = 4) -> np.ndarray:
  """Means over a grid of size x size fields, flat: [n, size * size * C]."""
  count, height, width, channels = pictures.shape
  fields = pictures.reshape(count, size, height // size, size, width // size, channels)
  return fields.mean(axis=(2, 4)).reshape(count, -1)


def draw_shapes(rng: np.random.Generator, shape: np.ndarray, size: int) -> np.ndarray:
  """Pictures float32 [n, size, size, 3] of SHAPES [n] by number, of random colour, size and place."""
  count = len(shape)
  place, colour = rng.uniform(-0.25, 0.25, (2, count, 1, 1)), rng.uniform(-1, 0.8, (count, 3))
  radius = rng.uniform(0.35, 0.75, (count, 1, 1))
  grid = (np.arange(size) + 0.5) * 2 / size - 1
  across, down = np.abs(grid[None, None, :] - place[0]), np.abs(grid[None, :, None] - place[1])
  round_ = np.hypot(across, down)
  inside = {
    "disc": radius - round_,
    "square": 0.85 * radius - np.maximum(across, down),
    "diamond": 1.15 * radius - across - down,
    "ring": 0.25 * radius - np.abs(round_ - 0.75 * radius),
    "cross": np.minimum(0.3 * radius - np.minimum(across, down), radius - np.maximum(across, down)),
    "bar": np.minimum(0.35 * radius - down, radius - across),
  }
  depth = np.stack([inside[name] for name in SHAPES])[shape, np.arange(count)]
  cover = np.clip(depth * size / 2 + 0.5, 0, 1)[..., None]  # edges are a pixel wide
  return (cover * colour[:, None, None, :] + (1 - cover)).astype(np.float32)
