"""LightGCN on MovieLens 100K (He et al., SIGIR 2020, arXiv 2002.02126).

    python -m recjax.main --config=experiments/lightgcn.py --workdir=runs/lightgcn

Leave-one-out, full ranking, the same protocol as experiments/sasrec.py; what a user did last does not
count more than the rest. `:tiny` runs on made-up sequences without any download, in under a minute.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K, shots=K: few_shot instead."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0, shots=0)
  # Along a chain without jumps, who had what tells where on it somebody is.
  data = {"name": "planted", "noise": 0.0} if arg.tiny else {"name": arg.data, "core": arg.core}
  return experiment(
    "lightgcn",
    data=data,
    split={"name": "few_shot", "shots": arg.shots} if arg.shots else {"name": "leave_one_out"},
    view={"name": "prefixes", "length": 20 if arg.tiny else 50, "shortest": 0},
    model={"name": "lightgcn", "width": 32 if arg.tiny else 64},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 256 if arg.tiny else 2048,
      "steps": 300 if arg.tiny else 2000,
      "log_every": 100,
      "evaluate_every": 100,
      "patience": 6,
    },
    optimizer={"learning_rate": 1e-2 if arg.tiny else 5e-3},
  )
