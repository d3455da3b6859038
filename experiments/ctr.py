"""Every click model and baseline under one budget, on exposures of short videos (KuaiRand-Pure).

    python -m recjax.main --config=experiments/ctr.py:model=dien --workdir=runs/ctr_dien
    python -m recjax.main --mode=prove --config=experiments/ctr.py

Reads the folder `kuairand_pure_part` below the data root; view and split are those of
`experiments/diffumin.py`. Widths, tower, norm, optimizer and steps are the same for all; the models
differ in what they make of the history. `:model=NAME` and `:kind=NAME` choose, `:tiny` takes planted
clicks and a minute. Expected: see docs/results.md.
"""

from recjax.config import experiment, parse_arg

_WIDTHS = {"item_width": 16, "category_width": 16, "norm": "batch"}


def get_config(arg=None):
  """The experiment; switches: tiny, model=NAME, kind=NAME of a baseline or of a search."""
  arg = parse_arg(arg, tiny=False, model="din", kind="")
  choice = {"feature_interactions": "kind", "history_search": "search"}.get(arg.model)
  model = {"name": arg.model, **_WIDTHS, **({choice: arg.kind} if choice and arg.kind else {})}
  train = {"log_every": 20, "select_metric": "auc"}
  if arg.tiny:
    sizes = {"num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
    data = {
      "data": {"name": "planted", "generator": "count", **sizes}, "view": {"name": "table"},
      "train": {**train, "batch_size": 256, "epochs": 3.0, "evaluate_every": 40},
    }
  else:
    data = {
      "data": {"name": "kuairand_pure_part"},
      "split": {"name": "global_time", "validation_from": 0.7, "test_from": 0.8},
      "view": {"name": "exposures", "earlier": "long_watch_seq", "earlier_until": "last_timestamp"},
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
PROOF = {
  "title": "Click models under one budget",
  "note": "KuaiRand-Pure are exposures with clicks, cut in time for all users at once. Widths, tower, "
  "optimizer and steps are those of the DNN for every model. The page of each paper has its published "
  "numbers, which are on other data.",
  "worlds": {
    "KuaiRand-Pure": {
      "seeds": 5, "metrics": ("auc", "gauc", "logloss"), "reference": "DNN", "arms": tuple(_ARMS),
    },
  },
  "arms": _ARMS,
  "claims": (
    {"name": "a network beats a linear model", "world": "KuaiRand-Pure", "metric": "auc",
     "better": "DNN", "worse": "LR", "margin": 0.0},
    *(
      {"name": f"{name} is no worse than the DNN", "world": "KuaiRand-Pure", "metric": "auc",
       "better": name, "worse": "DNN", "margin": 0.0}
      for name in ("DIN", "DIEN", "SDIM", "TIN", "QIN")
    ),
  ),
}
