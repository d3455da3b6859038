"""The view for personal preferences between samples: pairs, with other comparisons of the same user.

A training row is a comparison and a chunk of past comparisons by the same user that does not hold it.
The last chunk of every user is kept for evaluation: it tells who the user is when samples are
generated.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from recjax.data.preference_table import PreferenceTable
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Rows, SampleCases, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Positive
from recjax.registry import unknown

SUPPORTS = ("tokens", "pairs", "none")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "sample_pairs"
  # How a user is told: tokens = those of a chunk, made beforehand; pairs = its comparisons themselves;
  # none = by number alone.
  support: str = "tokens"
  chunks: Positive = 4  # chunks that each comparison is shown with, one at a time
  validation_samples: Positive = 8  # generated for each user
  test_samples: Positive = 40

  def __post_init__(self):
    if self.support not in SUPPORTS:
      raise ConfigError(unknown("view.support", self.support, SUPPORTS))


def build(config: Config, data: PreferenceTable, split: None) -> View:
  """Rows of winner, loser [B, H, W, C], user_id, text_NAME and what tells the user.

  That is user_token [B, L, D] and user_mask [B, L], or support_winner, support_loser
  [B, n, H, W, C], support_text_NAME [B, n, ...] and user_mask [B, n], or nothing. Cases have the same
  without winner and loser.
  """
  del split
  if not isinstance(data, PreferenceTable):
    raise DataError("The view 'sample_pairs' needs a table of preferences between samples.")
  kept = last_chunks(data)
  train = _rows(config, data, **training_rows(config, data, kept))
  groups = {"validation": data.groups["validation"]}
  validation = _cases(config, data, kept, groups, config.validation_samples)
  test = _cases(config, data, kept, data.groups["test"], config.test_samples)
  return View(train, validation, test, {}, {"train_rows": train.count})


def last_chunks(data: PreferenceTable) -> np.ndarray:
  """The chunk of each user that is kept for evaluation, int [users + 1]."""
  last = np.full(data.vocabularies["user"], -1)
  last[data.chunk_user] = np.arange(len(data.chunk_user))
  return last


def training_rows(
  config: Config, data: PreferenceTable, kept: np.ndarray
) -> dict[str, np.ndarray]:
  """Columns pair and chunk [R]: comparisons of training users with chunks that do not hold them.

  Comparison number p of a chunk is shown with the chunks that follow its own, in a circle.
  """
  chunk_of = np.full(len(data.user), -1)
  chunk_of[data.chunk] = np.arange(len(data.chunk))[:, None]
  usable = np.isin(data.user, data.groups["train"]) & (chunk_of >= 0)
  pair = np.flatnonzero(usable & (chunk_of != kept[data.user]))
  if config.support == "none":
    return {"pair": pair, "chunk": np.zeros_like(pair)}
  first = np.searchsorted(data.chunk_user, np.arange(data.vocabularies["user"]))
  count = (kept - first)[data.user[pair]]  # chunks of the user to train with
  pair, count = pair[count > 1], count[count > 1]
  if not len(pair):
    raise DataError(f"{data.name} has no user with 3 chunks of comparisons or more.")
  start, own = first[data.user[pair]], chunk_of[pair]
  rows = []
  for step in range(config.chunks):
    turn = 1 + (step + pair) % (count - 1)
    more = step < count - 1
    rows.append((pair[more], (start + (own - start + turn) % count)[more]))
  return {"pair": np.concatenate([r[0] for r in rows]), "chunk": np.concatenate([r[1] for r in rows])}


def _rows(
  config: Config, data: PreferenceTable, *, chunk: np.ndarray, pair: np.ndarray | None = None,
  user: np.ndarray | None = None, prompt: np.ndarray | None = None,
) -> Rows:
  """Rows over pairs, or over users with prompts, each with a chunk."""
  shape = data.samples.shape[1:]
  texts = {f"text_{name}": x for name, x in data.prompts.items()}
  fields = {"user_id": Field("id", (), "user")}
  fields |= {name: Field("vector", x.shape[1:]) for name, x in texts.items()}
  columns = {"prompt_of": data.prompt, **texts}
  if pair is None:
    columns |= {"user": user.astype(np.int32), "prompt": prompt.astype(np.int32)}
  else:
    fields |= {name: Field("vector", shape) for name in ("winner", "loser")}
    columns |= {"pair": pair.astype(np.int32), "user": data.user}
  if pair is not None or config.support == "pairs":
    columns |= {"samples": data.samples, "winner": data.winner, "loser": data.loser}
  if config.support != "none":
    columns["chunk"] = chunk.astype(np.int32)
  size = data.chunk.shape[1]
  if config.support == "tokens":
    if data.tokens is None:
      raise DataError(f"{data.name} has no tokens of its users; take another view.support.")
    fields["user_token"] = Field("vector", data.tokens.shape[1:])
    fields["user_mask"] = Field("mask", data.tokens.shape[1:2])
    columns["tokens"] = data.tokens
  elif config.support == "pairs":
    fields |= {f"support_{name}": Field("vector", (size, *shape)) for name in ("winner", "loser")}
    fields |= {f"support_{n}": Field("vector", (size, *x.shape[1:])) for n, x in texts.items()}
    fields["user_mask"] = Field("mask", (size,))
    columns["members"] = data.chunk

  def gather(xp, columns, index):
    batch = {}
    if pair is None:
      batch["user_id"], asked = columns["user"][index], columns["prompt"][index]
    else:
      number = columns["pair"][index]
      batch["user_id"], asked = columns["user"][number], None
      for name in ("winner", "loser"):
        which = columns[name][number]
        batch[name], asked = columns["samples"][which], columns["prompt_of"][which]
    batch |= {name: columns[name][asked] for name in texts}
    if config.support == "tokens":
      batch["user_token"] = columns["tokens"][columns["chunk"][index]]
      batch["user_mask"] = xp.ones(batch["user_token"].shape[:2], bool)
    elif config.support == "pairs":
      members = columns["members"][columns["chunk"][index]]
      for name in ("winner", "loser"):
        which = columns[name][members]
        batch[f"support_{name}"] = columns["samples"][which]
      batch |= {f"support_{name}": columns[name][columns["prompt_of"][which]] for name in texts}
      batch["user_mask"] = xp.ones(members.shape, bool)
    return batch

  return Rows(len(chunk), columns, gather, Schema(fields, data.vocabularies))


def _cases(
  config: Config, data: PreferenceTable, kept: np.ndarray, groups: Mapping[str, Any], samples: int
) -> SampleCases:
  """`samples` cases of every user of the groups, whose prompts take turns."""
  user = np.concatenate([np.repeat(members, samples) for members in groups.values()]).astype(np.int32)
  group = np.repeat(np.arange(len(groups)), [samples * len(m) for m in groups.values()])
  repeat = (np.arange(len(user)) % samples).astype(np.int32)
  prompt = repeat % len(next(iter(data.prompts.values())))
  rows = _rows(config, data, chunk=kept[user], user=user, prompt=prompt)
  return SampleCases(
    rows, user, prompt, repeat, group.astype(np.int32), tuple(groups), data.judge,
    data.samples.shape[1:],
  )
