"""Every click model and baseline under one budget, on exposures of short videos (KuaiRand-Pure).

    python -m recjax.main --config=experiments/ctr.py:model=dien --workdir=runs/ctr_dien
    python -m recjax.main --mode=prove --config=experiments/ctr.py

Reads the folder `kuairand_pure_part` below the data root; view and split are those of
`experiments/diffumin.py`. Widths, tower, norm, optimizer and steps are the same for all; the models
differ in what they make of the history. `:model=NAME` and `:kind=NAME` choose, `:tiny` takes planted
clicks and a minute. `:vectors` takes planted clicks where items have given vectors, which MUSE needs
and KuaiRand-Pure has not; `:file=PATH` takes vectors of its items from a file (docs/data.md).
Expected: see docs/results.md.
"""

from recjax.config import experiment, parse_arg

_WIDTHS = {"item_width": 16, "category_width": 16, "norm": "batch"}


def get_config(arg=None):
  """The experiment; switches: tiny, vectors, file, model=NAME, kind=NAME of a baseline or a search."""
  arg = parse_arg(arg, tiny=False, vectors=False, file="", model="din", kind="")
  choice = {"feature_interactions": "kind", "history_search": "search"}.get(arg.model)
  model = {"name": arg.model, **_WIDTHS, **({choice: arg.kind} if choice and arg.kind else {})}
  train = {"log_every": 20, "select_metric": "auc"}
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
    data = {
      "data": {"name": "kuairand_pure_part"},
      "split": {"name": "global_time", "validation_from": 0.7, "test_from": 0.8},
      "view": {
        "name": "exposures", "earlier": "long_watch_seq", "earlier_until": "last_timestamp",
        "vectors": arg.file,
      },
      "train": {**train, "batch_size": 1024, "epochs": 2.0, "evaluate_every": 76},
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
PROOF = {
  "title": "Click models under one budget",
  "note": "KuaiRand-Pure are exposures with clicks, cut in time for all users at once. Widths, tower, "
  "optimizer and steps are those of the DNN for every model. The page of each paper has its published "
  "numbers, which are on other data.",
  "worlds": {
    "KuaiRand-Pure": {
      "seeds": 5, "metrics": ("auc", "gauc", "logloss"), "reference": "DNN", "arms": tuple(_ARMS),
    },
    "G-MM": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "DNN on vectors",
      "arms": tuple(_WITH_VECTORS),
    },
  },
  "arms": {**_ARMS, **_WITH_VECTORS},
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
