"""UDITSR (Zhang et al., KDD 2024, arXiv 2407.00912): searches and recommendations by one model.

    python -m recjax.main --config=experiments/uditsr.py --workdir=runs/uditsr

The default is a planted world: users have tastes that stay and needs that change, a search tells the
need by two words, a recommendation does not. 12 events of each of 600 users train, one validates, three
are the test, each against 99 items that the user never had, as in the paper; metrics are given for
searches and for recommendations. `:model=lightgcn|bpr_mf|popularity` are baselines, `:model=mlp` is the
model without queries. `:data=NAME` takes a log of your own with event columns word_1, word_2 and kind.
`:tiny` ranks all of 60 items and takes a minute. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg
from recjax.errors import ConfigError
from recjax.registry import unknown

MODELS = {
  "uditsr": {"name": "uditsr", "width": 32},
  "mlp": {"name": "uditsr", "width": 32, "queries": False},
  "lightgcn": {"name": "lightgcn", "width": 32, "layers": 2},
  "bpr_mf": {"name": "bpr_mf", "width": 32},
  "popularity": {"name": "counts", "kind": "popularity"},
}


def get_config(arg=None):
  """The experiment; switches: tiny, model=uditsr|mlp|lightgcn|bpr_mf|popularity, data=NAME."""
  arg = parse_arg(arg, tiny=False, model="uditsr", data="planted")
  if arg.model not in MODELS:
    raise ConfigError(unknown("model of this experiment", arg.model, MODELS))
  ranking = {"sampled_ranking": {"cutoffs": (5, 10), "by_column": "kind"}}
  if arg.tiny:
    ranking = {"full_ranking": {"cutoffs": (5, 10), "by_column": "kind"}}
  demands = arg.model == "uditsr" and not arg.tiny
  model = MODELS[arg.model]
  return experiment(
    "uditsr",
    data=planted(arg.tiny) if arg.data == "planted" else {"name": arg.data},
    split={"name": "leave_one_out"} if arg.tiny else {"name": "few_shot", "shots": 13},
    view={"name": "search_and_recommendation", "length": 20, "query": ("word_1", "word_2")},
    model={**model, "width": 16, "layers": 1} if arg.tiny and model["name"] == "uditsr" else model,
    evaluate={**ranking, **({"case_values": {"function": "demand_cosine"}} if demands else {})},
    train={
      "batch_size": 256,
      "steps": 120 if arg.tiny else 1120,
      "log_every": 40 if arg.tiny else 56,
      "evaluate_every": 60 if arg.tiny else 56,
      "patience": 10,
      "select_metric": "ndcg@10" if arg.tiny else "sampled99_hr@5",
    },
    optimizer={
      "name": "adamw", "weight_decay": 1e-5,
      "learning_rate": 1e-2 if arg.tiny else 5e-3 if arg.model in ("lightgcn", "bpr_mf") else 1e-3,
    },
    proof=PROOF,
  )


def planted(tiny):
  """The world; the small one has more searches and fewer items."""
  sizes = {"num_users": 600, "shortest": 16, "longest": 16}
  if tiny:
    sizes = {
      "num_users": 200, "shortest": 12, "longest": 12, "num_items": 60, "num_categories": 12,
      "searches": 0.7,
    }
  return {"name": "planted", "generator": "queries", **sizes}


_WORLD, _DEMANDS = "searches and recommendations", "generated demands"
_SEARCH, _RECOMMENDATION = (f"sampled99_hr@5 kind {kind}" for kind in ("search", "recommendation"))
_UNSUPERVISED = "without supervision"
PROOF = {
  "title": "UDITSR, its parts, and models without queries",
  "note": "A need that changes and a taste that stays lead to an item; a search tells the need. HR@5 "
  "and NDCG@5 are those of the right answer among 99 sampled items that the user did not have, and say "
  "little about ranking all. LightGCN with an MLP is the model itself without queries. The second "
  "table is the cosine, in held-out searches, of the generated demand with the vector of the query. "
  "Weights of the losses are the paper's.",
  "worlds": {
    _WORLD: {
      "seeds": 3, "reference": "UDITSR",
      "metrics": (
        _SEARCH, _RECOMMENDATION, "sampled99_ndcg@5 kind search",
        "sampled99_ndcg@5 kind recommendation", "sampled99_hr@5",
      ),
      "arms": (
        "popularity", "BPR-MF", "LightGCN", "LightGCN with an MLP", "UDITSR", _UNSUPERVISED,
        "without contrast", "without translation", "without attention",
      ),
    },
    _DEMANDS: {
      "seeds": 3, "reference": "UDITSR", "metrics": ("demand_cosine",),
      "arms": ("UDITSR", _UNSUPERVISED),
    },
  },
  "arms": {
    "popularity": {"config": "experiments/uditsr.py:model=popularity"},
    "BPR-MF": {"config": "experiments/uditsr.py:model=bpr_mf"},
    "LightGCN": {"config": "experiments/uditsr.py:model=lightgcn"},
    "LightGCN with an MLP": {"config": "experiments/uditsr.py:model=mlp"},
    "UDITSR": {},
    _UNSUPERVISED: {"set": ("model.supervision=0.0",)},
    "without contrast": {"set": ("model.contrast=0.0",)},
    "without translation": {"set": ("model.translation=False",)},
    "without attention": {"set": ("model.attention=False",)},
  },
  "claims": (
    {"name": "(1) queries help recommendations", "world": _WORLD, "metric": _RECOMMENDATION,
     "better": "UDITSR", "worse": "LightGCN with an MLP", "relative": 0.05},
    {"name": "(2) and searches more", "world": _WORLD, "metric": _SEARCH,
     "better": "UDITSR", "worse": "LightGCN with an MLP", "relative": 0.20},
    {"name": "(3) supervision by queries helps recommendations", "world": _WORLD,
     "metric": _RECOMMENDATION, "better": "UDITSR", "worse": _UNSUPERVISED, "margin": 0.0},
    {"name": "(4) generated demands resemble queries", "world": _DEMANDS, "metric": "demand_cosine",
     "better": "UDITSR", "at_least": 0.5},
    {"name": "(4) because they are taught to", "world": _DEMANDS, "metric": "demand_cosine",
     "better": "UDITSR", "worse": _UNSUPERVISED, "margin": 0.2},
  ),
}
