"""MIND on MovieLens 100K (Li et al., CIKM 2019, arXiv 1904.08030).

    python -m recjax.main --config=experiments/mind.py --workdir=runs/mind

Leave-one-out, full ranking, the same protocol as experiments/sasrec.py.
`:tiny` runs on made-up sequences without any download, in under a minute.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0)
  return experiment(
    "mind",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    view={"name": "prefixes", "length": 10 if arg.tiny else 50},
    model={
      "name": "mind",
      "width": 32 if arg.tiny else 64,
      "negatives": 64 if arg.tiny else 1280,
    },
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if arg.tiny else 128,
      "steps": 600 if arg.tiny else 4000,
      "log_every": 100,
      "evaluate_every": 100 if arg.tiny else 200,
      "patience": 6,
    },
    optimizer={"learning_rate": 5e-3},
  )
