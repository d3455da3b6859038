"""kNN-Embed (El-Kishky et al., PAKDD 2023, arXiv 2205.06205) on planted vectors of users and items.

    python -m recjax.main --mode=prove --config=experiments/knn_embed_planted.py

Three worlds of 800 users, 800 items and 40 clusters, told apart by what neighbours know: everything
that the user likes and has not shown; nothing, since likings are each user's own; and little, since
vectors come from the same few items that the user had. Expected: smoothing pays in the first world
alone, and there the mixture without it loses to a single query. Two minutes on two quiet cores. `:tiny`
has a fifth of the users and two seeds, and stores nothing.
"""

from recjax.config import parse_arg, settings

_SINGLE, _ALONE = "single query", "mixture, not smoothed"
ARMS = {
  _SINGLE: {"queries": 0},
  _ALONE: {"neighbours": 0},
  **{f"kNN-Embed, {own} % own": {"own": own / 100} for own in (80, 50, 20)},
}
_HALF = "kNN-Embed, 50 % own"
_WORLDS = {
  "communities": {},
  "likings of one's own": {
    "users": "items", "width": 16, "noise": 0.35, "liked": 5, "length": 100,
  },
  "vectors of a sparse SVD": {"users": "svd"},
}
WORLDS = {
  name: {"trial": "knn_embed", "seeds": 3, "arms": {arm: {**world, **own} for arm, own in ARMS.items()}}
  for name, world in _WORLDS.items()
}


def _claim(world, better, name, metric="recall", **bound):
  return {"world": world, "better": better, "metric": metric, "name": name, **bound}


_KNOWN, _OWN_LIKINGS, _SVD = _WORLDS
CLAIMS = (
  _claim(_KNOWN, _HALF, "smoothing finds more than a single query", worse=_SINGLE, relative=0.1),
  _claim(_KNOWN, _HALF, "and its lists are wider", "spread", worse=_SINGLE, margin=0.1),
  _claim(_KNOWN, _SINGLE, "which the mixture alone does not reach", worse=_ALONE),
  _claim(_KNOWN, _SINGLE, "neighbours are of the same community", "same_community", at_least=0.99),
  _claim(_OWN_LIKINGS, _ALONE, "without smoothing, the mixture finds more", worse=_SINGLE,
         relative=0.1),
  _claim(_OWN_LIKINGS, _ALONE, "and its lists are wider", "spread", worse=_SINGLE, margin=0.1),
  _claim(_OWN_LIKINGS, _ALONE, "there smoothing hurts", worse=_HALF),
  _claim(_SVD, _ALONE, "and where vectors tell little of communities", worse=_HALF),
  _claim(_SVD, _ALONE, "half of all neighbours at most are of the same", "same_community",
         at_most=0.5),
)


def get_config(arg=None):
  """The study; switch: tiny."""
  arg = parse_arg(arg, tiny=False)
  worlds = WORLDS
  if arg.tiny:
    worlds = {
      name: {
        **world, "seeds": 2,
        "arms": {arm: {**own, "num_users": 160} for arm, own in world["arms"].items()},
      }
      for name, world in WORLDS.items()
    }
  return settings(
    "study",
    name="knn_embed_planted",
    title="kNN-Embed on planted vectors: where smoothing pays, and where it hurts",
    note="Users show 10 items of 3 of the clusters that they like (6, with likings of one's own 5); "
    "20 answers come from all of those. `recall` is that of lists of 60 (with likings of one's own of "
    "100) without what was shown, `spread` the mean of 1 - cosine over the pairs of a list, "
    "`same_community` the share of the 20 nearest users who like the same. Percentages are "
    "the weight of a user's own clusters beside those of 20 neighbours.",
    worlds=worlds,
    claims=CLAIMS,
    run=_KNOWN + "+" + _SVD if arg.tiny else "",
  )
