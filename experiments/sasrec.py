"""SASRec with full softmax on MovieLens 100K (Kang & McAuley, ICDM 2018, arXiv 1808.09781).

    python -m recjax.main --config=experiments/sasrec.py --workdir=runs/sasrec

Leave-one-out, full ranking over 1,682 items, seen items left out. Expected: test NDCG@10 of about 0.12
(last-item transition table: 0.079), in under three minutes on two CPU cores. Learning rate (0.001 to
0.004), dropout (0.2 to 0.5) and heads (1, 2) are the best of 14 settings on the validation part with
seed 100, which no proof uses; GRU4Rec's were chosen the same way from 16, in as many steps.
`:tiny` runs on made-up sequences, without any download, in under a minute; `:data=NAME` takes another
data set. `--mode=prove` compares it with popularity, transition table, item-kNN and GRU4Rec.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0)
  return experiment(
    "sasrec",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    view={"name": "next_item", "length": 20 if arg.tiny else 50},
    model={"name": "sasrec", "width": 32 if arg.tiny else 64, "heads": 1, "dropout": 0.3},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if arg.tiny else 128,
      "steps": 200 if arg.tiny else 1000,
      "log_every": 50,
      "evaluate_every": 50,
      "patience": 6,
    },
    optimizer={"learning_rate": 2e-3},
    proof=PROOF,
  )


_ARMS = ("popularity", "item-kNN", "transition table", "GRU4Rec", "SASRec")
_WORLD = {
  "arms": _ARMS, "seeds": 5, "metrics": ("ndcg@10", "hr@10"), "reference": "SASRec",
}
PROOF = {
  "title": "SASRec against GRU4Rec and what counting alone gives",
  "note": "Leave-one-out, full ranking, seen items left out. What counts is fitted again with the "
  "validation events before the test; what learns is not.",
  "worlds": {
    "movielens_100k": {**_WORLD, "set": ("data.name=movielens_100k",)},
    "movietweetings_100k": {**_WORLD, "set": ("data.name=movietweetings_100k", "data.core=5")},
  },
  "arms": {
    "popularity": {"config": "experiments/counts.py:kind=popularity"},
    "item-kNN": {"config": "experiments/counts.py:kind=item_knn"},
    "transition table": {"config": "experiments/counts.py:kind=transition"},
    "GRU4Rec": {"config": "experiments/gru4rec.py"},
    "SASRec": {},
  },
  "claims": (
    {"name": "SASRec is a good recommender", "world": "movielens_100k", "metric": "ndcg@10",
     "better": "SASRec", "at_least": 0.095},
    {"name": "and beats the transition table", "world": "movielens_100k", "metric": "ndcg@10",
     "better": "SASRec", "worse": "transition table"},
    {"name": "also elsewhere", "world": "movietweetings_100k", "metric": "ndcg@10",
     "better": "SASRec", "worse": "transition table"},
  ),
}
