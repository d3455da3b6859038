"""Leaderboards from votes; see docs/arena.md.

    python -m recjax.main --mode=leaderboard --config=experiments/leaderboard.py:tiny --workdir=board

Without `:tiny`, name the votes: --config.votes=votes.jsonl, JSON lines or Parquet.
`:style=search_arena` and `:style=music_arena` follow those two papers' codes: ties, penalty, intervals.
`:tiny` takes made-up votes, 2,000 of twelve models, whose voters like style.
"""

from recjax.config import parse_arg, settings
from recjax.errors import ConfigError
from recjax.registry import unknown

STYLES = {
  # Half a win for both kinds of ties; percentiles of 100 resamples.
  "search_arena": {"intervals": "bootstrap", "rounds": 100},
  # Both bad dropped, a ridge of 1, estimate and deviation of 1,000 resamples, thirty votes or more.
  "music_arena": {
    "both_bad": "drop", "ridge": 1.0, "intervals": "bootstrap_deviation", "rounds": 1000,
    "minimum_battles": 30, "minimum_votes": 30,
  },
}


def get_config(arg=None):
  """The settings; switches: tiny, style=search_arena|music_arena."""
  arg = parse_arg(arg, tiny=False, style="")
  if arg.style and arg.style not in STYLES:
    raise ConfigError(unknown("style of a leaderboard", arg.style, STYLES))
  made = {"name": "leaderboard", **STYLES.get(arg.style, {})}
  if arg.tiny:
    made |= {"votes": "planted", "covariates": ("style",)}
  return settings("leaderboard", **made)
