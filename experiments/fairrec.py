"""FairRec (Wu et al., AAAI 2021, arXiv 2006.16742): rankings that do not tell a user's attribute.

    python -m recjax.main --config=experiments/fairrec.py --workdir=runs/fairrec

The default is a world with a planted truth: half of all clicks tell a user's group, the others follow a
taste of its own, so that what fairness costs can be told from what has to go. 2,000 users train, 500
others are the test: sessions of one click and four others, and probes of lists and user vectors.
`:movielens` takes MovieLens 100K with the users' gender instead; there `:counts=KIND` (popularity,
transition, item_knn) counts, and `:paper` has the network of the paper, over titles. `:tiny` runs in under
a minute.

`--mode=prove` compares the parts of the model in both worlds.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, movielens, paper, counts=KIND."""
  arg = parse_arg(arg, tiny=False, movielens=False, paper=False, counts="")
  if arg.movielens or arg.paper or arg.counts:
    return movielens(arg)
  return experiment(
    "fairrec",
    data={
      "name": "planted", "generator": "attributes", "shortest": 25, "longest": 25,
      "num_users": 900 if arg.tiny else 2750,
    },
    # 20 of 25 clicks are history.
    split={"name": "user_disjoint", "validation_users": 1 / 11, "test_users": 2 / 11},
    view={"name": "sessions", "length": 20, "newest": 5, "attribute": "group"},
    model={
      "name": "fairrec", "news": "vectors", "width": 24, "heads": 0, "query": 32, "user_output": True,
      "dropout": 0.0, "discriminator_hidden": 64, "discriminator_rate": 3e-3,
    },
    evaluate={
      "sessions": {"within": {"neutral": tuple(range(1, 11))}},
      "attribute_probe": {"states": ("bias_free", "bias_aware")},
    },
    # The last variables are kept: the best in validation would be the least fair.
    train={
      "batch_size": 200, "epochs": 3.0 if arg.tiny else 10.0, "log_every": 50, "evaluate_every": 0,
      "select_metric": "session_auc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 1.0},
    proof=PROOF,
  )


def movielens(arg):
  """MovieLens 100K, leave-one-out, with gender as the attribute."""
  model = {"name": "fairrec", "width": 64, "heads": 4, "query": 64, "discriminator_hidden": 64}
  if arg.paper:
    model = {"name": "fairrec", "news": "words"}
  if arg.counts:
    model = {"name": "counts", "kind": arg.counts}
  return experiment(
    "fairrec_movielens",
    data={"name": "movielens_100k"},
    view={
      "name": "sessions", "length": 50, "attribute": "gender", "words": 12 if arg.paper else 0,
    },
    model=model,
    evaluate={
      "full_ranking": {"cutoffs": (5, 10)},
      "sessions": {},
      "attribute_probe": {
        "features": "items",
        "states": () if arg.counts else ("bias_free", "bias_aware"),
      },
    },
    train={
      "batch_size": 30 if arg.paper else 256, "epochs": 5.0, "log_every": 200, "evaluate_every": 0,
    },
    optimizer={"learning_rate": 1e-4 if arg.paper else 1e-3, "clip_norm": 1.0},
  )


PROOF = {}
