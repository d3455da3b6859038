"""Music Arena's prompts, pairs and gate, and what leaves the house."""

import itertools

import numpy as np
import pytest

from recjax.errors import ConfigError, DataError
from recjax.evaluate import arena_release, arena_routing
from recjax.evaluate.arena_routing import Prompt, System

SALT = b"sixteen bytes or"
SYSTEMS = [System("p", True), System("q", True), System("r", False), System("s", True)]
VOCAL, MUTE = Prompt("a song", instrumental=False), Prompt("a tune", instrumental=True)
ROW = {
  "battle": "1", "month": "2025-08", "model_a": "p", "model_b": "q", "winner": "TIE", "user": "a" * 32,
  "listened_a": 5.0, "listened_b": 17.5, "feedback": "B is 120 BPM, as asked",
  "metadata_a": {"lyrics": "la la", "checksum": "0a.0b@c.de"},
}


def test_checksums_say_what_was_asked_for():
  prompt = Prompt("jazz", instrumental=False, lyrics="la", duration=30.0)
  other = Prompt(duration=30.0, lyrics="la", instrumental=False, overall_prompt="jazz")
  assert prompt.checksum == other.checksum
  assert prompt.checksum == Prompt("jazz", False, "la", 30.0, bpm=None).checksum
  others = [
    Prompt("jazy", False, "la", 30.0), Prompt("jazz", False, "lo", 30.0), Prompt("jazz", False, "la"),
    Prompt("jazz", False, "la", 30.0, 90.0),
  ]
  assert len({p.checksum for p in (prompt, *others)}) == 5


def test_lyrics():
  with pytest.raises(DataError, match="instrumental music has no lyrics"):
    Prompt("jazz", instrumental=True, lyrics="la")
  assert VOCAL.generate_lyrics and not MUTE.generate_lyrics
  assert not Prompt("a song", False, "la").generate_lyrics
  with pytest.raises(DataError, match="duration of a prompt is a number above 0"):
    Prompt("jazz", True, duration=0.0)


@pytest.mark.parametrize(
  ("text", "instrumental", "duration"),
  [
    ("calm piano", True, None),
    ("a woman sings the blues", False, None),
    ("song with lyrics", False, None),
    ("techno without vocals", True, None),
    ("instrumental hip hop", True, None),
    ("no singing, harp", True, None),
    ("choir, 30 seconds", False, 30.0),
    ("a 2 minute march", True, 120.0),
    ("90s disco at 120 bpm", True, None),
    ("singular synths", True, None),
  ],
)
def test_routing(text, instrumental, duration):
  found = arena_routing.route(text)
  assert found.prompt == Prompt(text, instrumental, duration=duration)


def test_refused_prompts():
  found = arena_routing.route("Something In The Style Of a famous band")
  assert found.prompt is None and "'in the style of'" in found.rationale
  assert arena_routing.route("  ").rationale == "the prompt is empty"
  assert arena_routing.route("a cover of a song", refused=()).prompt is not None


def test_pairs():
  chances = arena_routing.pair_chances(SYSTEMS, VOCAL)
  assert {frozenset(pair) for pair in chances} == {frozenset(p) for p in ("pq", "ps", "qs")}
  assert len(arena_routing.pair_chances(SYSTEMS, MUTE)) == 12
  weights = {frozenset("pq"): 3.0, frozenset("qs"): 0.5}
  chances = arena_routing.pair_chances(SYSTEMS, MUTE, weights, excluded=[frozenset("rs")])
  assert sum(chances.values()) == pytest.approx(1) and ("r", "s") not in chances
  for one, other in itertools.combinations("pqrs", 2):
    assert chances.get((one, other)) == chances.get((other, one))  # each is left half of the time
  assert chances["p", "q"] == pytest.approx(6 * chances["q", "s"])
  rng = np.random.default_rng(0)
  drawn = [arena_routing.draw_pair(rng, chances) for _ in range(4000)]
  for pair, chance in chances.items():
    assert drawn.count(pair) / 4000 == pytest.approx(chance, abs=0.03)
  with pytest.raises(DataError, match="No pair of 'p', 'r' can take a prompt for vocal music"):
    arena_routing.pair_chances([SYSTEMS[0], SYSTEMS[2]], VOCAL)
  with pytest.raises(DataError, match="weight of 'p', 'q' is a number above 0, not 0"):
    arena_routing.pair_chances(SYSTEMS, MUTE, {frozenset("pq"): 0.0})


def test_listening():
  events = [("PLAY", 0.0), ("TICK", 2.0), ("PAUSE", 3.5), ("PLAY", 10.0), ("TICK", 11.0)]
  assert arena_routing.listening_seconds(events) == 4.5
  assert not arena_routing.may_vote(events, events)
  assert arena_routing.may_vote(events, events, minimum=4.0)
  assert not arena_routing.may_vote(events, [], minimum=4.0)
  assert arena_routing.listening_seconds([("PLAY", 0.0), ("PLAY", 1.0), ("PAUSE", 3.0)]) == 2.0
  assert arena_routing.listening_seconds([("TICK", 5.0), ("SEEK", 6.0), ("PAUSE", 7.0)]) == 0.0


def test_pseudonyms():
  one = arena_release.pseudonym("10.0.0.1", SALT)
  assert one == arena_release.pseudonym("10.0.0.1", SALT) and "10.0.0.1" not in one
  assert one != arena_release.pseudonym("10.0.0.1", SALT[::-1])
  assert one != arena_release.pseudonym("10.0.0.2", SALT)
  users = {arena_release.user_of(a, f, SALT) for a in ("1", "2") for f in ("3", "4")}
  assert len(users) == 4 and all(len(user) == 32 for user in users)
  with pytest.raises(ConfigError, match="16 bytes or more"):
    arena_release.pseudonym("10.0.0.1", b"short")


def test_only_what_is_released_is_released():
  battle = {**ROW, "ip": "10.0.0.1", "metadata_b": {"checksum": "c", "server": "gpu-7", "queued": 1.0}}
  row = arena_release.released(battle)
  assert row == {**ROW, "metadata_b": {"checksum": "c"}}
  arena_release.check_release([row], ["10.0.0.1"])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"user": None}, "row 2, column 'user' is missing"),
    ({"user": "10.0.0.1"}, "row 2, column 'user' is no hash"),
    ({"ip": "x"}, "row 2, column 'ip' is not a field that is released"),
    ({"metadata_b": {"server": "x"}}, "row 2, column 'metadata_b.server' is not a field"),
    ({"month": "2025-08-03"}, "row 2, column 'month' is '2025-08-03', not a year and a month"),
    ({"winner": "BAD"}, "row 2, column 'winner' Unknown winner 'BAD'"),
    ({"listened_b": 4.9}, "row 2, column 'listened_b' is 4.9, below the 5 seconds of the gate"),
    ({"model_b": "p"}, "row 2, column 'model_b' is the other side, too"),
    ({"battle": "1"}, "row 2, column 'battle' repeats that of row 1"),
    ({"feedback": "write to me@home.org"}, "row 2, column 'feedback' holds an e-mail address"),
    ({"feedback_a": "from 192.168.1.17"}, "row 2, column 'feedback_a' holds an IP address"),
    ({"feedback_a": "2001:db8::7334"}, "row 2, column 'feedback_a' holds an IP address"),
    ({"feedback_a": "+49 30 1234 5678"}, "row 2, column 'feedback_a' holds a telephone number"),
    ({"prompt": {"overall_prompt": "see https://me.org"}}, "column 'prompt' holds a web address"),
    ({"metadata_a": {"lyrics": "hi @someone"}}, "column 'metadata_a' holds the name of an account"),
    ({"feedback": "I am browser 77"}, "row 2 holds an address or fingerprint as it arrived"),
  ],
)
def test_bad_releases_are_refused(change, message):
  with pytest.raises(DataError, match=message):
    arena_release.check_release([ROW, {**ROW, "battle": "2", **change}], ["browser 77"])


def test_harmless_texts_pass():
  for text in (
    "4/4 at 120 BPM, 44.1 kHz", "1.5 to 2.5 louder; ratio 3:2", "the 1980s, 12.5% off", "a :: b",
  ):
    assert arena_release.personal(text) == [], text


def test_boards():
  named = {s.name: s for s in SYSTEMS}
  assert arena_release.board_of(named, "p", "q", MUTE) == "vocal"  # by systems, not by prompt
  assert arena_release.board_of(named, "p", "r", MUTE) == "instrumental"
  assert arena_release.board_of(named, "p", "q", MUTE, split_by="prompt") == "instrumental"
  with pytest.raises(DataError, match="Unknown system 'z'"):
    arena_release.board_of(named, "p", "z", MUTE)
  with pytest.raises(ConfigError, match="Unknown way to split boards"):
    arena_release.board_of(named, "p", "q", MUTE, split_by="genre")


def test_real_time_factors():
  assert arena_release.real_time_factor([30], [12], 0.815) == pytest.approx(3.0674847, abs=1e-7)
  assert arena_release.real_time_factor([30], [12]) == 2.5
  assert arena_release.real_time_factor([30, 30, 30], [10, 12, 30], [1, 0.5, 1]) == 3.0
  with pytest.raises(DataError, match="above 0"):
    arena_release.real_time_factor([30], [0])


def test_months():
  assert arena_release.month_of(0) == "1970-01" and arena_release.month_of(1.7563e9) == "2025-08"
