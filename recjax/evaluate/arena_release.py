"""Music Arena's battles after the vote: who may know what, and which board they count on.

Kim et al., NeurIPS 2025, arXiv 2507.20900, and the authors' platform code: addresses and browser
fingerprints become salted hashes when they arrive, free text is screened before the monthly release,
and of what a generator's server answered only lyrics and checksum are released.

Where we depart: hashes are keyed (HMAC with SHA-256), since an address space of 2^32 can be tried out
against a plain salted hash whose salt is known; screening is by patterns, and `check_release` refuses a
release instead of repairing it; a board can be split by the prompt as well as by the systems.
"""

import datetime
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from recjax.data.vote_table import WINNERS
from recjax.errors import ConfigError, DataError
from recjax.evaluate import arena_routing
from recjax.registry import shown, unknown

# Fields of a released battle; anything else stays at home.
FIELDS = (
  "battle", "month", "prompt", "model_a", "model_b", "winner", "user", "listened_a", "listened_b",
  "feedback", "feedback_a", "feedback_b", "metadata_a", "metadata_b", "board", "prebaked",
)
METADATA = ("lyrics", "checksum")
NEEDED = ("battle", "month", "model_a", "model_b", "winner", "user", "listened_a", "listened_b")
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
HASH = re.compile(r"[0-9a-f]{32,}")
# What names a person or a machine, in free text.
PERSONAL = {
  "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w"),
  "an IP address": re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}(?![\w:])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){1,6}(?::[0-9a-fA-F]{1,4}){1,6}(?![\w:])"
  ),
  "a telephone number": re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ /-]?)?\(?\d{2,4}\)?(?:[ /-]\d{2,4}){2,4}(?![\w.])|\+\d{8,15}"
  ),
  "a web address": re.compile(r"https?://\S+|www\.\S+"),
  "the name of an account": re.compile(r"(?<![\w@.])@\w{2,}"),
}


def pseudonym(identifier: str, salt: bytes) -> str:
  """64 hex digits that stand for an identifier; without the secret salt nobody can try identifiers."""
  if len(salt) < 16:
    raise ConfigError("The salt of pseudonyms is secret and has 16 bytes or more.")
  return hmac.new(salt, identifier.encode(), hashlib.sha256).hexdigest()


def user_of(address: str, fingerprint: str, salt: bytes) -> str:
  """32 hex digits for a user, of the hashes of address and browser fingerprint."""
  both = pseudonym(address, salt) + pseudonym(fingerprint, salt)
  return hashlib.sha256(both.encode()).hexdigest()[:32]


def personal(text: str) -> list[str]:
  """What in a text may name a person or a machine."""
  return [what for what, pattern in PERSONAL.items() if pattern.search(text)]


def released(battle: Mapping[str, Any]) -> dict[str, Any]:
  """A battle with only what is released: FIELDS, and METADATA of each side's answer."""
  row = {name: battle[name] for name in FIELDS if name in battle}
  for side in ("metadata_a", "metadata_b"):
    if row.get(side) is not None:
      row[side] = {name: row[side][name] for name in METADATA if name in row[side]}
  return row


def problems(
  row: Mapping[str, Any], minimum_listening: float = arena_routing.MINIMUM_LISTENING
) -> Iterator[tuple[str, str]]:
  """(field, what is wrong) of one row of a release, all of them."""
  for name in NEEDED:
    if row.get(name) is None:
      yield name, "is missing"
  for name in row:
    if name not in FIELDS:
      yield name, "is not a field that is released"
  for side in ("metadata_a", "metadata_b"):
    for name in row.get(side) or ():
      if name not in METADATA:
        yield f"{side}.{name}", "is not a field that is released"
  if row.get("user") is not None and not HASH.fullmatch(str(row["user"])):
    yield "user", "is no hash"
  if row.get("month") is not None and not MONTH.fullmatch(str(row["month"])):
    yield "month", f"is {shown(repr(row['month']))}, not a year and a month"
  if row.get("winner") is not None and row["winner"] not in WINNERS:
    yield "winner", unknown("winner", row["winner"], WINNERS)
  for name in ("listened_a", "listened_b"):
    heard = row.get(name)
    if heard is not None and not (isinstance(heard, (int, float)) and heard >= minimum_listening):
      yield name, f"is {shown(repr(heard))}, below the {minimum_listening:g} seconds of the gate"
  if row.get("model_a") is not None and row.get("model_a") == row.get("model_b"):
    yield "model_b", "is the other side, too"
  for name, value in row.items():
    if name not in ("user", "battle", "month"):
      for what in personal(" ".join(_texts(value))):
        yield name, f"holds {what}"


def _texts(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, Mapping):
    for name, inner in value.items():
      if name != "checksum":
        yield from _texts(inner)
  elif isinstance(value, (list, tuple)):
    for inner in value:
      yield from _texts(inner)


def check_release(
  rows: Sequence[Mapping[str, Any]],
  identifiers: Iterable[str] = (),
  place: str = "The release",
  minimum_listening: float = arena_routing.MINIMUM_LISTENING,
) -> None:
  """DataError, naming the first bad row and field, unless a release may go out.

  identifiers: raw addresses and fingerprints of the month, of which none may occur anywhere.
  """
  seen: dict[str, int] = {}
  identifiers = [i for i in identifiers if i]
  for number, row in enumerate(rows, start=1):
    for name, what in problems(row, minimum_listening):
      raise DataError(f"{place}: row {number}, column '{name}' {what}.")
    battle = str(row["battle"])
    if battle in seen:
      raise DataError(f"{place}: row {number}, column 'battle' repeats that of row {seen[battle]}.")
    seen[battle] = number
    text = json.dumps(row, ensure_ascii=False)
    if any(identifier in text for identifier in identifiers):
      raise DataError(f"{place}: row {number} holds an address or fingerprint as it arrived.")


def month_of(seconds: float) -> str:
  """Year and month, in UTC, of a time since 1970: all that is released of when a vote was cast."""
  return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m")


def board_of(
  systems: Mapping[str, arena_routing.System], left: str, right: str,
  prompt: arena_routing.Prompt, split_by: str = "systems",
) -> str:
  """The board a battle counts on: vocal where both systems support lyrics, else instrumental.

  split_by="prompt" goes by what was asked for instead.
  """
  if split_by not in ("systems", "prompt"):
    raise ConfigError(unknown("way to split boards", split_by, ("systems", "prompt")))
  if split_by == "prompt":
    return "instrumental" if prompt.instrumental else "vocal"
  for name in (left, right):
    if name not in systems:
      raise DataError(unknown("system", name, systems))
  both = systems[left].supports_lyrics and systems[right].supports_lyrics
  return "vocal" if both else "instrumental"


def real_time_factor(
  audio_seconds: np.ndarray, waited_seconds: np.ndarray, hardware: np.ndarray | float = 1.0
) -> float:
  """Median over battles of audio per second waited, each divided by its hardware's speed.

  hardware: relative to the reference card (RTX A6000 = 1); 1 for systems behind an interface.
  """
  audio, waited = np.asarray(audio_seconds, np.float64), np.asarray(waited_seconds, np.float64)
  hardware = np.asarray(hardware, np.float64)
  if not len(audio) or not ((audio >= 0).all() and (waited > 0).all() and (hardware > 0).all()):
    raise DataError("Real-time factors need battles, with times and hardware ratios above 0.")
  return float(np.median(audio / waited / hardware))
