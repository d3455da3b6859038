"""Planted event logs as sources: the settings of each generator, and what they have in common.

A generator of a log is a function of `config.data` in LOGS; what it draws is in a file of its own.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data.sources import (
  planted_attributes,
  planted_chains,
  planted_companions,
  planted_functions,
  planted_long_short,
  planted_modalities,
  planted_queries,
)
from recjax.data.sources.base import Chunk, Source, fingerprint
from recjax.errors import ConfigError

LICENCE = "made up by a program, free of rights"


def _sizes(config: Any, num_items: int, num_categories: int, noise: float) -> tuple[int, int, float]:
  """Items, categories and noise that the config asks for, or these."""
  noise = noise if config.noise < 0 else config.noise
  return config.num_items or num_items, config.num_categories or num_categories, noise


def _source(
  config: Any,
  made: tuple,
  chunks: Callable[[], Iterator[Chunk]],
  items: Callable[[], pa.Table],
  facts: Mapping[str, Any] | None = None,
  users: Callable[[], pa.Table | None] = lambda: None,
) -> Source:
  """The source of a generator; `made` is all that its events and tables depend on."""
  return Source(
    name=f"planted_{config.generator}",
    fingerprint=fingerprint(config.generator, 1, *made),
    chunks=chunks,
    timing="time",
    items=items,
    users=users,
    way=f"planted, seed {config.seed}",
    licence=LICENCE,
    place=f"planted {config.generator.replace('_', ' ')}",
    facts=dict(facts or {}),
  )


def _markov(config: Any) -> Source:
  num_items, categories, noise = _sizes(config, 120, 8, 0.2)
  successor = planted_chains.chain(config.seed, num_items)
  sizes = _walkers(config, num_items)
  chunks = functools.partial(planted_chains.walks, config.seed, successor, noise, *sizes)
  facts = {"successor": successor.tolist(), "noise": noise}
  made = config.seed, sizes, categories, noise
  return _source(config, made, chunks, _dealt(num_items, categories), facts)


def _two_signals(config: Any) -> Source:
  num_items, categories, _ = _sizes(config, 400, 20, 0.0)
  sizes = _walkers(config, num_items)
  if num_items % categories or categories < planted_chains.INTERESTS:
    raise ConfigError(
      f"config.data: two_signals deals {num_items} items evenly to {categories} categories of "
      f"which a user likes {planted_chains.INTERESTS}."
    )
  successor = planted_chains.other_category(config.seed, num_items, categories)
  chunks = functools.partial(
    planted_chains.two_signals, config.seed, successor, categories, config.follow, *sizes
  )
  facts = {"successor": successor.tolist(), "follow": config.follow}
  made = config.seed, sizes, categories, config.follow
  return _source(config, made, chunks, _dealt(num_items, categories), facts)


def _walkers(config: Any, num_items: int) -> tuple[int, int, int, int]:
  """Users, items, and the shortest and the longest walk."""
  if num_items < 2 or config.shortest > config.longest:
    raise ConfigError(
      f"config.data: {config.generator} needs 2 items and shortest <= longest, but has {num_items}, "
      f"{config.shortest} and {config.longest}."
    )
  return config.num_users, num_items, config.shortest, config.longest


def _functions(config: Any) -> Source:
  num_items, topics, noise = _sizes(config, 64, 8, 0.1)
  if num_items % topics or num_items == topics:
    raise ConfigError(
      f"config.data: {num_items} items cannot be dealt evenly to {topics} categories of several."
    )
  rates = planted_functions.best_hit_rates(config.seed, num_items, topics, noise)
  return _in_blocks(config, planted_functions.walks, num_items, topics, noise, {"bayes_hr": rates})


def _attributes(config: Any) -> Source:
  num_items, topics, _ = _sizes(config, 1000, 20, 0.0)
  if num_items % topics or topics % 4 or config.shortest > config.longest:
    raise ConfigError(
      "config.data: attributes deals items evenly to categories, a quarter of which each group "
      f"favours, and needs shortest <= longest, but has {num_items}, {topics}, {config.shortest} and "
      f"{config.longest}."
    )
  made = (config.seed, config.num_users, num_items, topics, config.shortest, config.longest)
  vectors = lambda: planted_attributes.item_vectors(config.seed, num_items, topics)
  return _source(
    config, made, functools.partial(planted_attributes.clicks, *made),
    lambda: _dealt(num_items, topics)().append_column("vector", vectors()),
    {"neutral_categories": list(range(1, topics // 2 + 1))},
    functools.partial(planted_attributes.user_table, config.seed, config.num_users),
  )


def _companions(config: Any) -> Source:
  num_items, categories, noise = _sizes(config, 800, 20, 0.1)
  size = num_items // categories
  least = 2 * (planted_companions.FROM_CAUSE + 1)
  if num_items % categories or categories % 2 or size % 2 or size < least:
    raise ConfigError(
      f"config.data: companions needs an even number of categories of equally many items, even and at "
      f"least {least}, but has {num_items} items of {categories} categories."
    )
  usual = planted_companions.companions(config.seed, categories // 2)
  facts = {"companion": [int(c) + categories // 2 + 1 for c in usual]}
  return _in_blocks(config, planted_companions.clicks, num_items, categories, noise, facts)


def _long_short(config: Any) -> Source:
  num_items, clusters, noise = _sizes(config, 1000, 50, 0.1)
  group, groups = planted_long_short.GROUP, planted_long_short.LONG + 1
  if num_items % clusters or clusters % group or clusters < group * groups:
    raise ConfigError(
      f"config.data: long_short needs clusters of equally many items in at least {groups} groups of "
      f"{group}, but has {num_items} items of {clusters} clusters."
    )
  return _in_blocks(config, planted_long_short.clicks, num_items, clusters, noise)


def _queries(config: Any) -> Source:
  num_items, needs, noise = _sizes(config, 200, 20, 0.1)
  if num_items % needs or not config.shortest <= config.longest <= num_items:
    raise ConfigError(
      "config.data: queries deals items evenly to needs, and nobody has one twice: it needs "
      f"shortest <= longest <= items, but has {num_items} items, {needs} needs, {config.shortest} and "
      f"{config.longest}."
    )
  sizes = (config.num_users, num_items, needs, config.shortest, config.longest)
  made = (config.seed, *sizes, config.searches, noise)
  chunks = functools.partial(planted_queries.events, *made)
  return _source(config, made, chunks, _dealt(num_items, needs))


def _modalities(config: Any) -> Source:
  num_items, clusters, noise = _sizes(config, 600, 30, 0.1)
  events, liked = config.longest, planted_modalities.LIKED
  least = planted_modalities.HELD_OUT + 1
  if num_items % clusters or clusters < liked or not least <= events <= num_items:
    raise ConfigError(
      f"config.data: modalities deals items evenly to clusters, at least {liked}, and nobody has one "
      f"of at least {least} items twice: it has {num_items} items, {clusters} clusters and {events} "
      "events of each user (longest)."
    )
  made = (config.seed, config.num_users, num_items, clusters, events, noise)

  def items():
    table = _dealt(num_items, clusters)()
    for name, vectors in planted_modalities.item_vectors(config.seed, num_items, clusters).items():
      table = table.append_column(name, vectors)
    return table

  return _source(config, made, functools.partial(planted_modalities.events, *made), items)


def _in_blocks(config, clicks, num_items, categories, noise, facts=None) -> Source:
  """The source of a generator `clicks(seed, users, items, categories, noise)`, categories in blocks."""
  made = (config.seed, config.num_users, num_items, categories, noise)
  size = num_items // categories
  items = functools.partial(_item_table, num_items, lambda place: place // size)
  return _source(config, made, functools.partial(clicks, *made), items, facts)


def _dealt(num_items: int, categories: int) -> Callable[[], pa.Table]:
  """Items whose categories come in turn."""
  return functools.partial(_item_table, num_items, lambda place: place % categories)


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


LOGS = {
  "markov": _markov,
  "two_signals": _two_signals,
  "interest_functions": _functions,
  "attributes": _attributes,
  "companions": _companions,
  "long_short": _long_short,
  "queries": _queries,
  "modalities": _modalities,
}
