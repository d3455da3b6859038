"""From samples with a known measure to comparisons by planted users: tastes, labels, chunks, tokens."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from recjax.data.preference_table import PreferenceTable
from recjax.data.sources.base import Common
from recjax.errors import ConfigError
from recjax.ranges import Count, Positive, Weight

TASTES = 4  # dimensions that users differ in


@dataclasses.dataclass(frozen=True)
class People(Common):
  """Keys of every source that plants users."""

  seed: Count = 0
  train_users: Positive = 200
  validation_users: Positive = 20
  unseen_users: Positive = 50  # of the test, beside those trained on
  pairs: Positive = 160  # comparisons of each user
  chunk: Positive = 4  # comparisons that tell who a user is
  token_width: Positive = 32
  temperature: Weight = 0.3  # of the choice between two samples; 0 = always the better one
  # Above 0: this many users with orthonormal tastes instead, who judge the same pairs and never err.
  rewards: Count = 0
  only_reward: Count = 0  # train on this user's pairs only; 0 = all


class World(NamedTuple):
  """Samples that users can compare.

  Attributes:
    name: of the data set.
    samples: float32 [N, H, W, C].
    prompt: int [N] prompt of each.
    prompts: float32 [P, F] what stands for each prompt.
    measure: (samples [n, H, W, C], prompt [n]) -> what tastes are about, [n, TASTES].
    off_style: the same arguments -> [n], how far samples are from what they should look like.
    describe: (samples) -> [n, F] what tokens can be made of.
    facts: where the samples are from.
  """

  name: str
  samples: np.ndarray
  prompt: np.ndarray
  prompts: np.ndarray
  measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
  off_style: Callable[[np.ndarray, np.ndarray], np.ndarray]
  describe: Callable[[np.ndarray], np.ndarray]
  facts: Mapping[str, Any]


class Users(NamedTuple):
  """Who compares: user [M] of each comparison, tastes [users + 1, TASTES], groups as in the table, and
  how many distinct pairs there are."""

  user: np.ndarray
  tastes: np.ndarray
  groups: dict[str, Any]
  pairs: int


def plant_users(config: People, rng: np.random.Generator) -> Users:
  """Users with tastes uniform on the sphere, or one for each reward; ConfigError if that cannot be."""
  if not 0 <= config.only_reward <= config.rewards <= TASTES:
    raise ConfigError(
      f"config.data: of {config.rewards} rewards number {config.only_reward} cannot be taken alone; "
      f"there are at most {TASTES}."
    )
  if config.pairs < 3 * config.chunk:
    raise ConfigError(
      f"config.data: {config.pairs} comparisons a user are less than three chunks of {config.chunk}."
    )
  if config.rewards:
    numbers = np.arange(1, config.rewards + 1)
    tastes = np.eye(config.rewards, TASTES)
    trained = numbers[[config.only_reward - 1]] if config.only_reward else numbers
    groups = {
      "train": trained, "validation": trained,
      "test": {f"reward_{i}": numbers[[i - 1]] for i in numbers},
    }
  else:
    sizes = (config.train_users, config.unseen_users, config.validation_users)
    numbers = np.arange(1, sum(sizes) + 1)
    tastes = rng.standard_normal((len(numbers), TASTES))
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    seen, unseen, validation = np.split(numbers, np.cumsum(sizes)[:2])
    groups = {"train": seen, "validation": validation, "test": {"seen": seen, "unseen": unseen}}
  user = np.repeat(numbers, config.pairs)
  tastes = np.concatenate([np.zeros((1, TASTES)), tastes]).astype(np.float32)
  return Users(user, tastes, groups, config.pairs if config.rewards else len(user))


def pairs_within(
  rng: np.random.Generator, prompt: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Two indices [count] of different samples of one prompt each, from the prompts [N] of samples."""
  order = np.argsort(prompt, kind="stable")
  size = np.bincount(prompt)
  begin = np.cumsum(size) - size
  first = rng.integers(len(prompt), size=count)  # by place in `order`
  own = prompt[order][first]
  step = 1 + rng.integers(np.maximum(size[own] - 1, 1))
  second = begin[own] + (first - begin[own] + step) % size[own]
  return order[first], order[second]


def compare(
  config: People,
  rng: np.random.Generator,
  users: Users,
  world: World,
  pair: tuple[np.ndarray, np.ndarray],
) -> PreferenceTable:
  """The table of comparisons; pairs (first, second), each [users.pairs], are dealt out in turn.

  Every `config.chunk` comparisons of a user in a row are a chunk; what is left over is in none. A token
  is a fixed random projection of both samples' description and the prompt.
  """

  def judge(samples, who, prompt):
    reward = np.sum(world.measure(samples, prompt) * users.tastes[who], axis=1)
    return {"reward": reward, "off_style": world.off_style(samples, prompt)}

  user = users.user
  first, second = (side[np.arange(len(user)) % users.pairs] for side in pair)
  values = world.measure(world.samples, world.prompt)
  advantage = np.sum((values[first] - values[second]) * users.tastes[user], axis=1)
  if config.rewards or config.temperature == 0:
    wins = advantage > 0
  else:
    wins = rng.random(len(user)) < 1 / (1 + np.exp(-advantage / config.temperature))
  winner, loser = np.where(wins, first, second), np.where(wins, second, first)

  begin = np.searchsorted(user, np.arange(user.max() + 2))
  pieces = np.diff(begin) // config.chunk
  chunk_user = np.repeat(np.arange(len(pieces)), pieces)
  order = np.arange(len(chunk_user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
  chunk = (begin[chunk_user] + order * config.chunk)[:, None] + np.arange(config.chunk)

  described = world.describe(world.samples)
  seen = np.concatenate([described[winner], described[loser], world.prompts[world.prompt[winner]]], 1)
  lens = rng.standard_normal((seen.shape[1], config.token_width)) / np.sqrt(seen.shape[1])
  tokens = (seen @ lens)[chunk].astype(np.float32)

  facts = {
    **world.facts, "comparisons": len(user), "samples": len(world.samples),
    "prompts": len(world.prompts),
  }
  integer = lambda x: np.ascontiguousarray(x, np.int32)
  table = PreferenceTable(
    world.name, world.samples, integer(world.prompt), {"prompt": world.prompts}, integer(user),
    integer(winner), integer(loser), integer(chunk_user), integer(chunk), tokens, users.groups, judge,
    {"user": int(user.max()) + 1}, facts,
  )
  if not config.rewards:
    facts["probe_cosine"] = probe(table, users.tastes)
  return table


def probe(table: PreferenceTable, tastes: np.ndarray, ridge: float = 1.0) -> float:
  """Mean cosine between tastes [users + 1, A] and their ridge regression on the tokens of a chunk.

  Fitted on the chunks of the training users and measured on those of everyone else: tokens that do
  not tell users apart cannot steer.
  """
  x = table.tokens.reshape(len(table.tokens), -1).astype(np.float64)
  trained = np.isin(table.chunk_user, table.groups["train"])
  mean, y = x[trained].mean(0), tastes[table.chunk_user].astype(np.float64)
  a = x[trained] - mean
  weights = np.linalg.solve(a.T @ a + ridge * np.eye(a.shape[1]), a.T @ y[trained])
  found, truth = (x[~trained] - mean) @ weights, y[~trained]
  norms = np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1)
  return float(np.mean(np.sum(found * truth, axis=1) / np.maximum(norms, 1e-12)))
