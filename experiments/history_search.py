"""SIM, ETA and TWIN on planted clicks with long histories.

    python -m recjax.main --config=experiments/history_search.py:search=twin --workdir=runs/twin

The planted clicks are those of `experiments/sdim.py`, G-LONG; its Bayes AUC is .911. `:search=NAME` is
one of none, mean, all, sim_hard, sim_soft, eta, twin. `:tiny` needs a minute. The proofs of
`experiments/sdim.py` and `experiments/ctr.py` compare them with others.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, search=NAME."""
  arg = parse_arg(arg, tiny=False, search="sim_hard")
  data = {"generator": "long", "num_train": 20_000, "num_validation": 6_000, "num_test": 6_000}
  if arg.tiny:
    data = {"generator": "count", "num_train": 4_000, "num_validation": 1_000, "num_test": 1_000}
  return experiment(
    "history_search",
    data={"name": "planted", **data},
    view={"name": "table"},
    model={
      "name": "history_search", "search": arg.search, "item_width": 16, "category_width": 16,
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
