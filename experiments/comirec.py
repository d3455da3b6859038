"""ComiRec on MovieLens 100K (Cen et al., KDD 2020, arXiv 2005.09347).

    python -m recjax.main --config=experiments/comirec.py --workdir=runs/comirec
    python -m recjax.main --config=experiments/comirec.py:extractor=dr --workdir=runs/comirec_dr

Leave-one-out, full ranking, the same protocol as experiments/sasrec.py. With
--config.split.name=user_disjoint --config.view.cuts=64 --config.view.shortest=4 users are held out
whole, as in the paper.
`:tiny` runs on made-up sequences without any download, in under a minute.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, extractor=sa|dr, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, extractor="sa", data="movielens_100k", core=0)
  return experiment(
    "comirec",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    view={"name": "prefixes", "length": 10 if arg.tiny else 50},
    model={
      "name": "comirec",
      "extractor": arg.extractor,
      "width": 32 if arg.tiny else 64,
      "negatives": 64 if arg.tiny else 1280,
    },
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if arg.tiny else 128,
      "steps": 400 if arg.tiny else 4000,
      "log_every": 100,
      "evaluate_every": 100 if arg.tiny else 200,
      "patience": 6,
    },
    optimizer={"learning_rate": 5e-3},
  )
