"""Every click model and baseline under one budget, on exposures of short videos and other protocols.

    python -m recjax.main --config=experiments/ctr.py:model=dien --workdir=runs/ctr_dien
    python -m recjax.main --config=experiments/ctr.py:protocol=ae_v,model=tin --workdir=runs/ae_v_tin
    python -m recjax.main --mode=prove --config=experiments/ctr.py

Without a protocol: KuaiRand-Pure, the folder `kuairand_pure_part` below the data root, view and split
as in `experiments/diffumin.py`. `:protocol=NAME` takes one of PROTOCOLS (docs/data.md has what each
does) and the raw files that it names, which are sought below the data root; `--config.data.path` and
`--config.data.metadata` say others, and `:data=NAME` takes another log altogether. Widths, tower, norm,
optimizer and epochs are the same for all models; they differ in what they make of the history.
`:model=NAME` and `:kind=NAME` choose, `:tiny` takes planted clicks and a minute. `:vectors` takes
planted clicks where items have given vectors, which MUSE needs; `:file=PATH` takes vectors of a log's
items from a file (docs/data.md). Expected: see docs/results.md.
"""

from recjax.config import experiment, parse_arg
from recjax.errors import ConfigError
from recjax.registry import unknown

_WIDTHS = {"item_width": 16, "category_width": 16, "norm": "batch"}


def _amazon(name, **how):
  """Reviews and metadata of a department, as published; repeated reviews count there, too."""
  files = {"path": f"reviews_{name}_5.json.gz", "metadata": f"meta_{name}.json.gz"}
  return {"name": "amazon_reviews", "duplicates": "keep", **files, **how}


_TAOBAO = {
  "name": "csv", "path": "UserBehavior.csv",
  "header": ("user_id", "item_id", "category_id", "behavior_type", "timestamp"),
  "category": "category_id", "time": "timestamp", "duplicates": "keep",
  # The nine days that were published, 25 November to 3 December 2017 in China.
  "time_from": 1511539200, "time_before": 1512316800,
}
_PAIR = {"name": "ctr", "negatives": 1, "candidates": 2}
_EXPOSURES = {
  "data": {"name": "kuairand_pure_part"},
  "split": {"name": "global_time", "validation_from": 0.7, "test_from": 0.8},
  "view": {"name": "exposures", "earlier": "long_watch_seq", "earlier_until": "last_timestamp"},
  "metric": "auc", "evaluate_every": 76,
}
PROTOCOLS = {
  "exposures": _EXPOSURES,
  # P-LONG: the same with long histories, where the log has them.
  "long": {**_EXPOSURES, "view": {**_EXPOSURES["view"], "length": 1000}},
  # P-SMALL: one positive against 99.
  "small": {
    "data": {"name": "movielens_100k"}, "split": {}, "view": {"name": "ctr"}, "metric": "gauc",
    "evaluate_every": 200,
  },
  # P-AE-v, of TIN's authors: the last event is the test, the one before it validation.
  "ae_v": {
    "data": _amazon("Electronics"), "split": {}, "view": {**_PAIR, "length": 430}, "metric": "gauc",
    "evaluate_every": 500,
  },
  # P-AE, of DIN's authors: no validation part; the best figure on the test part is kept.
  "ae": {
    "data": _amazon("Electronics"), "split": {"name": "leave_last_out"},
    "view": {**_PAIR, "length": 430}, "metric": "gauc", "evaluate_every": 500,
  },
  # P-AB, of DIEN's authors: the last event of each user, of whom a tenth is the test.
  "ab": {
    "data": _amazon("Books", category_path="first"),
    "split": {"name": "user_disjoint", "history_share": 1.0},
    "view": {**_PAIR, "length": 100, "newest": 1, "popular": True, "unseen": False},
    "metric": "auc", "evaluate_every": 500,
  },
  # P-TB, of MIMN's authors: the last event of each user, or another item; users in order of time.
  "tb": {
    "data": _TAOBAO,
    "split": {"name": "users_by_time", "validation_from": 0.6, "test_from": 0.7},
    "view": {"name": "ctr", "length": 200, "newest": 1, "swap": 0.5, "unseen": False},
    "metric": "auc", "evaluate_every": 500,
  },
  # P-TB-L, of DARE's authors: users of 210 views or more, every fifth of 19 targets.
  "tb_l": {
    "data": {
      **_TAOBAO, "only": ("behavior_type=pv",), "core": 210, "most_popular": 2**31 - 1,
    },
    "split": {},
    "view": {
      "name": "ctr", "length": 200, "newest": 19, "stride": 5, "negatives": 2, "candidates": 3,
      "popular": True,
    },
    "metric": "gauc", "evaluate_every": 500,
  },
}


def get_config(arg=None):
  """The experiment; switches: tiny, vectors, protocol=, data=, file=PATH, model=, kind=NAMEs."""
  arg = parse_arg(
    arg, tiny=False, vectors=False, protocol="exposures", data="", file="", model="din", kind=""
  )
  if arg.protocol not in PROTOCOLS:
    raise ConfigError(unknown("protocol", arg.protocol, PROTOCOLS))
  protocol = PROTOCOLS[arg.protocol]
  choice = {"feature_interactions": "kind", "history_search": "search"}.get(arg.model)
  model = {"name": arg.model, **_WIDTHS, **({choice: arg.kind} if choice and arg.kind else {})}
  made_up = arg.tiny or arg.vectors
  train = {"log_every": 20, "select_metric": "auc" if made_up else protocol["metric"]}
  if arg.vectors:
    # The category is not told: vectors alone know it.
    model["category_width"] = 0
    sizes = {"num_train": 16_000, "num_validation": 2_000, "num_test": 5_000}
    if arg.tiny:
      sizes = {"num_train": 4_000, "num_validation": 500, "num_test": 1_000}
    data = {
      "data": {"name": "planted", "generator": "vectors", **sizes}, "view": {"name": "table"},
      "train": {**train, "batch_size": 256, "epochs": 1.0, "evaluate_every": 0},
    }
  elif arg.tiny:
    sizes = {"num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
    data = {
      "data": {"name": "planted", "generator": "count", **sizes}, "view": {"name": "table"},
      "train": {**train, "batch_size": 256, "epochs": 3.0, "evaluate_every": 40},
    }
  else:
    every = protocol["evaluate_every"]
    data = {
      "data": {"name": arg.data} if arg.data else protocol["data"],
      "split": protocol["split"],
      "view": {**protocol["view"], "vectors": arg.file},
      "train": {**train, "batch_size": 1024, "epochs": 2.0, "evaluate_every": every},
    }
  return experiment(
    "ctr",
    **data,
    model=model,
    evaluate={"ctr": {}},
    optimizer={"learning_rate": 1e-2 if arg.tiny else 3e-3, "clip_norm": 5.0},
    proof=PROOF,
  )


_VECTORS = "experiments/ctr.py:vectors,model="


def _arm(model, kind="", *settings):
  return {
    "config": f"experiments/ctr.py:model={model}" + (f",kind={kind}" if kind else ""), "set": settings
  }


def _on_groceries(arm):
  """The arm under P-AE-v."""
  return {**arm, "config": f"{arm['config']},protocol=ae_v,data=amazon14_grocery_train"}


_ARMS = {
  "LR": _arm("feature_interactions", "lr"),
  "DNN": _arm("feature_interactions", "dnn"),
  "Wide & Deep": _arm("feature_interactions", "wide_deep"),
  "IPNN": _arm("feature_interactions", "ipnn"),
  "DeepFM": _arm("feature_interactions", "deepfm"),
  "DCN-V2": _arm("feature_interactions", "dcnv2"),
  "DIN": _arm("din", "", "model.normalize=softmax"),
  "DIEN without auxiliary loss": _arm("dien", "", "model.auxiliary_weight=0.0"),
  "DIEN": _arm("dien"),
  "SIM hard": _arm("history_search", "sim_hard"),
  "SIM soft": _arm("history_search", "sim_soft"),
  "ETA": _arm("history_search", "eta"),
  "TWIN": _arm("history_search", "twin"),
  "SDIM": _arm("sdim"),
  "TIN": _arm("tin"),
  "QIN": _arm("qin"),
  "DiffuMIN": _arm("diffumin"),
}
_WITH_VECTORS = {
  "DNN on vectors": {"config": f"{_VECTORS}feature_interactions,kind=dnn"},
  "DIN on vectors": {"config": f"{_VECTORS}din", "set": ("model.normalize=softmax",)},
  "SIM soft on vectors": {"config": f"{_VECTORS}history_search,kind=sim_soft"},
  "SDIM on vectors": {"config": f"{_VECTORS}sdim"},
  "MUSE on vectors": {"config": f"{_VECTORS}muse"},
}
_GROCERIES = {f"{name}, groceries": _on_groceries(arm) for name, arm in _ARMS.items()}
PROOF = {
  "title": "Click models under one budget",
  "note": "KuaiRand-Pure are exposures with clicks, cut in time for all users at once. Grocery "
  "(P-AE-v) are reviews without the newest of each user: the last one left is the test, the one before "
  "it validation, each against one uniform negative. G-MM are planted clicks on items with given "
  "vectors. Widths, tower, optimizer and epochs are those of the DNN for every model. The page of each "
  "paper has its published numbers, which are on other data.",
  "worlds": {
    "KuaiRand-Pure": {
      "seeds": 5, "metrics": ("auc", "gauc", "logloss"), "reference": "DNN", "arms": tuple(_ARMS),
    },
    "Grocery (P-AE-v)": {
      "seeds": 3, "metrics": ("gauc", "auc", "logloss"), "reference": "DNN, groceries",
      "arms": tuple(_GROCERIES), "set": ("view.length=50", "train.evaluate_every=76"),
    },
    "G-MM": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "DNN on vectors",
      "arms": tuple(_WITH_VECTORS),
    },
  },
  "arms": {**_ARMS, **_GROCERIES, **_WITH_VECTORS},
  "claims": (
    {"name": "a network beats a linear model", "world": "KuaiRand-Pure", "metric": "auc",
     "better": "DNN", "worse": "LR", "margin": 0.0},
    *(
      {"name": f"{name} is no worse than the DNN", "world": "KuaiRand-Pure", "metric": "auc",
       "better": name, "worse": "DNN", "margin": 0.0}
      for name in ("DIN", "DIEN", "SDIM", "TIN", "QIN")
    ),
    {"name": "where vectors tell, MUSE reads them", "world": "G-MM", "metric": "auc",
     "better": "MUSE on vectors", "worse": "DIN on vectors", "margin": 0.15},
  ),
}
