"""Arena statistics on votes whose truth is known: Bradley-Terry, intervals, style control, boards.

    python -m recjax.main --mode=prove --config=experiments/arena.py

Search Arena (Miroyan et al., ICLR 2026, arXiv 2506.05334) and Music Arena (Kim et al., NeurIPS 2025,
arXiv 2507.20900). Expected: intervals hold the truth 95 times in 100, but for those that take ties for
wins (too often) and the votes of one user for votes of many (too rarely); a style that voters like
turns the board around, and a covariate turns it back. Two minutes on two cores. `:tiny` has two seeds
of three worlds, too few for its claims, and stores nothing.
"""

from recjax.config import parse_arg, settings

_STYLE = {"style": "answers", "beta": (0.4,)}
_CITATIONS = {"style": "citations", "beta": (0.28, 0.27, 0.0), "votes": 5000, "spread": 0.4}
_USERS = {"votes_per_user": 5, "repeats": 0.6}
_TIES = {"ties": 0.6}
WORLDS = {
  "intervals": {
    "trial": "arena", "seeds": 200,
    "metrics": ("coverage", "pair_coverage", "ranks_hold", "half_width", "spearman"),
    "arms": {
      "sandwich": {},
      "model-based": {"intervals": "model"},
      "bootstrap": {"intervals": "bootstrap"},
      "ties, sandwich": _TIES,
      "ties, model-based": {"intervals": "model", **_TIES},
      "users, sandwich": _USERS,
      "users, by user": {"intervals": "cluster", **_USERS},
    },
  },
  "style": {
    "trial": "arena", "seeds": 200,
    "metrics": ("coverage", "style", "style_covered", "spearman", "displaced"),
    "arms": {
      "with control": _STYLE,
      "with control, model-based": {"intervals": "model", **_STYLE},
      "without": {"control": False, **_STYLE},
    },
  },
  "citations": {
    "trial": "arena", "seeds": 100,
    "metrics": (
      "coverage", "support", "support_within", "irrelevant", "irrelevant_within", "contradict",
      "contradict_within", "contradict_covered", "spearman", "displaced",
    ),
    "arms": {
      "weak models cite more": {"correlation": -0.6, **_CITATIONS},
      "and no control": {"correlation": -0.6, "control": False, **_CITATIONS},
      "strong models cite more": {"correlation": 0.6, **_CITATIONS},
      "and no control there": {"correlation": 0.6, "control": False, **_CITATIONS},
    },
  },
  "music arena": {
    "trial": "music_arena", "seeds": 10, "arms": {"no ridge": {}, "ridge of 1": {"ridge": 1.0}},
  },
  "music captions": {
    "trial": "music_captions", "arms": {"rules": {}, "always vocal": {"always": "vocal"}},
  },
  "PandaLM": {
    "trial": "judged_pairs",
    "arms": {
      "by pair of answers": {}, "by vote": {"intervals": "sandwich"}, "no control": {"control": False},
    },
  },
}


def _claim(world, arm, metric, name, **bound):
  return {"world": world, "better": arm, "metric": metric, "name": name, **bound}


CLAIMS = (
  _claim("intervals", "sandwich", "coverage", "95 % intervals hold the truth", at_least=0.93),
  _claim("intervals", "bootstrap", "coverage", "so do bootstrap ones", at_least=0.93),
  _claim("intervals", "ties, sandwich", "coverage", "also with ties", at_least=0.93),
  _claim("intervals", "ties, sandwich", "coverage", "and not too often", at_most=0.98),
  _claim("intervals", "users, by user", "coverage", "with users' votes, by user", at_least=0.93),
  _claim("intervals", "users, sandwich", "coverage", "where others are too sure", at_most=0.85),
  _claim("intervals", "ties, model-based", "half_width", "ties make model-based ones too wide",
         worse="ties, sandwich", relative=0.2),
  _claim("intervals", "sandwich", "ranks_hold", "all ranks are among those left open", at_least=0.95),
  _claim("style", "with control", "style", "the style bias is found", at_least=0.38),
  _claim("style", "with control", "style", "and not exaggerated", at_most=0.42),
  _claim("style", "with control", "style_covered", "its interval holds it", at_least=0.92),
  _claim("style", "with control", "style_covered", "and not too often", at_most=0.98),
  _claim("style", "with control", "coverage", "and those of strengths theirs", at_least=0.92),
  _claim("style", "with control", "spearman", "control mends the order", at_least=0.95),
  _claim("style", "with control", "spearman", "which style had turned", worse="without", margin=0.3),
  *(
    _claim("citations", "weak models cite more", f"{kind}_within",
           f"the weight of {kind} citations is within 2.5 errors", at_least=0.95)
    for kind in ("support", "irrelevant", "contradict")
  ),
  _claim("citations", "weak models cite more", "contradict_covered",
         "contradicting ones weigh nothing", at_least=0.9),
  _claim("citations", "and no control", "displaced", "without control models are misplaced",
         at_least=2.0),
  _claim("citations", "weak models cite more", "spearman", "and not with it", at_least=0.95),
  _claim("music arena", "no ridge", "vocal_to_mute", "no vocal prompt reaches a mute system",
         at_most=0.0),
  _claim("music arena", "no ridge", "unheard", "every vote has been listened for", at_most=0.0),
  _claim("music arena", "no ridge", "wrong_board", "boards hold their systems", at_most=0.0),
  _claim("music arena", "no ridge", "misordered", "clear pairs are in order", at_most=0.0),
  _claim("music arena", "no ridge", "coverage", "intervals hold", at_least=0.9),
  _claim("music arena", "no ridge", "coverage", "and not too often", at_most=0.99),
  _claim("music captions", "rules", "accuracy", "rules route captions", at_least=0.9),
  _claim("PandaLM", "by pair of answers", "length_low", "people like long answers", at_least=0.0),
)


def get_config(arg=None):
  """The study; switch: tiny."""
  arg = parse_arg(arg, tiny=False)
  worlds = WORLDS
  if arg.tiny:
    worlds = {name: {**world, "seeds": 2} for name, world in WORLDS.items()}
  return settings(
    "study",
    name="arena",
    title="Arena statistics: intervals, style control, boards",
    note="Twelve models with planted strengths, 3,000 votes (5,000 with citations); a made-up Music "
    "Arena of six generators, from the prompt to two boards; real captions and real votes. `coverage` "
    "is the share of strengths inside their 95 % intervals, `ranks_hold` how often all true ranks are "
    "among those that Holm-corrected pairs leave open, `displaced` how many models are three ranks or "
    "more off. A weight is `within` where it is off by 2.5 errors at most. Where strong models cite "
    "more, style stretches the board and displaces few.",
    worlds=worlds,
    claims=CLAIMS,
    run="intervals+style+citations" if arg.tiny else "",
  )
