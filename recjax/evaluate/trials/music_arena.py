"""A made-up Music Arena, from the prompt to the boards.

Six generators play a tone of three partials with noise of their own; two of them cannot sing. A prompt
is routed, a pair is drawn, both play a second at 8 kHz, the listener's events open the gate or not, and
who listened votes: quality is `gain` times minus the noise that is left when the tone is taken out of
the sound, and outcomes are those of Rao and Kupper with `kappa`. A listener whose standard neither side
meets calls both bad. The boards are Music Arena's: by systems, both bad dropped.
"""

import dataclasses
import functools

import numpy as np
from scipy import special, stats

from recjax.evaluate import arena, arena_routing
from recjax.evaluate import votes as vote_arrays
from recjax.evaluate.arena_release import board_of, check_release, month_of, user_of
from recjax.evaluate.arena_routing import System
from recjax.ranges import Above0, Positive, Weight

RATE = 8000
PITCHES = tuple(110 * 2 ** (i / 6) for i in range(12))
NOISE = (0.10, 0.17, 0.24, 0.31, 0.38, 0.45)
SYSTEMS = tuple(
  System(f"synth-{i + 1}", supports_lyrics=i not in (2, 5)) for i in range(len(NOISE))
)
STYLES = ("calm piano", "fast techno", "slow blues", "folk guitar", "march for brass")
VOICES = (
  "{} with a female singer", "{} and a choir", "a song in which a man sings, {}", "{} with lyrics",
)
INSTRUMENTS = ("{}", "instrumental {}", "{} without vocals", "{}, 30 seconds long")
PROMPTS = tuple(f.format(style) for f in (*VOICES, *INSTRUMENTS) for style in STYLES)


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of an arm."""

  battles: Positive = 2000
  gain: Above0 = 12.0
  kappa: Above0 = 1.3
  # Where the standards of listeners lie, in quality; they deviate by 0.5.
  standard: float = -4.0
  ridge: Weight = 0.0
  minimum_listening: Weight = arena_routing.MINIMUM_LISTENING


def simulate(config: Config, seed: int) -> dict[str, float]:
  """One month. Metrics, over both boards where not said otherwise:

  `coverage` of planted strengths (mean 0 on each board) by 95 % sandwich intervals; `misordered` pairs
  of models whose planted strengths are more than 0.4 apart; `vocal_to_mute`, vocal prompts that
  reached a system that cannot sing; `unheard`, votes without the gate; `wrong_board`, systems that are
  on the vocal board and should not, or the other way; `abandoned` and `both_bad`, shares of battles.
  """
  rng = np.random.default_rng(seed)
  noise = dict(zip((s.name for s in SYSTEMS), NOISE, strict=True))
  named = {s.name: s for s in SYSTEMS}
  release, abandoned, vocal_to_mute = [], 0, 0
  for battle in range(config.battles):
    prompt = arena_routing.route(PROMPTS[rng.integers(len(PROMPTS))]).prompt
    chances = arena_routing.pair_chances(SYSTEMS, prompt)
    sides = arena_routing.draw_pair(rng, chances)
    vocal_to_mute += not prompt.instrumental and not all(named[s].supports_lyrics for s in sides)
    pitch = PITCHES[rng.integers(len(PITCHES))]
    quality = [-config.gain * heard_noise(play(rng, pitch, noise[s]), pitch) for s in sides]
    events = [listen(rng) for _ in sides]
    if not arena_routing.may_vote(*events, config.minimum_listening):
      abandoned += 1
      continue
    release.append({
      "battle": f"{seed}-{battle}",
      "month": month_of(1.7e9 + 600 * battle),
      "model_a": sides[0],
      "model_b": sides[1],
      "winner": vote(rng, config, *quality),
      "user": user_of(f"10.0.0.{battle % 250}", f"browser {battle % 370}", b"a salt for this trial"),
      "listened_a": arena_routing.listening_seconds(events[0]),
      "listened_b": arena_routing.listening_seconds(events[1]),
      "board": board_of(named, *sides, prompt),
    })
  check_release(release, [f"10.0.0.{i}" for i in range(250)], "the month", config.minimum_listening)
  found = [_judge(config, release, board, noise) for board in ("vocal", "instrumental")]
  singers = {s.name for s in SYSTEMS if s.supports_lyrics}
  return {
    "coverage": float(np.mean(np.concatenate([covered for covered, _, _ in found]))),
    "misordered": float(sum(wrong for _, wrong, _ in found)),
    "vocal_to_mute": float(vocal_to_mute),
    "unheard": float(sum(
      min(r["listened_a"], r["listened_b"]) < config.minimum_listening for r in release
    )),
    "wrong_board": float(len(singers ^ set(found[0][2]))),
    "abandoned": abandoned / config.battles,
    "both_bad": float(np.mean([r["winner"] == "BOTH_BAD" for r in release])),
  }


def play(rng: np.random.Generator, pitch: float, noise: float) -> np.ndarray:
  """A second of sound [RATE]: three partials and noise."""
  return _partials(pitch) @ rng.normal(size=6) + noise * rng.normal(size=RATE)


def heard_noise(sound: np.ndarray, pitch: float) -> float:
  """Deviation of what is left of a sound [RATE] when three partials of a pitch are taken out."""
  return float(np.std(sound - _basis(pitch).T @ (_basis(pitch) @ sound)))


@functools.cache
def _basis(pitch: float) -> np.ndarray:
  """Orthonormal rows [6, RATE] that span the partials of a pitch."""
  return np.ascontiguousarray(np.linalg.qr(_partials(pitch))[0].T)


@functools.cache
def _partials(pitch: float) -> np.ndarray:
  """Sine and cosine [RATE, 6] of a pitch, its octave and twelfth."""
  angle = 2 * np.pi * pitch / RATE * np.arange(RATE)[:, None] * np.array([1.0, 2.0, 3.0])
  return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def listen(rng: np.random.Generator) -> list[tuple[str, float]]:
  """Events of one side: ticks of a second until a pause, or until the listener is gone."""
  seconds = rng.gamma(8.0, 1.5)
  ticks = [("TICK", float(t)) for t in range(1, int(seconds) + 1)]
  return [("PLAY", 0.0), *ticks, *([("PAUSE", seconds)] if rng.random() < 0.8 else [])]


def vote(rng: np.random.Generator, config: Config, left: float, right: float) -> str:
  """Rao and Kupper's outcome of two qualities, or both bad."""
  if max(left, right) < rng.normal(config.standard, 0.5):
    return "BOTH_BAD"
  draw, band = rng.random(), np.log(config.kappa)
  if draw < special.expit(left - right - band):
    return "A"
  return "TIE" if draw < special.expit(left - right + band) else "B"


def _judge(config: Config, release, name: str, noise) -> tuple[np.ndarray, int, tuple[str, ...]]:
  """(which strengths are covered [M], how many clear pairs are in the wrong order, models)."""
  rows = [r for r in release if r["board"] == name and r["winner"] != "BOTH_BAD"]
  models = sorted({r[side] for r in rows for side in ("model_a", "model_b")})
  board = arena.leaderboard(
    vote_arrays.make(
      models,
      np.array([models.index(r["model_a"]) for r in rows]),
      np.array([models.index(r["model_b"]) for r in rows]),
      np.array([{"A": 1.0, "B": 0.0, "TIE": 0.5}[r["winner"]] for r in rows]),
    ),
    ridge=config.ridge,
  )
  truth = -config.gain * np.array([noise[model] for model in models])
  truth -= truth.mean()
  half = stats.norm.isf(0.025) * np.sqrt(np.diag(board.covariance))
  apart = np.subtract.outer(truth, truth)
  order = np.subtract.outer(board.fit.strength, board.fit.strength)
  return np.abs(board.fit.strength - truth) <= half, int(((apart > 0.4) & (order < 0)).sum()), models
