"""QIN (Li et al., WWW 2025 workshop, arXiv 2504.17699) on planted clicks, with and without vectors.

    python -m recjax.main --config=experiments/qin.py --workdir=runs/qin
    python -m recjax.main --config=experiments/qin.py:vectors --workdir=runs/qin_vectors

The first form is G-COUNT: clicks grow with the number of behaviours in the target's category; its Bayes
AUC is .883. `:long` is G-LONG, the same among 100 behaviours, .911. `:vectors` is G-MM, .860: 20,032
items without categories, which vectors tell. `:movielens` is protocol P-SMALL, as in
`experiments/din.py`. `:paper,data=NAME` has the settings of the best released run, on exposures, less
its vectors and levels. `:tiny` needs no data and a minute. Expected: see docs/results.md.
`--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg

_WORLDS = {"long": ("long", 20_000, 6_000), "vectors": ("vectors", 16_000, 5_000)}


def get_config(arg=None):
  """The experiment; switches: tiny, long, vectors, movielens, paper, data=NAME."""
  arg = parse_arg(
    arg, tiny=False, long=False, vectors=False, movielens=False, paper=False, data="kuairand_pure_part"
  )
  if arg.paper:
    return paper(arg)
  if arg.movielens:
    return movielens()
  generator, train, held = next(
    (_WORLDS[name] for name in _WORLDS if getattr(arg, name)), ("count", 40_000, 10_000)
  )
  if arg.tiny:
    train, held = 4_000, 1_000
  sizes = {"num_train": train, "num_validation": held, "num_test": held}
  widths = {"category_width": 0, "vector_width": 16} if arg.vectors else {"category_width": 16}
  return experiment(
    "qin",
    data={"name": "planted", "generator": generator, **sizes},
    view={"name": "table"},
    model={"name": "qin", "item_width": 16, **widths, "stddev": 0.3, "layers": 1},
    evaluate={"ctr": {"batch_size": 1024}},
    train={
      "batch_size": 64 if arg.vectors else 256,
      # Vectors of items that are hardly met again are learned by heart in a second epoch.
      "epochs": 1.0 if arg.vectors and not arg.tiny else 4.0,
      "log_every": 20,
      "evaluate_every": 20,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 1e-2 if arg.vectors else 3e-3, "clip_norm": 10.0},
    proof=PROOF,
  )


def movielens():
  """Every rating is a behaviour; one positive against 99 uniform negatives."""
  return experiment(
    "qin_movielens",
    data={"name": "movielens_100k"},
    view={"name": "ctr"},
    model={"name": "qin", "item_width": 16, "category_width": 16, "layers": 1},
    evaluate={"ctr": {"batch_size": 512}},
    train={
      "batch_size": 512,
      "epochs": 2.0,
      "log_every": 200,
      "evaluate_every": 400,
      "patience": 3,
      "select_metric": "gauc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 10.0},
  )


def paper(arg):
  """Settings of the best released run, on exposures cut in time."""
  return experiment(
    "qin_paper",
    data={"name": arg.data},
    split={"name": "global_time"},
    view={"name": "exposures"},
    model={
      "name": "qin", "item_width": 128, "category_width": 128, "stddev": 1e-4, "layers": 4, "rows": 4,
      "dropout": 0.1, "decay": 2e-4,
    },
    evaluate={"ctr": {}},
    train={
      "batch_size": 8192,
      "epochs": 100.0,
      "evaluate_every": 440,
      "patience": 8,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 2e-3, "clip_norm": 10.0},
  )


_LONG = "experiments/qin.py:long"
_VECTORS = "experiments/qin.py:vectors"
_MOVIELENS = "experiments/qin.py:movielens"
_SOFTMAX, _MLP = "model.attention=softmax", "model.tower=mlp"
PROOF = {
  "title": "QIN: attention that is cut off, quadratic layers, vectors",
  "note": "In G-COUNT and G-LONG clicks grow with the number of behaviours in the target's category, "
  "among 20 and among 100. In G-MM categories are hidden and items have vectors around their "
  "category's centre. P-SMALL is MovieLens 100K with one positive against 99 uniform negatives. Arms "
  "of a world share widths, optimizer and budget.",
  "worlds": {
    "G-COUNT": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "QIN",
      "arms": ("QIN", "softmax", "without residual", "MLP", "four rows", "two layers"),
    },
    "G-LONG": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "long QIN",
      "arms": ("long QIN", "long softmax"),
    },
    "G-MM": {
      "seeds": 3, "metrics": ("auc", "logloss"), "reference": "QIN with vectors",
      "arms": ("QIN with vectors", "QIN without vectors"),
    },
    "P-SMALL": {
      "seeds": 5, "metrics": ("gauc", "auc", "logloss"), "reference": "QIN on films",
      "arms": ("QIN on films", "softmax on films", "MLP on films"),
    },
  },
  "arms": {
    "QIN": {"set": ()},
    "softmax": {"set": (_SOFTMAX,)},
    "without residual": {"set": ("model.residual=False",)},
    "MLP": {"set": (_MLP,)},
    "four rows": {"set": ("model.rows=4", "model.dropout=0.1")},
    "two layers": {"set": ("model.layers=2",)},
    "long QIN": {"config": _LONG},
    "long softmax": {"config": _LONG, "set": (_SOFTMAX,)},
    "QIN with vectors": {"config": _VECTORS},
    "QIN without vectors": {"config": _VECTORS, "set": ("model.vector_width=0",)},
    "QIN on films": {"config": _MOVIELENS},
    "softmax on films": {"config": _MOVIELENS, "set": (_SOFTMAX,)},
    "MLP on films": {"config": _MOVIELENS, "set": (_MLP,)},
  },
  "claims": (
    {"name": "(b) what adds up beats a mean where counts matter", "world": "G-COUNT", "metric": "auc",
     "better": "QIN", "worse": "softmax", "margin": 0.005},
    {"name": "(b) also among 100", "world": "G-LONG", "metric": "auc",
     "better": "long QIN", "worse": "long softmax", "margin": 0.005},
    {"name": "(c) vectors tell what ids cannot", "world": "G-MM", "metric": "auc",
     "better": "QIN with vectors", "worse": "QIN without vectors", "margin": 0.1},
  ),
}
