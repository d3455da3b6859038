"""MMHCL (Guo et al., TOMM 2025, arXiv 2504.16576) on planted users of items with vectors.

    python -m recjax.main --config=experiments/mmhcl.py --workdir=runs/mmhcl

Leave-one-out, full ranking. Users like clusters of items, which given vectors tell with noise.
`:data=NAME,vectors=FILE` takes other data and vectors of their items, which `--mode=encode` makes of
titles (docs/papers/mmhcl.md has both commands); `core=5` leaves out rare users and items.
`:given=tiktok|sports|clothing` takes the authors' own split, a Parquet file below `mmhcl_splits` whose
column `split` names the parts, with their settings; their vectors of items are not to be had, so that
only the users' side is there, unless `vectors=FILE` has some. `:tiny` takes under a minute.
`--mode=prove` compares either side alone, LightGCN, vectors of other items, and popularity;
`--config.proof.run=clusters` leaves out the worlds that need files.
"""

from recjax.config import experiment, parse_arg
from recjax.errors import ConfigError
from recjax.registry import unknown

_PLANTED = {"name": "planted", "generator": "modalities", "num_users": 1000, "longest": 12}
_COLUMNS = ("picture", "text")
# Neighbours, layers of users and of items, weight of users and of items, temperature, decay: those of
# the authors' logs.
GIVEN = {
  "tiktok": (5, 3, 2, 0.03, 0.07, 0.6, 1e-3),
  "sports": (5, 2, 2, 0.3, 0.7, 0.5, 1e-5),
  "clothing": (10, 2, 2, 0.1, 0.7, 0.4, 1e-3),
}


def get_config(arg=None):
  """The experiment; switches: tiny, given=NAME, data=NAME with vectors=FILE and core=K."""
  arg = parse_arg(arg, tiny=False, given="", data="", vectors="", core=0)
  if arg.given:
    return given(arg.given, arg.vectors)
  if bool(arg.data) != bool(arg.vectors):
    raise ConfigError("experiments/mmhcl.py takes data=NAME together with vectors=FILE of its items.")
  if not arg.data:
    return planted(arg.tiny)
  return experiment(
    "mmhcl",
    data={"name": arg.data, "core": arg.core},
    view={"name": "prefixes", "length": 50, "shortest": 0},
    model={"name": "mmhcl", "files": (arg.vectors,)},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 1024, "steps": 4000, "log_every": 100, "evaluate_every": 200, "patience": 6,
      "select_metric": "ndcg@20",
    },
    optimizer={"learning_rate": 1e-3},
  )


def given(name, vectors):
  """A run on a split of the authors."""
  if name not in GIVEN:
    raise ConfigError(unknown("given split", name, GIVEN))
  neighbours, user_layers, item_layers, user_weight, item_weight, temperature, decay = GIVEN[name]
  return experiment(
    "mmhcl",
    data={"name": f"mmhcl_splits/{name}.parquet"},
    split={"name": "given"},
    view={"name": "prefixes", "length": 50, "shortest": 0},
    model={
      "name": "mmhcl", "files": (vectors,) if vectors else (), "neighbours": neighbours,
      "user_layers": user_layers, "item_layers": item_layers, "user_weight": user_weight,
      "item_weight": item_weight if vectors else 0.0, "temperature": temperature, "decay": decay,
      # Of 9,000 users and more; all of them are 40 times the work on the largest data.
      "contrast_nodes": 4096,
    },
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 1024, "steps": 4000, "log_every": 100, "evaluate_every": 200, "patience": 6,
      "select_metric": "recall@20",
    },
    optimizer={"learning_rate": 1e-3},
    proof=PROOF,
  )


def planted(tiny):
  """A run on planted clusters; its defaults are those of the proof."""
  data = _PLANTED | ({"num_users": 300, "num_items": 120, "num_categories": 12} if tiny else {})
  return experiment(
    "mmhcl",
    data=data,
    view={"name": "prefixes", "length": 12, "shortest": 0},
    model={
      "name": "mmhcl", "columns": _COLUMNS, "width": 32, "user_weight": 0.1, "item_weight": 0.3,
      "temperature": 0.4,
    },
    evaluate={"full_ranking": {"by_column": "had"}},
    train={
      "batch_size": 256, "steps": 150 if tiny else 2400, "log_every": 50 if tiny else 100,
      "evaluate_every": 50 if tiny else 100, "select_metric": "ndcg@20",
    },
    optimizer={"learning_rate": 1e-2 if tiny else 1e-3},
    proof=PROOF,
  )


_NOBODY = "model.user_weight=0.0"
_NOTHING = "model.item_weight=0.0"
_OTHERS = "model.columns=('shuffled_picture', 'shuffled_text')"
PROOF = {
  "title": "MMHCL where vectors tell clusters of items",
  "note": "1,000 users with twelve items each, in no order, of three of thirty clusters; two kinds of "
  "vectors tell the cluster with noise. Full ranking, seen items left out; HR@20 is Recall@20, since "
  "one item is held out. 'Seldom' are cases whose item has two training events at most. Without its "
  "contrast MMHCL still adds the second-order vectors (weights of 1e-9). TikTok and Sports have the "
  "parts of the authors' own split, without vectors of items: MMHCL is its users' side there, with the "
  "contrast of 4,096 nodes a step; validation items are left out of the test's ranking, too.",
  "worlds": {
    "clusters": {
      "config": "experiments/mmhcl.py", "seeds": 3, "reference": "LightGCN",
      "metrics": ("hr@20", "ndcg@20", "hr@20 had seldom"),
      "arms": (
        "popularity", "LightGCN", "users only", "items only", "MMHCL", "no contrast",
        "vectors of other items",
      ),
    },
    **{
      name: {
        "config": f"experiments/mmhcl.py:given={name}", "seeds": 3, "reference": "LightGCN",
        "metrics": ("recall@20", "ndcg@20"), "arms": ("popularity", "LightGCN", "users only"),
      }
      for name in ("tiktok", "sports")
    },
  },
  "arms": {
    "popularity": {"set": ("model={'name': 'counts', 'kind': 'popularity'}",)},
    "LightGCN": {"set": (_NOBODY, _NOTHING)},
    "users only": {"set": (_NOTHING,)},
    "items only": {"set": (_NOBODY,)},
    "MMHCL": {},
    "no contrast": {"set": ("model.user_weight=1e-9", "model.item_weight=1e-9")},
    "vectors of other items": {"set": (_OTHERS, _NOBODY)},
  },
  "claims": (
    {"name": "better than LightGCN", "world": "clusters", "metric": "hr@20",
     "better": "MMHCL", "worse": "LightGCN", "relative": 0.08},
    {"name": "above all for items that were had seldom", "world": "clusters",
     "metric": "hr@20 had seldom", "better": "MMHCL", "worse": "LightGCN", "relative": 0.25},
    {"name": "it is the vectors: those of other items do not help", "world": "clusters",
     "metric": "hr@20", "better": "LightGCN", "worse": "vectors of other items", "relative": -0.02},
    *(
      {"name": f"users' side alone is no worse on {name}", "world": name, "metric": "recall@20",
       "better": "users only", "worse": "LightGCN", "relative": -0.01}
      for name in ("tiktok", "sports")
    ),
  ),
}
