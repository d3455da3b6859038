"""Evaluator: samples generated for users, judged by those users, against the same network without them.

Every case generates from one starting noise, the same for all users: without the user, with the user,
with the user at a part of the scale, and with another user's history instead. The judge belongs to the
data.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from recjax.data.views.rows import SampleCases
from recjax.errors import ConfigError
from recjax.evaluate.evaluation import (
  Catalogue,
  Evaluation,
  batches,
  compile_step,
  fit_batch_size,
  require,
  require_cases,
  run_batches,
)
from recjax.evaluate.pictures import grid
from recjax.ranges import Count, Positive, Share, Weight

_SHOWN = 12  # samples of a user in a picture


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the evaluation."""

  steps: Positive = 25  # of the sampler
  text_scale: float = 1.0  # guidance to the prompt
  user_scale: float = 1.0  # guidance from the prompt to prompt and user
  limit: Weight = 0.0  # predicted samples stay within -limit .. limit at every step; 0 = no bounds
  part: Share = 0.5  # of the branch's scale, for the values of `part`
  mixtures: Count = 0  # steps of a walk from each user to the next one; 0 = none, else at least 2
  pictures: Count = 0  # users of each group to show in a grid, for samples that are pictures
  batch_size: Positive = 1024  # cases generated at once
  seed: Count = 0  # of the starting noises

  def __post_init__(self):
    if self.mixtures == 1:
      raise ConfigError("mixtures are 0 or at least 2 steps of a walk, not 1.")


def build(
  config: Config,
  predict: Mapping[str, Callable],
  cases: SampleCases,
  *,
  mesh: jax.sharding.Mesh,
  catalogue: Catalogue | None = None,
) -> Callable[[Any], Evaluation]:
  """Prepares the evaluation; the returned run(variables) compiles once.

  Values: win (share of cases in which the judge likes the user's sample better than the one without the
  user; ties count one half), gain (of mean reward) and reward; base_reward; off_style and
  base_off_style; win_part, gain_part (part of the scale) and gain_beyond_part; with other users'
  histories win_other and gain_other. Where there are several groups also NAME_GROUP for win, gain,
  reward, win_other and gain_other. With mixtures, mixed_first_I and mixed_second_I are mean rewards by
  the first and second user of a walk at its step I, and mixed_first_order, mixed_second_order their
  rank correlation with the steps. A case of the result is a case; paired tests average those of a user.
  With pictures, `samples` shows the base in the first row and then a user a row, with the same prompts
  and noises, and `mixed` a walk a row.

  Raises:
    ConfigError: the model has no `encode_user` or `generate`, or the cases no judge.
    DataError: no cases.
  """
  if not isinstance(cases, SampleCases):
    raise ConfigError(
      "Evaluator 'personal_samples' needs a view whose cases have a judge, such as 'sample_pairs'."
    )
  require(predict, ("encode_user", "generate"), "personal_samples")
  if config.pictures and cases.shape[-1] != 3:
    raise ConfigError(f"Samples of shape {cases.shape} are no pictures: set pictures=0.")
  require_cases(cases.rows.count)
  count = cases.rows.count
  batch_size = fit_batch_size(config.batch_size, count, mesh)
  other = strangers(cases.repeat)
  kinds = {"base": (0.0, 0.0), "user": (1.0, 0.0), "part": (config.part, 0.0), "other": (0.0, 1.0)}
  walked = [(1.0 - s, s) for s in np.linspace(0, 1, config.mixtures)] if config.mixtures else []

  def step(variables, batch):
    key = jax.random.key(config.seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["repeat"])
    noise = jax.vmap(lambda k: jax.random.normal(k, cases.shape))(keys)
    rows = batch["rows"]
    how = {
      "text_scale": config.text_scale, "user_scale": config.user_scale, "steps": config.steps,
      "limit": config.limit,
    }
    own = predict["encode_user"](variables, rows)
    others = predict["encode_user"](variables, batch["other"])

    def make(scales):
      extra = (own._replace(scale=scales[0]), others._replace(scale=scales[1]))
      return predict["generate"](variables, rows, noise, extra, **how)

    # All as mixtures of two users, so that one program makes them; a branch of scale 0 adds nothing.
    made = jax.lax.map(make, jnp.asarray(list(kinds.values()) + walked, jnp.float32))
    found = dict(zip(kinds, made, strict=False))
    if walked:
      found["mixed"] = jnp.moveaxis(made[len(kinds) :], 0, 1)
    return found

  step = compile_step(step, mesh)

  def feed():
    for index, valid in batches(count, batch_size):
      rows = lambda i: cases.rows.gather(np, cases.rows.columns, i)
      batch = {"rows": rows(index), "other": rows(other[index]), "repeat": cases.repeat[index]}
      yield batch, valid

  def run(variables) -> Evaluation:
    found = run_batches(step, variables, feed(), mesh)
    judge = lambda name: cases.judge(found[name], cases.user, cases.prompt)
    base, user, part, others = (judge(name) for name in ("base", "user", "part", "other"))
    per_case = {
      "win": wins(user["reward"], base["reward"]),
      "gain": user["reward"] - base["reward"],
      "reward": user["reward"],
      "base_reward": base["reward"],
      "win_part": wins(part["reward"], base["reward"]),
      "gain_part": part["reward"] - base["reward"],
      "gain_beyond_part": user["reward"] - part["reward"],
      "win_other": wins(others["reward"], base["reward"]),
      "gain_other": others["reward"] - base["reward"],
    }
    for name in user.keys() - {"reward"}:
      per_case |= {name: user[name], f"base_{name}": base[name]}
    values = {name: float(np.mean(value)) for name, value in per_case.items()}
    for number, group in enumerate(cases.groups if len(cases.groups) > 1 else ()):
      for name in ("win", "gain", "reward", "win_other", "gain_other"):
        values[f"{name}_{group}"] = float(np.mean(per_case[name][cases.group == number]))
    if config.mixtures:
      values |= walk(cases, found["mixed"], cases.user, cases.user[other])
    facts = {"cases": count, "users": len(np.unique(cases.user))}
    shown = grids(cases, found, config.pictures) if config.pictures else {}
    return Evaluation(values, per_case, cases.user, None, facts, shown)

  return run


def strangers(repeat: np.ndarray) -> np.ndarray:
  """For each case [n] one of another user with the same prompt: of the next user, then the one after.

  A user thus meets many others, so that how alike two users happen to be averages out.
  """
  repeats = int(repeat.max()) + 1
  users = len(repeat) // repeats
  further = 1 + repeat % max(users - 1, 1)
  return (np.arange(len(repeat)) // repeats + further) % users * repeats + repeat


def grids(
  cases: SampleCases, found: Mapping[str, np.ndarray], users: int
) -> dict[str, np.ndarray]:
  """Images of the base and the first users of each group, and of the first users' walks."""
  repeats = int(cases.repeat.max()) + 1
  by_user = lambda name: found[name].reshape(-1, repeats, *found[name].shape[1:])
  group = cases.group[::repeats]
  chosen = np.concatenate([np.flatnonzero(group == g)[:users] for g in np.unique(group)])
  rows = np.concatenate([by_user("base")[:1], by_user("user")[chosen]])
  images = {"samples": grid(rows[:, :_SHOWN])}
  if "mixed" in found:
    images["mixed"] = grid(by_user("mixed")[chosen, 0])
  return images


def wins(reward: np.ndarray, against: np.ndarray) -> np.ndarray:
  """1 where a reward is above the other, one half where they are equal; [n]."""
  return 0.5 * (1.0 + np.sign(reward - against))


def walk(
  cases: SampleCases, mixed: np.ndarray, first: np.ndarray, second: np.ndarray
) -> dict[str, float]:
  """Mean rewards of samples mixed [n, S, ...] by either user [n] at every step, and their order."""
  values, steps = {}, range(mixed.shape[1])
  for name, who in (("first", first), ("second", second)):
    means = [
      float(np.mean(cases.judge(mixed[:, i], who, cases.prompt)["reward"])) for i in steps
    ]
    values |= {f"mixed_{name}_{i}": mean for i, mean in enumerate(means)}
    order = stats.spearmanr(steps, means).statistic if np.ptp(means) > 0 else 0.0
    values[f"mixed_{name}_order"] = float(order)
  return values
