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


PROOF = {}
