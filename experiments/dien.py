"""Deep Interest Evolution Network (Zhou et al., AAAI 2019, arXiv 1809.03672) on planted clicks.

    python -m recjax.main --config=experiments/dien.py --workdir=runs/dien
    python -m recjax.main --config=experiments/dien.py:movielens --workdir=runs/dien_movielens

The first form is G-CHAIN: users walk along two cycles of items at once, and a click is on what comes
next in one of them; its Bayes AUC is .950. `:movielens` is protocol P-SMALL, as in
`experiments/din.py`. `:model=din` is the baseline with the same tower; `:tiny` needs no data and a
minute. Expected: see docs/results.md. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, movielens, model=dien|din."""
  arg = parse_arg(arg, tiny=False, movielens=False, model="dien")
  if arg.movielens:
    return movielens(arg)
  data = {"generator": "threads", "num_train": 5_000, "num_validation": 5_000, "num_test": 5_000}
  if arg.tiny:
    data = {"generator": "count", "num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
  return experiment(
    "dien",
    data={"name": "planted", **data},
    view={"name": "table"},
    model={"name": arg.model, "item_width": 16, "category_width": 16, "norm": "batch"},
    evaluate={"ctr": {}},
    train={
      "batch_size": 256,
      "epochs": 2.0 if arg.tiny else 12.0,
      "log_every": 20,
      "evaluate_every": 20,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
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


PROOF = {}
