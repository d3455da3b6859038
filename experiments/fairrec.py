"""FairRec (Wu et al., AAAI 2021, arXiv 2006.16742): rankings that do not tell a user's attribute.

    python -m recjax.main --config=experiments/fairrec.py --workdir=runs/fairrec

The default is a world with a planted truth: half of all clicks tell a user's group, the others follow a
taste of its own, so that what fairness costs can be told from what has to go. 2,000 users train, 500
others are the test: sessions of one click and four others, and probes of lists and user vectors.
`:movielens` takes MovieLens 100K with the users' gender instead; there `:counts=KIND` (popularity,
transition, item_knn) counts, and `:paper` has the network of the paper, over titles. `:tiny` takes less
than a minute.

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
      "batch_size": 200, "epochs": 12.0 if arg.tiny else 10.0, "log_every": 50, "evaluate_every": 0,
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
        "features": "items", "states": ("bias_free", "bias_aware"),
      },
    },
    train={
      "batch_size": 30 if arg.paper else 256, "epochs": 5.0, "log_every": 200, "evaluate_every": 0,
    },
    optimizer={"learning_rate": 1e-4 if arg.paper else 1e-3, "clip_norm": 1.0},
  )


_STATES = ("probe_auc_bias_free", "probe_auc_bias_aware", "abs_cosine_bias_free_bias_aware")
_PARTS = ("plain", "FairRec", "no orthogonality", "no attribute prediction", "no adversary")
_PLANTED, _REAL = "planted groups", "movielens_100k, gender"
PROOF = {
  "title": "FairRec and its parts: lists that do not tell who the user is",
  "note": "Probes are logistic regressions fitted afterwards, in five folds over test users: on the "
  "categories (planted groups) or items (MovieLens) of the top 10, and on user vectors; an AUC of .5 "
  "is chance. In the planted world half of all clicks tell the group and have to go, so that the AUC "
  "among neutral categories is what fairness costs. plain is the same network with one user vector and "
  "no fairness, on MovieLens an NRMS over items. The last variables are evaluated, not the best: those "
  "would be the least fair. What counts is fitted again with the validation events before the test.",
  "worlds": {
    _PLANTED: {
      "config": "experiments/fairrec.py", "seeds": 5, "reference": "plain",
      "metrics": ("session_auc", "session_auc neutral", "probe_auc_list", "probe_f1_list", *_STATES),
      "arms": (*_PARTS, "adversary alone", "gradient reversal"),
    },
    _REAL: {
      "config": "experiments/fairrec.py:movielens", "seeds": 5, "reference": "plain",
      "metrics": ("ndcg@10", "session_auc", "probe_auc_list", "probe_f1_list", *_STATES),
      "arms": ("popularity", "item-kNN", "transition table", "plain", "FairRec", "adversary alone"),
    },
  },
  "arms": {
    "popularity": {"config": "experiments/fairrec.py:counts=popularity"},
    "item-kNN": {"config": "experiments/fairrec.py:counts=item_knn"},
    "transition table": {"config": "experiments/fairrec.py:counts=transition"},
    "plain": {"set": ("model.bias_aware=False", "model.lambda_adversary=0.0")},
    "FairRec": {},
    "no orthogonality": {"set": ("model.lambda_orthogonal=0.0",)},
    "no attribute prediction": {"set": ("model.lambda_predict=0.0",)},
    "no adversary": {"set": ("model.lambda_adversary=0.0",)},
    "adversary alone": {"set": ("model.bias_aware=False",)},
    "gradient reversal": {"set": ("model.adversary=reversal",)},
  },
  "claims": (
    {"name": "(1) the top 10 tell less of the group", "world": _PLANTED, "metric": "probe_auc_list",
     "better": "plain", "worse": "FairRec", "margin": 0.15},
    {"name": "(2) the bias-free vector tells less", "world": _PLANTED, "metric": "probe_auc_bias_free",
     "better": "plain", "worse": "FairRec", "margin": 0.10},
    {"name": "(3) the bias-aware vector tells it", "world": _PLANTED, "metric": "probe_auc_bias_aware",
     "better": "FairRec", "at_least": 0.95},
    {"name": "(4) among neutral categories little is lost", "world": _PLANTED,
     "metric": "session_auc neutral", "better": "FairRec", "worse": "plain", "margin": -0.10},
    {"name": "(5) both vectors are orthogonal", "world": _PLANTED,
     "metric": "abs_cosine_bias_free_bias_aware", "better": "FairRec", "at_most": 0.05},
    {"name": "(5) because they are made so: without, three times as much", "world": _PLANTED,
     "metric": "abs_cosine_bias_free_bias_aware", "better": "no orthogonality", "worse": "FairRec",
     "relative": 2.0},
    {"name": "(6) lists of films tell less of the gender", "world": _REAL, "metric": "probe_auc_list",
     "better": "plain", "worse": "FairRec", "margin": 0.03},
    {"name": "(6) and please nearly as much", "world": _REAL, "metric": "ndcg@10",
     "better": "FairRec", "worse": "plain", "relative": -0.10},
  ),
}
