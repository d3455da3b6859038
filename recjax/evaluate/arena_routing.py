"""Music Arena's battles before the vote: prompts, routing, the pair, and the listening gate.

Kim et al., "Music Arena: Live Evaluation for Text-to-Music", NeurIPS 2025 (creative AI track), arXiv
2507.20900, and the authors' platform code. What is routed are prompts to generators of any kind.

Where we depart: routing is by rules instead of one call of a language model, behind the same answer
(`Route`), so that it needs no network and repeats; moderation goes by a list of words that the caller
gives, and a short one here.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from recjax.errors import DataError
from recjax.evaluate.votes import list_names

# Seconds each side is listened to before a vote counts; the authors' code has 5, their text 4.
MINIMUM_LISTENING = 5.0
REFUSED = ("in the style of", "sounds like", "cover of", "remix of", "porn", "nsfw", "kill yourself")
_VOICE = re.compile(
  r"\b(vocals?|vocalists?|voices?|sing(s|er|ers|ing)?|sung|rap(s|per|pers|ping)?|lyrics?|chorus|choir|"
  r"choral|a ?cappella|crooner|duet|verse|opera|soprano|tenor|baritone|chant(s|ing)?)\b", re.I,
)
_NO_VOICE = re.compile(
  r"\b(instrumentals?|(no|without|free of)( any)? (vocals?|voices?|singing|singers?|lyrics?))\b", re.I
)
_DURATION = re.compile(r"\b(\d+(?:\.\d+)?)[ -]?(seconds?|secs?|minutes?|mins?)\b", re.I)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a generator is asked for; None where the user did not say.

  Raises DataError for lyrics of instrumental music, and for a duration or tempo that is not above 0.
  """

  overall_prompt: str
  instrumental: bool
  lyrics: str | None = None
  duration: float | None = None
  bpm: float | None = None

  def __post_init__(self):
    if self.instrumental and self.lyrics is not None:
      raise DataError("A prompt for instrumental music has no lyrics: drop them, or ask for vocals.")
    for name in ("duration", "bpm"):
      value = getattr(self, name)
      if value is not None and not 0 < value < float("inf"):
        raise DataError(f"The {name} of a prompt is a number above 0, not {value!r}.")

  @property
  def generate_lyrics(self) -> bool:
    """Whether somebody has to write lyrics first."""
    return not self.instrumental and self.lyrics is None

  @property
  def checksum(self) -> str:
    """32 hex digits, the same for prompts that say the same."""
    said = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
    return hashlib.md5(json.dumps(said, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


class Route(NamedTuple):
  """What routing says: a prompt to generate from, or why not."""

  prompt: Prompt | None
  rationale: str = ""


def route(text: str, refused: Iterable[str] = REFUSED) -> Route:
  """A prompt from free text: refused words, then vocal or not (if unclear, not), then duration."""
  if not text.strip():
    return Route(None, "the prompt is empty")
  lower = text.lower()
  word = next((w for w in refused if w.lower() in lower), None)
  if word is not None:
    return Route(None, f"the prompt says {word!r}")
  vocal = bool(_VOICE.search(_NO_VOICE.sub(" ", text))) and not _NO_VOICE.search(text)
  found = _DURATION.search(text)
  seconds = None
  if found:
    seconds = float(found[1]) * (60 if found[2].lower().startswith("m") else 1) or None
  return Route(Prompt(text, instrumental=not vocal, duration=seconds))


@dataclasses.dataclass(frozen=True)
class System:
  """A generator, as far as choosing it goes."""

  name: str
  supports_lyrics: bool


def pair_chances(
  systems: Sequence[System],
  prompt: Prompt,
  weights: Mapping[frozenset[str], float] | None = None,
  excluded: Collection[frozenset[str]] = (),
) -> dict[tuple[str, str], float]:
  """Chance of every ordered pair (left, right) of names; of a pair both orders are equally likely.

  weights: above 0, by pair, 1 where none is given. A prompt with vocals goes to systems that support
  lyrics only. DataError where no pair is left.
  """
  able = [s for s in systems if prompt.instrumental or s.supports_lyrics]
  chances = {}
  for one, other in itertools.combinations(able, 2):
    pair = frozenset((one.name, other.name))
    if pair in excluded:
      continue
    weight = 1.0 if weights is None else weights.get(pair, 1.0)
    if not 0 < weight < float("inf"):
      raise DataError(f"The weight of {list_names(sorted(pair))} is a number above 0, not {weight}.")
    chances[one.name, other.name] = chances[other.name, one.name] = weight / 2
  if not chances:
    kind = "instrumental" if prompt.instrumental else "vocal"
    raise DataError(
      f"No pair of {list_names([s.name for s in systems])} can take a prompt for {kind} music."
    )
  total = sum(chances.values())
  return {pair: weight / total for pair, weight in chances.items()}


def draw_pair(rng: np.random.Generator, chances: Mapping[tuple[str, str], float]) -> tuple[str, str]:
  """(left, right), drawn from `pair_chances`."""
  pairs = list(chances)
  return pairs[rng.choice(len(pairs), p=np.fromiter(chances.values(), float))]


def listening_seconds(events: Iterable[tuple[str, float]]) -> float:
  """Seconds one side was listened to, of events (PLAY, TICK, PAUSE or other, time) in order.

  TICK and PAUSE add what has passed since PLAY or the last TICK; a second PLAY begins anew, so that
  what lies before it and no TICK has counted is lost; a PAUSE that is missing counts up to the last
  TICK. Other events are nothing.
  """
  total, since = 0.0, None
  for kind, when in events:
    if kind == "PLAY":
      since = when
    elif kind in ("TICK", "PAUSE") and since is not None:
      total += max(when - since, 0.0)
      since = when if kind == "TICK" else None
  return total


def may_vote(
  left: Iterable[tuple[str, float]],
  right: Iterable[tuple[str, float]],
  minimum: float = MINIMUM_LISTENING,
) -> bool:
  """Whether both sides were listened to for `minimum` seconds."""
  return listening_seconds(left) >= minimum and listening_seconds(right) >= minimum
