"""Deep Interest Evolution Network (Zhou et al., AAAI 2019, arXiv 1809.03672) on planted clicks.

    python -m recjax.main --config=experiments/dien.py --workdir=runs/dien
    python -m recjax.main --config=experiments/dien.py:movielens --workdir=runs/dien_movielens

The first form is G-CHAIN: users walk along two cycles of items at once, and a click is on what comes
next in one of them; its Bayes AUC is .950. Histories are shorter than the cycles: had a state expected
every item of a thread once, attention could not tell which one comes now. `:movielens` is protocol
P-SMALL, as in `experiments/din.py`. `:model=din` is the baseline with the same tower; `:tiny` needs no
data and a minute. Expected: see docs/results.md. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, movielens, model=dien|din."""
  arg = parse_arg(arg, tiny=False, movielens=False, model="dien")
  if arg.movielens:
    return movielens(arg)
  data = {
    "generator": "threads", "num_items": 256, "num_categories": 8, "length": 12,
    "num_train": 5_000, "num_validation": 5_000, "num_test": 5_000,
  }
  if arg.tiny:
    data = {"generator": "count", "num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
  return experiment(
    "dien",
    data={"name": "planted", **data},
    view={"name": "table"},
    model={
      "name": arg.model, "item_width": 16, "category_width": 16, "stddev": 0.3, "norm": "batch",
    },
    evaluate={"ctr": {}},
    train={
      "batch_size": 256,
      "epochs": 3.0 if arg.tiny else 20.0,
      "log_every": 20,
      "evaluate_every": 40,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 1e-2, "clip_norm": 5.0},
    proof=PROOF,
  )


def movielens(arg):
  """Every rating is a behaviour; one positive against 99 uniform negatives."""
  return experiment(
    "dien_movielens",
    data={"name": "movielens_100k"},
    view={"name": "ctr", "length": 30},
    model={"name": arg.model, "item_width": 16, "category_width": 16},
    evaluate={"ctr": {"batch_size": 512}},
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


_MOVIELENS = "experiments/dien.py:movielens"
_DIN = "experiments/dien.py:model=din"
_WITHOUT = "model.auxiliary_weight=0.0"
PROOF = {
  "title": "DIEN, its units, and DIN",
  "note": "G-CHAIN has a planted truth: a click is on what comes next in one of two cycles that the "
  "user follows, and the category tells nothing. Arms but DIEN have no auxiliary loss. Shuffled "
  "arms are trained as the others, and tested on histories in random order. P-SMALL is "
  "MovieLens 100K with one positive against 99 uniform negatives. Arms of a world share widths, "
  "tower, optimizer and budget.",
  "worlds": {
    "G-CHAIN": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "AUGRU",
      "arms": (
        "DIN", "DIN shuffled", "two GRUs", "AIGRU", "AGRU", "AUGRU", "AUGRU of the code", "DIEN",
        "DIEN of the code", "DIEN shuffled",
      ),
    },
    "P-SMALL": {
      "seeds": 5, "metrics": ("gauc", "auc", "logloss"), "reference": "AUGRU on films",
      "arms": ("DIN on films", "AUGRU on films", "DIEN on films"),
    },
  },
  "arms": {
    "DIN": {"config": _DIN},
    "DIN shuffled": {"config": _DIN, "set": ("view.shuffle_test=True",)},
    "two GRUs": {"set": (_WITHOUT, "model.evolution=gru")},
    "AIGRU": {"set": (_WITHOUT, "model.evolution=aigru")},
    "AGRU": {"set": (_WITHOUT, "model.evolution=agru")},
    "AUGRU": {"set": (_WITHOUT,)},
    "AUGRU of the code": {"set": (_WITHOUT, "model.evolution=augru_code")},
    "DIEN": {"set": ()},
    "DIEN of the code": {"set": ("model.evolution=augru_code",)},
    "DIEN shuffled": {"set": ("view.shuffle_test=True",)},
    "DIN on films": {"config": f"{_MOVIELENS},model=din", "set": ("model.normalize=softmax",)},
    "AUGRU on films": {"config": _MOVIELENS, "set": (_WITHOUT,)},
    "DIEN on films": {"config": _MOVIELENS},
  },
  "claims": (
    {"name": "(a) the auxiliary loss helps where labels are few", "world": "G-CHAIN", "metric": "auc",
     "better": "DIEN", "worse": "AUGRU", "margin": 0.02},
    {"name": "(a) an order that is read beats one that is not", "world": "G-CHAIN", "metric": "auc",
     "better": "DIEN", "worse": "DIN", "margin": 0.03},
    {"name": "(b) DIEN needs the order of the history", "world": "G-CHAIN", "metric": "auc",
     "better": "DIEN", "worse": "DIEN shuffled", "margin": 0.02},
    # Sums in another order round differently, which may swap a few pairs.
    {"name": "(b) DIN loses nothing without it", "world": "G-CHAIN", "metric": "auc",
     "better": "DIN shuffled", "worse": "DIN", "margin": -0.0005},
    {"name": "(b) and wins nothing", "world": "G-CHAIN", "metric": "auc",
     "better": "DIN", "worse": "DIN shuffled", "margin": -0.0005},
    {"name": "(d) the auxiliary loss is no harm on real ratings", "world": "P-SMALL", "metric": "gauc",
     "better": "DIEN on films", "worse": "AUGRU on films", "margin": 0.0},
  ),
}
