"""SDIM (Cao et al., CIKM 2022, arXiv 2205.10249) on planted clicks with long histories.

    python -m recjax.main --config=experiments/sdim.py --workdir=runs/sdim
    python -m recjax.main --config=experiments/sdim.py:movielens --workdir=runs/sdim_movielens

The first form is G-LONG: clicks grow with the number of behaviours in the target's category, among 100
of which a third is noise; its Bayes AUC is .911. `:movielens` is protocol P-SMALL with the newest 200
ratings. `:model=NAME` is a baseline with the same tower: `history_search` or `din`. `:tiny` needs no
data and a minute. Expected: see docs/results.md. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, movielens, model=sdim|history_search|din."""
  arg = parse_arg(arg, tiny=False, movielens=False, model="sdim")
  if arg.movielens:
    return movielens(arg)
  data = {"generator": "long", "num_train": 20_000, "num_validation": 6_000, "num_test": 6_000}
  if arg.tiny:
    data = {"generator": "count", "num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
  return experiment(
    "sdim",
    data={"name": "planted", **data},
    view={"name": "table"},
    model={
      "name": arg.model, "item_width": 16, "category_width": 16, "stddev": 0.3, "norm": "batch",
    },
    evaluate={"ctr": {"batch_size": 1024}},
    train={
      "batch_size": 512,
      "epochs": 3.0 if arg.tiny else 5.0,
      "log_every": 20,
      "evaluate_every": 20,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 1e-2, "clip_norm": 5.0},
    proof=PROOF,
  )


def movielens(arg):
  """Every rating is a behaviour; one positive against 99 uniform negatives."""
  return experiment(
    "sdim_movielens",
    data={"name": "movielens_100k"},
    view={"name": "ctr", "length": 200},
    model={"name": arg.model, "item_width": 16, "category_width": 16},
    evaluate={"ctr": {"batch_size": 128}},
    train={
      "batch_size": 512,
      "epochs": 2.0,
      "log_every": 200,
      "evaluate_every": 400,
      "patience": 3,
      "select_metric": "gauc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
  )


_SEARCH = "experiments/sdim.py:model=history_search"
_FILMS = "experiments/sdim.py:movielens"
PROOF = {
  "title": "SDIM, searches, and attention to everything",
  "note": "G-LONG has a planted truth: clicks grow with the number of behaviours in the target's "
  "category among 100. Every arm has the same tower and DIN's unit over the newest 16 "
  "behaviours beside what is named; searches keep 50. tau is the number of bits in a group, 0 "
  "being mean pooling. P-SMALL is MovieLens 100K, the newest 200 ratings. All arms of a world "
  "share optimizer and budget.",
  "worlds": {
    "G-LONG": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "SDIM",
      "arms": (
        "newest 16", "mean of all", "attention to all", "SIM hard", "SIM soft", "ETA", "TWIN", "SDIM",
        "SDIM mean", "SDIM sum", "SDIM expected", "tau 0", "tau 1", "tau 10",
      ),
    },
    "P-SMALL": {
      "seeds": 3, "metrics": ("gauc", "auc", "logloss"), "reference": "SDIM on films",
      "arms": ("newest 16 on films", "attention to all on films", "SDIM on films"),
    },
  },
  "arms": {
    "newest 16": {"config": _SEARCH, "set": ("model.search=none",)},
    "mean of all": {"config": _SEARCH, "set": ("model.search=mean",)},
    "attention to all": {"config": _SEARCH, "set": ("model.search=all",)},
    "SIM hard": {"config": _SEARCH, "set": ("model.search=sim_hard",)},
    "SIM soft": {"config": _SEARCH, "set": ("model.search=sim_soft",)},
    "ETA": {"config": _SEARCH, "set": ("model.search=eta",)},
    "TWIN": {"config": _SEARCH, "set": ("model.search=twin",)},
    "SDIM": {"set": ()},
    "SDIM mean": {"set": ("model.reading=count",)},
    "SDIM sum": {"set": ("model.reading=none",)},
    "SDIM expected": {"set": ("model.estimate=expected",)},
    "tau 0": {"set": ("model.group=0",)},
    "tau 1": {"set": ("model.group=1",)},
    # 50 bits, as 48 make no groups of 10.
    "tau 10": {"set": ("model.group=10", "model.bits=50")},
    "newest 16 on films": {
      "config": f"{_FILMS},model=history_search", "set": ("model.search=none",)
    },
    "attention to all on films": {
      "config": f"{_FILMS},model=history_search", "set": ("model.search=all",)
    },
    "SDIM on films": {"config": _FILMS},
  },
  "claims": (
    {"name": "(b) a long history is worth reading", "world": "G-LONG", "metric": "auc",
     "better": "SDIM", "worse": "newest 16", "margin": 0.04},
    {"name": "(b) and its mean is not enough", "world": "G-LONG", "metric": "auc",
     "better": "SDIM", "worse": "mean of all", "margin": 0.05},
    {"name": "(b) hashing loses little against attention", "world": "G-LONG", "metric": "auc",
     "better": "SDIM", "worse": "attention to all", "margin": -0.01},
    {"name": "(c) three bits in a group beat one", "world": "G-LONG", "metric": "auc",
     "better": "SDIM", "worse": "tau 1", "margin": 0.0},
    {"name": "(c) and ten", "world": "G-LONG", "metric": "auc",
     "better": "SDIM", "worse": "tau 10", "margin": 0.0},
    {"name": "(c) and one beats none", "world": "G-LONG", "metric": "auc",
     "better": "tau 1", "worse": "tau 0", "margin": 0.0},
    {"name": "(e) a long history is no harm on real ratings", "world": "P-SMALL", "metric": "gauc",
     "better": "SDIM on films", "worse": "newest 16 on films", "margin": 0.0},
  ),
}
