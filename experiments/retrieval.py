"""Every retrieval model of users and items under one budget, on three data sets.

    python -m recjax.main --config=experiments/retrieval.py:model=lightgcn --workdir=runs/lightgcn
    python -m recjax.main --mode=prove --config=experiments/retrieval.py

Leave-one-out, full ranking, seen items left out. The budget is the same for all: vectors of 64,
histories of 50, batches of 128 users or of 1,024 events (whichever a model's row is), up to 10,000
steps, a validation every 200 steps, and an end after ten validations without a better NDCG@10. Dropout
and the like are those of each model's own experiment. `:model=NAME` takes one of MODELS, `:data=NAME`
one of DATA, `:tiny` planted sequences; `--config.proof.run=movielens_100k` proves one world. Expected:
see docs/results.md.

The learning rate is the one setting that is chosen for each model and data set: the best validation
NDCG@10 of RATES on seed 100, which the comparison does not use. RATE holds them; as long as the comment
there says so, they are defaults that nobody has tuned. `:rate=R` gives another one:

    python -m recjax.main --config=experiments/retrieval.py:model=sasrec,rate=0.001 --config.seed=100

and so on for each model that learns, each rate and each data set, after which the validation part of
the report has the figure to choose by.
"""

from recjax.config import experiment, parse_arg
from recjax.errors import ConfigError
from recjax.registry import unknown

_USERS = {"name": "next_item", "length": 50}
_EVENTS = {"name": "prefixes", "length": 50}
_PAIRS = {**_EVENTS, "shortest": 0}  # the first event of a user is a pair, too
_COUNTED = {"name": "next_item", "length": 200}
_SAMPLED = {"loss": "sampled_softmax", "negatives": 1280}
# View, model.
MODELS = {
  "popularity": (_COUNTED, {"name": "counts", "kind": "popularity"}),
  "item_knn": (_COUNTED, {"name": "counts", "kind": "item_knn"}),
  "transition": (_COUNTED, {"name": "counts", "kind": "transition"}),
  "bpr_mf": (_PAIRS, {"name": "bpr_mf", "width": 64}),
  "lightgcn": (_PAIRS, {"name": "lightgcn", "width": 64}),
  "knn_embed": (_PAIRS, {"name": "knn_embed", "clusters": 50}),
  "sasrec": (_USERS, {"name": "sasrec", "width": 64, "heads": 1, "dropout": 0.3}),
  "gru4rec": (_USERS, {"name": "gru4rec", "width": 64, "dropout": 0.5}),
  "bert4rec": (_USERS, {"name": "bert4rec", "width": 64, "dropout": 0.2}),
  "mqsa_ted": (_USERS, {"name": "mqsa_ted", "width": 64, "groups": 8}),
  "idnp": (
    {"name": "interest_functions", "length": 50},
    {"name": "idnp", "width": 64, "targets": 8, "contexts_max": 20},
  ),
  "comirec_sa": (_EVENTS, {"name": "comirec", "extractor": "sa", "width": 64, **_SAMPLED}),
  "comirec_dr": (_EVENTS, {"name": "comirec", "extractor": "dr", "width": 64, **_SAMPLED}),
  "mind": (_EVENTS, {"name": "mind", "width": 64, **_SAMPLED}),
  "desmil": (_EVENTS, {"name": "desmil", "width": 64, "warmup_steps": 600, **_SAMPLED}),
  "hcn": (_EVENTS, {"name": "hcn", "width": 64, "short": 10, **_SAMPLED}),
}
DATA = {
  "movielens_100k": {"name": "movielens_100k"},
  "movietweetings_100k": {"name": "movietweetings_100k", "core": 5},
  "amazon14_beauty": {"name": "amazon14_beauty"},
}
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)
# Of each model, in the order of DATA. Not tuned yet: those of the models' own experiments, or near.
RATE = {
  "bpr_mf": (0.002, 0.002, 0.002),
  "lightgcn": (0.004, 0.004, 0.004),
  "sasrec": (0.002, 0.002, 0.002),
  "gru4rec": (0.008, 0.008, 0.008),
  "bert4rec": (0.002, 0.002, 0.002),
  "mqsa_ted": (0.002, 0.002, 0.002),
  "idnp": (0.002, 0.002, 0.002),
  "comirec_sa": (0.004, 0.004, 0.004),
  "comirec_dr": (0.004, 0.004, 0.004),
  "mind": (0.004, 0.004, 0.004),
  "desmil": (0.002, 0.002, 0.002),
  "hcn": (0.002, 0.002, 0.002),
}


def get_config(arg=None):
  """The experiment; switches: tiny, model=NAME, data=NAME, rate=R."""
  arg = parse_arg(arg, tiny=False, model="transition", data="movielens_100k", rate=0.0)
  if arg.model not in MODELS:
    raise ConfigError(unknown("model of this comparison", arg.model, MODELS))
  if arg.data not in DATA:
    raise ConfigError(unknown("data set of this comparison", arg.data, DATA))
  view, model = MODELS[arg.model]
  mixed = arg.model == "knn_embed"  # LightGCN's vectors: one step that changes nothing
  if mixed:
    model = {**model, "base": MODELS["lightgcn"][1]}
  rates = dict(zip(DATA, RATE.get(arg.model, (0.0,) * len(DATA)), strict=True))
  users = view is _USERS or view["name"] == "interest_functions"
  stage = f"experiments/retrieval.py:model=lightgcn,data={arg.data}" + (",tiny" if arg.tiny else "")
  steps = 400 if arg.tiny else 10_000
  return experiment(
    "retrieval",
    data={"name": "planted"} if arg.tiny else DATA[arg.data],
    view=view,
    model=model,
    evaluate={"full_ranking": {"cutoffs": (10, 20)}, "interests": {}},
    train={
      "batch_size": 128 if users else 1024,
      "steps": 1 if mixed else steps,
      "log_every": 100,
      "evaluate_every": 0 if mixed else 200,
      "patience": 0 if mixed else 10,
    },
    optimizer={"learning_rate": arg.rate or rates[arg.data], "clip_norm": 5.0},
    **({"stages": {"lightgcn": stage}, "initialize": {"tables": "lightgcn:tables"}} if mixed else {}),
    proof=PROOF,
  )


_LABELS = {
  "popularity": "popularity", "item_knn": "item-kNN", "transition": "transition table",
  "bpr_mf": "BPR-MF", "lightgcn": "LightGCN", "knn_embed": "kNN-Embed over LightGCN",
  "sasrec": "SASRec", "gru4rec": "GRU4Rec", "bert4rec": "BERT4Rec", "mqsa_ted": "MQSA-TED",
  "idnp": "IDNP", "comirec_sa": "ComiRec-SA", "comirec_dr": "ComiRec-DR", "mind": "MIND",
  "desmil": "DESMIL, after the abstracts", "hcn": "after HCN",
}
_METRICS = ("ndcg@10", "hr@10", "ndcg@20", "hr@20", "coverage@20")
_OF_CATEGORIES = (*_METRICS, "diversity@20", "interest_coverage")
_COUNTING = "transition table"
PROOF = {
  "title": "Retrieval models under one budget",
  "note": "Leave-one-out, full ranking, seen items left out; the variables with the best validation "
  "NDCG@10. Width, batches, steps, patience and the grid of learning rates are the same for all. "
  "Coverage is the share of items that stand in some list, diversity that of pairs of a list with "
  "different categories, and interest_coverage (several vectors a user) that of a history's usual "
  "categories that are nearest to some interest; the items of Beauty have no single category. What "
  "counts is fitted again with the validation events before the test; what learns is not.",
  "worlds": {
    data: {
      "arguments": f"data={data}", "seeds": 3, "arms": tuple(_LABELS.values()),
      "reference": _COUNTING, "metrics": _METRICS if data == "amazon14_beauty" else _OF_CATEGORIES,
    }
    for data in DATA
  },
  "arms": {
    label: {"config": f"experiments/retrieval.py:model={model}"} for model, label in _LABELS.items()
  },
  "claims": tuple(
    {"name": f"{data}: {name}", "world": data, "better": better, "worse": worse, **how}
    for data in DATA
    for name, better, worse, how in (
      ("order that is learned beats order that is counted", "SASRec", _COUNTING, {"metric": "ndcg@10"}),
      ("a graph beats popularity", "LightGCN", "popularity", {"metric": "ndcg@20", "relative": 0.1}),
      ("and is no worse than factors alone", "LightGCN", "BPR-MF", {"metric": "ndcg@20"}),
      ("several interests beat popularity", "ComiRec-SA", "popularity",
       {"metric": "hr@20", "relative": 0.1}),
    )
  ),
}
