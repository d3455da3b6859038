"""Interests that move: sequences whose topic is a known function of time, for each user another.

    topic_u(t) = floor(K frac(p_u + v_u t)),  v_u in {1, 2, -1} evenly,  p_u ~ U(0, 1)

A user has SESSIONS sessions, at t_s = s / SESSIONS + U(0, 0.15), of ITEMS items each, drawn evenly
from the topic of that moment; with the probability `noise` an item is one of all items instead. Of
the last session there is the first item only: what a user wants who comes back. The last session
before says little about that; what v_u is shows in several of them.
"""

from collections.abc import Iterator

import numpy as np

from recjax.data.sources.base import Chunk

VELOCITIES = (1.0, 2.0, -1.0)
SESSIONS, ITEMS = 6, 4
HISTORY = (SESSIONS - 1) * ITEMS  # events before the one to predict
UNIT = 1_000_000  # seconds that are 1 of t; the items of a session are a second apart
_JITTER = 0.15
_START = 1_600_000_000
_GRID = 240  # phases that the oracle tries


def draw_users(
  rng: np.random.Generator, count: int, num_items: int, topics: int, noise: float
) -> tuple[np.ndarray, np.ndarray]:
  """Items from 1 int64 [count, HISTORY + 1] and session times [count, SESSIONS] of new users."""
  times = np.arange(SESSIONS) / SESSIONS + rng.uniform(0, _JITTER, (count, SESSIONS))
  velocity = rng.choice(VELOCITIES, count)[:, None]
  topic = topic_at(rng.random((count, 1)), velocity, times, topics)
  size = num_items // topics
  own = topic[:, :, None] * size + rng.integers(size, size=(count, SESSIONS, ITEMS))
  any_item = rng.integers(num_items, size=own.shape)
  items = np.where(rng.random(own.shape) < noise, any_item, own) + 1
  return items.reshape(count, -1)[:, : HISTORY + 1], times


def topic_at(phase: np.ndarray, velocity: np.ndarray, times: np.ndarray, topics: int) -> np.ndarray:
  """Topics from 0 at times, int64; the arguments broadcast."""
  return np.floor(topics * np.mod(phase + velocity * times, 1.0)).astype(np.int64) % topics


def walks(seed: int, count: int, num_items: int, topics: int, noise: float) -> Iterator[Chunk]:
  """The events of all users."""
  items, times = draw_users(np.random.default_rng([seed, 2]), count, num_items, topics, noise)
  place = np.arange(items.shape[1])
  when = _START + np.round(times[:, place // ITEMS] * UNIT).astype(np.int64)
  user = np.repeat(np.arange(1, count + 1), len(place))
  yield Chunk(user, items.reshape(-1), (when + place % ITEMS).reshape(-1), {})


def oracle(
  items: np.ndarray, times: np.ndarray, sessions: int, num_items: int, topics: int, noise: float
) -> np.ndarray:
  """Probability [n, topics] of each topic at the last session's time, from the `sessions` before it.

  Exact up to the grid of phases. items and times are those of `draw_users`.
  """
  size, known = num_items // topics, slice(SESSIONS - 1 - sessions, SESSIONS - 1)
  seen = (items[:, :HISTORY] - 1) // size
  counts = (seen.reshape(-1, SESSIONS - 1, ITEMS)[..., None] == np.arange(topics)).sum(2)[:, known]
  inside, outside = (1 - noise) / size + noise / num_items, max(noise / num_items, 1e-12)
  phase = (np.arange(_GRID) + 0.5) / _GRID
  belief = np.zeros((len(items), topics))
  evidence = []
  for velocity in VELOCITIES:
    at = topic_at(phase[None, :, None], velocity, times[:, None, known], topics)
    hits = np.take_along_axis(counts[:, None].repeat(_GRID, 1), at[..., None], 3)[..., 0].sum(2)
    evidence.append(hits * np.log(inside / outside))
  evidence = np.stack(evidence, axis=1)
  weight = np.exp(evidence - evidence.max(axis=(1, 2), keepdims=True))
  for number, velocity in enumerate(VELOCITIES):
    then = topic_at(phase[None], velocity, times[:, -1:], topics)
    for topic in range(topics):
      belief[:, topic] += (weight[:, number] * (then == topic)).sum(1)
  return belief / belief.sum(axis=1, keepdims=True)


def best_hit_rates(seed: int, num_items: int, topics: int, noise: float) -> dict[str, float]:
  """Share of users whose next item is in the likeliest topic, by how many sessions are known.

  Of 2,000 users other than those of `walks`; with as many places in a list as a topic has items,
  nobody can hit more often.
  """
  rng = np.random.default_rng([seed, 3])
  items, times = draw_users(rng, 2_000, num_items, topics, noise)
  answer = (items[:, -1] - 1) // (num_items // topics)
  rates = {}
  for sessions in (1, 2, SESSIONS - 1):
    belief = oracle(items, times, sessions, num_items, topics, noise)
    rates[f"sessions_{sessions}"] = float((belief.argmax(axis=1) == answer).mean())
  return rates
