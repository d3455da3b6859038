"""LR, DNN, Wide & Deep, IPNN, DeepFM and DCN-V2 on planted clicks.

    python -m recjax.main --config=experiments/feature_interactions.py:kind=dcnv2 --workdir=runs/dcnv2

The planted clicks are G-COUNT: they grow with the number of behaviours in the target's category, which
none of these sees one by one. `:kind=NAME` is one of lr, dnn, wide_deep, ipnn, deepfm, dcnv2. `:tiny`
needs a minute. The proof of `experiments/ctr.py` compares them with others.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, kind=NAME."""
  arg = parse_arg(arg, tiny=False, kind="dnn")
  data = {"generator": "count", "num_train": 20_000, "num_validation": 6_000, "num_test": 6_000}
  if arg.tiny:
    data = {"generator": "count", "num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
  return experiment(
    "feature_interactions",
    data={"name": "planted", **data},
    view={"name": "table"},
    model={
      "name": "feature_interactions", "kind": arg.kind, "item_width": 16, "category_width": 16,
      "stddev": 0.3, "norm": "batch",
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
  )
