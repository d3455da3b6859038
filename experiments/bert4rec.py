"""BERT4Rec on MovieLens 100K (Sun et al., CIKM 2019, arXiv 1904.06690).

    python -m recjax.main --config=experiments/bert4rec.py --workdir=runs/bert4rec

Leave-one-out, full ranking, the same protocol as experiments/sasrec.py. A step predicts a fifth of the
items only, so it needs several times the steps of SASRec.
`:tiny` runs on made-up sequences without any download, in under a minute.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0)
  return experiment(
    "bert4rec",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    view={"name": "next_item", "length": 20 if arg.tiny else 50},
    model={"name": "bert4rec", "width": 32 if arg.tiny else 64, "dropout": 0.1 if arg.tiny else 0.2},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if arg.tiny else 128,
      "steps": 400 if arg.tiny else 4000,
      "log_every": 100,
      "evaluate_every": 100 if arg.tiny else 200,
      "patience": 6,
    },
    optimizer={"learning_rate": 4e-3 if arg.tiny else 2e-3, "warmup_steps": 100, "clip_norm": 5.0},
  )
