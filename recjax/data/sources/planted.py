"""Data with a known truth, made from a seed without any network.

Click tables: rows of a history, a target and a click whose probability is known.
 - `count`: clicks grow with the number of behaviours in the target's category (G-COUNT).
 - `recency`: the same, recent behaviours counting more (G-RECENCY).
 - `affinity`: recent behaviours count more, and each by a product of fixed factors of its category and
   the target's instead of whether they are equal (G-RECENCY-TR).
 - `long`: as `count` with 100 behaviours and more noise, so that a short window is not enough.
 - `vectors`: as `long`, but of so many items that ids tell little; the category is read from given
   vectors (G-MM, `planted_vectors`).
 - `threads`: users follow cycles of items, and a click is on what comes next (G-CHAIN).
 - `multi`: items have three categories, one of each kind; clicks grow with the number of kinds in
   which the target's category is frequent among 100 behaviours (G-MULTI).
Sequences, as an event log:
 - `markov`: users walk along a fixed item-to-item chain, so that the last item tells the next.
 - `two_signals`: some steps go to the last item's one successor, the others to any item of a group
   that the user likes and has visited lately, so that one needs the last item or the last few.
 - `interest_functions`: topics that move with time, for each user at a velocity of its own
   (`planted_functions`).
 - `attributes`: users of two groups, half of whose clicks tell the group (`planted_attributes`).
 - `companions`: users of one cause with a usual companion, and others without (`planted_companions`).
 - `long_short`: users of three lasting interests and a new one (`planted_long_short`).
 - `queries`: searches and recommendations by tastes that stay and needs that change, with words for
   needs (`planted_queries`).
 - `modalities`: users of a few clusters of items, which given vectors of two kinds tell
   (`planted_modalities`).
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np

from recjax.data.click_table import ClickTable
from recjax.data.frozen import KINDS, FrozenTable
from recjax.data.sources import (
  planted_interests,
  planted_kinds,
  planted_threads,
  planted_vectors,
)
from recjax.data.sources.base import Common, Source
from recjax.data.sources.planted_logs import LICENCE, LOGS
from recjax.errors import ConfigError
from recjax.ranges import Count, Positive, Range, Share, Weight
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for planted data; 0 and -1 stand for the generator's own setting."""

  # "markov", "two_signals", "interest_functions", "attributes", "companions", "long_short", "queries",
  # "modalities" (event logs), or "count", "recency", "affinity", "long", "vectors", "threads", "multi"
  # (click tables).
  generator: str = "markov"
  seed: Count = 0
  # Items; categories are dealt out to them in turn (interest_functions, companions, long_short: in
  # blocks). 0: 120 for markov, 400 for two_signals, 64 for interest_functions, 1000 for attributes and
  # long_short, 800 for companions, 200 for queries, 600 for modalities, 2048 for click tables, 1024 for
  # threads, 20,032 for vectors; multi has one item for each combination of categories.
  num_items: Count = 0
  # Categories of the items (queries: needs; modalities: clusters). 0: 8 for markov and
  # interest_functions, 20 for two_signals, attributes, companions and queries, 30 for modalities, 50
  # for long_short, 64 for click tables, 16 of each kind for multi.
  num_categories: Count = 0
  # Event logs: users; but for interest_functions: events of each, drawn evenly between the two.
  num_users: Positive = 300
  shortest: Positive = 8
  longest: Positive = 30
  # Share of history that is noise: steps off the chain (markov, .2), behaviours outside the user's
  # interests (count .2, recency and affinity .1, long .3, vectors .4, multi .5, interest_functions .1),
  # and in a like cluster (long_short, .1), users whose companion is any (companions, .1), steps off a
  # thread's cycle (.1), words of a query that say nothing (queries .1), and items of any cluster
  # (modalities .1). -1: the value here.
  noise: Annotated[float, Range(-1, 1)] = -1.0
  # two_signals: share of steps to the successor.
  follow: Share = 0.35
  searches: Share = 0.4  # queries: share of events that are searches
  # Click tables: rows of each part, length of history and interests of a user. 0: 20 behaviours
  # and 4 interests, for long and vectors 100 and 6, for threads 30 and 2; multi has 100 and one
  # interest of each kind. two_signals has 3 interests.
  num_train: Positive = 40_000
  num_validation: Positive = 10_000
  num_test: Positive = 10_000
  length: Count = 0
  interests: Count = 0
  # vectors: deviation of an item's own part of the logit of a click.
  item_bias: Weight = 0.0
  # vectors: glyphs = pixels of a sign for the category, in a style of the item's own, in the place of
  # vectors; random = a random projection of those.
  pictures: str = "none"
  stored: str = "float32"  # vectors: what their table holds, float32, float16 or int8

  def __post_init__(self):
    super().__post_init__()
    for name, known in (("pictures", planted_vectors.PICTURES), ("stored", KINDS)):
      if getattr(self, name) not in known:
        raise ConfigError(unknown(f"value of config.data.{name}", getattr(self, name), known))


class _Setting(NamedTuple):
  length: int
  interests: int
  noise: float
  logit: Callable[[np.ndarray], np.ndarray] | None = None
  relation: Callable[[int], np.ndarray] = planted_interests.equality
  bias: np.ndarray | None = None  # of the logit, by item


SETTINGS = {
  "count": _Setting(20, 4, 0.2, planted_interests.count_logit),
  "recency": _Setting(20, 4, 0.1, planted_interests.recency_logit),
  "affinity": _Setting(
    20, 4, 0.1, planted_interests.affinity_logit, planted_interests.affinity
  ),
  "long": _Setting(100, 6, 0.3, planted_interests.count_logit),
  "vectors": _Setting(100, 6, 0.4, planted_interests.vector_logit),
  "threads": _Setting(30, 2, 0.1),
  "multi": _Setting(100, planted_kinds.KINDS, 0.5, planted_kinds.logit),
}
_SPECIAL = {"multi": planted_kinds, "threads": planted_threads}


ROWS = 4096


def click_table(config: Config) -> ClickTable:
  """The click table that `config.generator` names; every row is a user of its own.

  The Bayes AUC of the default settings, which no model can be expected to beat, is about .883
  (count), .890 (recency), .939 (affinity), .911 (long), .860 (vectors), .950 (threads) and .735
  (multi). Raises ConfigError for settings that cannot work.
  """
  if config.generator not in SETTINGS:
    raise ConfigError(unknown("click table generator", config.generator, SETTINGS))
  setting = SETTINGS[config.generator]
  setting = setting._replace(
    length=config.length or setting.length,
    interests=config.interests or setting.interests,
    noise=setting.noise if config.noise < 0 else config.noise,
  )
  multi = config.generator == "multi"
  num_categories = config.num_categories or (planted_kinds.CATEGORIES if multi else 64)
  num_items = config.num_items or {
    "multi": planted_kinds.combinations(num_categories), "threads": 1024,
    "vectors": planted_vectors.ITEMS,
  }.get(config.generator, 2048)
  if config.generator in _SPECIAL:
    _SPECIAL[config.generator].check(num_items, num_categories, setting.interests)
  elif num_items % num_categories or setting.interests > num_categories:
    raise ConfigError(
      f"config.data: {num_items} items cannot be dealt evenly to {num_categories} categories of "
      f"which a user likes {setting.interests}."
    )
  frozen = {}
  if config.generator == "vectors":
    frozen["item"] = FrozenTable.of(
      planted_vectors.vectors(config.seed, num_items, num_categories, config.pictures), config.stored
    )
    bias = planted_vectors.biases(config.seed, num_items)
    setting = setting._replace(bias=config.item_bias * bias)
  sizes = {"train": config.num_train, "test": config.num_test, "validation": config.num_validation}
  parts, start = {}, 1
  for number, (part, rows) in enumerate(sizes.items()):
    rng = np.random.default_rng([config.seed, number])
    clicks = _SPECIAL.get(config.generator, planted_interests).clicks
    made = [
      clicks(rng, min(ROWS, rows - at), num_items, num_categories, setting)
      for at in range(0, max(rows, 1), ROWS)
    ]
    columns = {name: np.concatenate([chunk[name] for chunk in made]) for name in made[0]}
    columns["user_id"] = columns["group_id"] = np.arange(start, start + rows, dtype=np.int32)
    columns["weight"] = np.ones(rows, np.float32)
    parts[part] = columns
    start += rows
  vocabularies = {"user": start, "item": num_items + 1, "category": num_categories + 1}
  bayes = {part: auc(columns["label"], columns["bayes"]) for part, columns in parts.items()}
  facts = {
    "way": f"planted, seed {config.seed}",
    "licence": LICENCE,
    "rows": sizes,
    "bayes_auc": bayes["test"],
  }
  return ClickTable(f"planted_{config.generator}", parts, vocabularies, bayes, facts, frozen)


def auc(label: np.ndarray, score: np.ndarray) -> float:
  """Area under the ROC curve of scores [n] for labels [n] in {0, 1}; ties count half."""
  _, rank, count = np.unique(score, return_inverse=True, return_counts=True)
  middle = np.cumsum(count) - (count - 1) / 2
  positive = label > 0
  hits, misses = int(positive.sum()), int((~positive).sum())
  if not hits or not misses:
    return float("nan")
  return float((middle[rank[positive]].sum() - hits * (hits + 1) / 2) / (hits * misses))


def open_source(config: Config) -> Source | ClickTable:
  """The sequences of an event log's generator as a source, or a click table.

  `facts` of the log hold `successor` (the next item on the chain by item, entry 0 unused), and for
  markov `noise`: the best possible HR@1 without leaving out seen items is about 1 - noise. Events of
  `two_signals` have a column `step`: start, successor or collaborative. Those of `interest_functions`
  hold `bayes_hr`, see `planted_functions.best_hit_rates`; those of `attributes` `neutral_categories`,
  those of `companions` `companion`, the usual companion's category by cause.
  """
  if config.generator in SETTINGS:
    return click_table(config)
  if config.generator not in LOGS:
    raise ConfigError(unknown("generator", config.generator, (*LOGS, *SETTINGS)))
  return LOGS[config.generator](config)
