"""TIN (Zhou et al., WWW 2024 Companion, arXiv 2308.08487) on planted clicks that fade with time.

    python -m recjax.main --config=experiments/tin.py --workdir=runs/tin
    python -m recjax.main --config=experiments/tin.py:movielens --workdir=runs/tin_movielens

The first form is G-RECENCY: behaviours in the target's category count, recent ones more; its Bayes AUC
is .890. `:affinity` is G-RECENCY-TR, where a product of factors of both categories takes the place of
being equal; its Bayes AUC is .939. `:movielens` is protocol P-SMALL with times, as in
`experiments/din.py`. `:paper,data=NAME` has the settings of the authors' code and their protocol for
Amazon Electronics, on a folder or log of that name: the last event of each user is the test, the one
before it validation, and each positive has one negative. `:model=din` is the baseline, `:tiny` needs no
data and a minute. Expected: see docs/results.md. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, affinity, movielens, paper, data=NAME, model=tin|din."""
  arg = parse_arg(
    arg, tiny=False, affinity=False, movielens=False, paper=False, data="movielens_100k", model="tin"
  )
  if arg.paper:
    return paper(arg)
  if arg.movielens:
    return movielens(arg)
  sizes = {"num_train": 4_000, "num_validation": 1_000, "num_test": 1_000} if arg.tiny else {}
  return experiment(
    "tin",
    data={"name": "planted", "generator": "affinity" if arg.affinity else "recency", **sizes},
    view={"name": "table"},
    model={
      "name": arg.model, "item_width": 16, "category_width": 16, "stddev": 0.3, "norm": "batch",
    },
    evaluate={"ctr": {}},
    train={
      "batch_size": 256 if arg.tiny else 512,
      "epochs": 6.0,
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
    "tin_movielens",
    data={"name": "movielens_100k"},
    view={"name": "ctr", "times": True},
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


def paper(arg):
  """Settings of the authors' code; its tables begin smaller, at the deviation of Glorot's rule."""
  return experiment(
    "tin_paper",
    data={"name": arg.data},
    view={"name": "ctr", "length": 430, "negatives": 1, "candidates": 2},
    model={
      "name": "tin", "item_width": 64, "category_width": 64, "positions": 430, "hidden": (80, 40),
      "activation": "sigmoid", "norm": "affine",
    },
    evaluate={"ctr": {"ties": "wrong"}},
    train={
      "batch_size": 32,
      "epochs": 4.0,
      "log_every": 1000,
      "evaluate_every": 1000,
      "select_metric": "gauc",
    },
    optimizer={"learning_rate": 1e-3, "clip_norm": 5.0},
  )


_DIN = "experiments/tin.py:model=din"
_AFFINITY = "experiments/tin.py:affinity"
_MOVIELENS = "experiments/tin.py:movielens"
_WITHOUT_TR = "model.representation=False"
_UNIT = "model.attention=unit"
PROOF = {
  "title": "TIN, its parts, and DIN with and without positions",
  "note": "In G-RECENCY clicks grow with behaviours in the target's category, each step back counting "
  ".7 of the one after it; in G-RECENCY-TR with a product of fixed factors of both categories. "
  "P-SMALL is MovieLens 100K with times, one positive against 99 uniform negatives. 'DIN with "
  "positions' is DIN's unit on vectors with positions added, the rival that knows when as well. Arms "
  "of a world share widths, tower, optimizer and budget.",
  "worlds": {
    "G-RECENCY": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "TIN",
      "arms": (
        "DIN", "DIN with positions", "TIN", "TIN of the formula", "without TTE", "without TA",
        "without TR",
      ),
    },
    "G-RECENCY-TR": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "affine TIN",
      "arms": ("affine DIN", "affine DIN with positions", "affine TIN", "affine without TR"),
    },
    "P-SMALL": {
      "seeds": 5, "metrics": ("gauc", "auc", "logloss"), "reference": "TIN on films",
      "arms": (
        "DIN on films", "DIN with positions on films", "TIN on films", "TIN with gaps on films",
        "TIN with both on films",
      ),
    },
  },
  "arms": {
    "DIN": {"config": _DIN},
    "DIN with positions": {"set": (_UNIT,)},
    "TIN": {"set": ()},
    "TIN of the formula": {"set": ("model.variant=paper",)},
    "without TTE": {"set": ("model.encoding=none",)},
    "without TA": {"set": ("model.attention=mean",)},
    "without TR": {"set": (_WITHOUT_TR,)},
    "affine DIN": {"config": f"{_AFFINITY},model=din"},
    "affine DIN with positions": {"config": _AFFINITY, "set": (_UNIT,)},
    "affine TIN": {"config": _AFFINITY},
    "affine without TR": {"config": _AFFINITY, "set": (_WITHOUT_TR,)},
    "DIN on films": {"config": f"{_MOVIELENS},model=din", "set": ("model.normalize=softmax",)},
    "DIN with positions on films": {"config": _MOVIELENS, "set": (_UNIT,)},
    "TIN on films": {"config": _MOVIELENS},
    "TIN with gaps on films": {"config": _MOVIELENS, "set": ("model.encoding=gap",)},
    "TIN with both on films": {"config": _MOVIELENS, "set": ("model.encoding=both",)},
  },
  "claims": (
    {"name": "(a) TIN beats DIN, which knows no time", "world": "G-RECENCY", "metric": "auc",
     "better": "TIN", "worse": "DIN", "margin": 0.008},
    {"name": "(a) positions carry it", "world": "G-RECENCY", "metric": "auc",
     "better": "TIN", "worse": "without TTE", "margin": 0.02},
    {"name": "(a) and attention", "world": "G-RECENCY", "metric": "auc",
     "better": "TIN", "worse": "without TA", "margin": 0.03},
    {"name": "(b) products help where the truth is one", "world": "G-RECENCY-TR", "metric": "auc",
     "better": "affine TIN", "worse": "affine without TR", "margin": 0.0},
    {"name": "(c) TIN is no worse than DIN on real ratings", "world": "P-SMALL", "metric": "gauc",
     "better": "TIN on films", "worse": "DIN on films", "margin": 0.0},
    {"name": "(c) nor than DIN with positions", "world": "P-SMALL", "metric": "gauc",
     "better": "TIN on films", "worse": "DIN with positions on films", "margin": 0.0},
  ),
}
