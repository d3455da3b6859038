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
 - `queries`: searches and recommendations by tastes that stay and needs that change, with words for
   needs (`planted_queries`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa

from recjax.data.click_table import ClickTable
from recjax.data.frozen import KINDS, FrozenTable
from recjax.data.sources import (
  planted_attributes,
  planted_functions,
  planted_interests,
  planted_kinds,
  planted_queries,
  planted_threads,
  planted_vectors,
)
from recjax.data.sources.base import Chunk, Common, Source, fingerprint
from recjax.errors import ConfigError
from recjax.ranges import Count, Positive, Range, Share, Weight
from recjax.registry import unknown


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for planted data; 0 and -1 stand for the generator's own setting."""

  # "markov", "two_signals", "interest_functions", "attributes", "queries" (event logs), or "count",
  # "recency", "affinity", "long", "vectors", "threads", "multi" (click tables).
  generator: str = "markov"
  seed: Count = 0
  # Items; categories are dealt out to them in turn (interest_functions: in blocks). 0: 120 for
  # markov, 400 for two_signals, 64 for interest_functions, 1000 for attributes, 200 for queries, 2048
  # for click tables, 1024 for threads, 20,032 for vectors; multi has one item for each combination of
  # categories.
  num_items: Count = 0
  # Categories of the items (queries: needs). 0: 8 for markov and interest_functions, 20 for
  # two_signals, attributes and queries, 64 for click tables, 16 of each kind for multi.
  num_categories: Count = 0
  # Event logs: users; but for interest_functions: events of each, drawn evenly between the two.
  num_users: Positive = 300
  shortest: Positive = 8
  longest: Positive = 30
  # Share of history that is noise: steps off the chain (markov, .2), behaviours outside the user's
  # interests (count .2, recency and affinity .1, long .3, vectors .4, multi .5, interest_functions .1),
  # off a thread's cycle (.1), words of a query that say nothing (queries .1). -1: the value here.
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


class _Sequences(NamedTuple):
  num_items: int
  num_categories: int


SEQUENCES = {"markov": _Sequences(120, 8), "two_signals": _Sequences(400, 20)}
INTERESTS = 3  # categories that a user of two_signals likes
ROWS = 4096
LICENCE = "made up by a program, free of rights"


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
  hold `bayes_hr`, see `planted_functions.best_hit_rates`; those of `attributes` `neutral_categories`.
  """
  if config.generator in SETTINGS:
    return click_table(config)
  if config.generator == "interest_functions":
    return _functions(config)
  if config.generator == "attributes":
    return _attributes(config)
  if config.generator == "queries":
    return _queries(config)
  if config.generator not in SEQUENCES:
    known = (*SEQUENCES, "interest_functions", "attributes", "queries", *SETTINGS)
    raise ConfigError(unknown("generator", config.generator, known))
  usual = SEQUENCES[config.generator]
  num_items = config.num_items or usual.num_items
  num_categories = config.num_categories or usual.num_categories
  if num_items < 2 or config.shortest > config.longest:
    raise ConfigError(
      f"config.data: {config.generator} needs 2 items and shortest <= longest, but has {num_items}, "
      f"{config.shortest} and {config.longest}."
    )
  sizes = (config.num_users, num_items, config.shortest, config.longest)
  if config.generator == "markov":
    successor = chain(config.seed, num_items)
    noise = 0.2 if config.noise < 0 else config.noise
    facts = {"successor": successor.tolist(), "noise": noise}
    made = fingerprint("markov", 1, config.seed, sizes, num_categories, noise)
    chunks = functools.partial(_walks, config.seed, successor, noise, *sizes)
  else:
    if num_items % num_categories or num_categories < INTERESTS:
      raise ConfigError(
        f"config.data: two_signals deals {num_items} items evenly to {num_categories} categories of "
        f"which a user likes {INTERESTS}."
      )
    successor = other_category(config.seed, num_items, num_categories)
    facts = {"successor": successor.tolist(), "follow": config.follow}
    made = fingerprint("two_signals", 1, config.seed, sizes, num_categories, config.follow)
    chunks = functools.partial(
      _two_signals, config.seed, successor, num_categories, config.follow, *sizes
    )
  return Source(
    name=f"planted_{config.generator}",
    fingerprint=made,
    chunks=chunks,
    timing="time",
    items=functools.partial(_item_table, num_items, lambda place: place % num_categories),
    way=f"planted, seed {config.seed}",
    licence=LICENCE,
    place=f"planted {config.generator}",
    facts=facts,
  )


def _functions(config: Config) -> Source:
  num_items, topics = config.num_items or 64, config.num_categories or 8
  noise = 0.1 if config.noise < 0 else config.noise
  if num_items % topics or num_items == topics:
    raise ConfigError(
      f"config.data: {num_items} items cannot be dealt evenly to {topics} categories of several."
    )
  made = (config.seed, config.num_users, num_items, topics, noise)
  return Source(
    name="planted_interest_functions",
    fingerprint=fingerprint("interest_functions", 1, *made),
    chunks=functools.partial(planted_functions.walks, *made),
    timing="time",
    items=functools.partial(_item_table, num_items, lambda place: place // (num_items // topics)),
    way=f"planted, seed {config.seed}",
    licence=LICENCE,
    place="planted interest functions",
    facts={"bayes_hr": planted_functions.best_hit_rates(config.seed, num_items, topics, noise)},
  )


def _attributes(config: Config) -> Source:
  num_items, topics = config.num_items or 1000, config.num_categories or 20
  if num_items % topics or topics % 4 or config.shortest > config.longest:
    raise ConfigError(
      "config.data: attributes deals items evenly to categories, a quarter of which each group "
      f"favours, and needs shortest <= longest, but has {num_items}, {topics}, {config.shortest} and "
      f"{config.longest}."
    )
  made = (config.seed, config.num_users, num_items, topics, config.shortest, config.longest)
  return Source(
    name="planted_attributes",
    fingerprint=fingerprint("attributes", 1, *made),
    chunks=functools.partial(planted_attributes.clicks, *made),
    timing="time",
    items=lambda: _item_table(num_items, lambda place: place % topics).append_column(
      "vector", planted_attributes.item_vectors(config.seed, num_items, topics)
    ),
    users=functools.partial(planted_attributes.user_table, config.seed, config.num_users),
    way=f"planted, seed {config.seed}",
    licence=LICENCE,
    place="planted attributes",
    facts={"neutral_categories": list(range(1, topics // 2 + 1))},
  )


def _queries(config: Config) -> Source:
  num_items, needs = config.num_items or 200, config.num_categories or 20
  noise = 0.1 if config.noise < 0 else config.noise
  if num_items % needs or not config.shortest <= config.longest <= num_items:
    raise ConfigError(
      "config.data: queries deals items evenly to needs, and nobody has one twice: it needs "
      f"shortest <= longest <= items, but has {num_items} items, {needs} needs, {config.shortest} and "
      f"{config.longest}."
    )
  sizes = (config.num_users, num_items, needs, config.shortest, config.longest)
  made = (config.seed, *sizes, config.searches, noise)
  return Source(
    name="planted_queries",
    fingerprint=fingerprint("queries", 1, *made),
    chunks=functools.partial(planted_queries.events, *made),
    timing="time",
    items=functools.partial(_item_table, num_items, lambda place: place % needs),
    way=f"planted, seed {config.seed}",
    licence=LICENCE,
    place="planted queries",
  )


def chain(seed: int, num_items: int) -> np.ndarray:
  """Next item by item, int64 [num_items + 1]: one cycle through all items; entry 0 is 0."""
  cycle = np.random.default_rng([seed, 0]).permutation(num_items) + 1
  successor = np.zeros(num_items + 1, np.int64)
  successor[cycle] = np.roll(cycle, -1)
  return successor


def other_category(seed: int, num_items: int, num_categories: int) -> np.ndarray:
  """A successor of another category by item, drawn evenly, int64 [num_items + 1]; entry 0 is 0."""
  rng = np.random.default_rng([seed, 0])
  item = np.arange(num_items)
  shift = rng.integers(1, num_categories, size=num_items)
  turn = rng.integers(num_items // num_categories, size=num_items)
  successor = turn * num_categories + (item % num_categories + shift) % num_categories
  return np.concatenate([[0], successor + 1])


def _two_signals(
  seed: int,
  successor: np.ndarray,
  num_categories: int,
  follow: float,
  num_users: int,
  num_items: int,
  shortest: int,
  longest: int,
) -> Iterator[Chunk]:
  """All sequences at once.

  A step that does not follow draws one of the last three items whose category the user owns (any
  owned category where none is), and then any item of that category.
  """
  rng = np.random.default_rng([seed, 1])
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  owned = np.argsort(rng.random((num_users, num_categories)), axis=1)[:, :INTERESTS]
  own = np.zeros((num_users, num_categories), bool)
  np.put_along_axis(own, owned, True, axis=1)
  users = np.arange(num_users)
  of_category = lambda category: (
    rng.integers(num_items // num_categories, size=num_users) * num_categories + category + 1
  )
  any_owned = lambda: owned[users, rng.integers(INTERESTS, size=num_users)]
  item = np.empty((num_users, longest), np.int64)
  item[:, 0] = of_category(any_owned())
  follows = rng.random((num_users, longest)) < follow
  follows[:, 0] = False
  for step in range(1, longest):
    recent = (item[:, max(0, step - 3) : step] - 1) % num_categories
    weight = np.where(own[users[:, None], recent], rng.random(recent.shape), -1.0)
    best = weight.argmax(axis=1)
    category = np.where(weight[users, best] > 0, recent[users, best], any_owned())
    drawn = of_category(category)
    item[:, step] = np.where(follows[:, step], successor[item[:, step - 1]], drawn)
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  kind = np.where(follows, "successor", "collaborative")
  kind[:, 0] = "start"
  time = 1_600_000_000 + 3600 * step
  yield Chunk(user + 1, item[user, step], time, {"step": kind[user, step]})


def _walks(
  seed: int,
  successor: np.ndarray,
  noise: float,
  num_users: int,
  num_items: int,
  shortest: int,
  longest: int,
) -> Iterator[Chunk]:
  """All walks at once: an event an hour, starting at an hour of the user's own."""
  rng = np.random.default_rng([seed, 1])
  lengths = rng.integers(shortest, longest, size=num_users, endpoint=True)
  starts = 1_600_000_000 + 3600 * rng.integers(24 * 28, size=num_users)
  item = np.empty((num_users, longest), np.int64)
  item[:, 0] = rng.integers(num_items, size=num_users) + 1
  for step in range(1, longest):
    jump = rng.integers(num_items, size=num_users) + 1
    item[:, step] = np.where(
      rng.random(num_users) < noise, jump, successor[item[:, step - 1]]
    )
  user, step = np.nonzero(np.arange(longest) < lengths[:, None])
  yield Chunk(user + 1, item[user, step], starts[user] + 3600 * step, {})


def _item_table(num_items: int, category: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
  """Items with titles; `category` gives categories from 0 for places from 0."""
  ids = np.arange(1, num_items + 1)
  return pa.table(
    {
      "item_id": ids,
      "title": [f"Item {number}" for number in ids],
      "category_id": category(ids - 1) + 1,
    }
  )
