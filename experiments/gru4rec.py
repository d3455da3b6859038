"""GRU4Rec with full softmax on MovieLens 100K (Hidasi et al., ICLR 2016, arXiv 1511.06939).

    python -m recjax.main --config=experiments/gru4rec.py --workdir=runs/gru4rec

Leave-one-out, full ranking, the same protocol as experiments/sasrec.py, whose proof it belongs to.
Learning rate (0.001 to 0.016) and dropout (0.1 to 0.6) are the best of 16 settings on the validation
part with seed 100, which no proof uses.
`:tiny` runs on made-up sequences without any download, in under a minute.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0)
  return experiment(
    "gru4rec",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    view={"name": "next_item", "length": 20 if arg.tiny else 50},
    model={"name": "gru4rec", "width": 32 if arg.tiny else 64, "dropout": 0.5},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if arg.tiny else 128,
      "steps": 200 if arg.tiny else 1000,
      "log_every": 50,
      "evaluate_every": 50,
      "patience": 6,
    },
    optimizer={"learning_rate": 8e-3},
  )
