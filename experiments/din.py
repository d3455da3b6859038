"""Deep Interest Network (Zhou et al., KDD 2018, arXiv 1706.06978) on MovieLens 100K.

    python -m recjax.main --config=experiments/din.py --workdir=runs/din

Protocol P-SMALL: every rating is a behaviour; 4 uniform unseen negatives per positive in training, one
positive against 99 in validation and test; GAUC is the mean share of the 99 that are beaten. A minute
or two on two CPU cores. Expected: see docs/results.md.

`:count` and `:recency` train on clicks with a planted truth instead (G-COUNT, G-RECENCY), `:tiny` on few of
them. `:pool=mean` is the paper's base model. `--mode=prove` checks the paper's claims on both.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, count, recency, pool=din|mean."""
  arg = parse_arg(arg, tiny=False, count=False, recency=False, pool="din")
  if arg.tiny or arg.count or arg.recency:
    return planted(arg)
  return experiment(
    "din",
    data={"name": "movielens_100k"},
    view={"name": "ctr"},
    model={"name": "din", "pool": arg.pool},
    evaluate={"ctr": {}},
    train={
      "batch_size": 512,
      "epochs": 6.0,
      "log_every": 200,
      "evaluate_every": 400,
      "patience": 4,
      "select_metric": "gauc",
    },
    optimizer={"clip_norm": 5.0},
    proof=PROOF,
  )


def planted(arg):
  """Clicks that grow with the number of behaviours in the target's category."""
  sizes = {"num_train": 4_000, "num_validation": 1_000, "num_test": 1_000} if arg.tiny else {}
  return experiment(
    "din_planted",
    data={"name": "planted", "generator": "recency" if arg.recency else "count", **sizes},
    view={"name": "table"},
    model={"name": "din", "pool": arg.pool, "item_width": 8, "category_width": 8},
    evaluate={"ctr": {}},
    train={
      "batch_size": 512,
      "epochs": 2.0 if arg.tiny else 4.0,
      "log_every": 50,
      "evaluate_every": 50,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
  )


PROOF = {}
