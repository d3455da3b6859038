"""Baselines that count: popularity, last-item transition table, item-kNN.

    python -m recjax.main --config=experiments/counts.py:kind=transition --workdir=runs/transition

Expected on MovieLens 100K (leave-one-out, full ranking, NDCG@10): popularity 0.044, transition table
0.079; a few seconds each. `:tiny` runs on made-up sequences without any download.
"""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, kind=popularity|transition|item_knn, data=NAME, core=K."""
  arg = parse_arg(arg, tiny=False, kind="transition", data="movielens_100k", core=0)
  return experiment(
    "counts",
    data={"name": "planted" if arg.tiny else arg.data, "core": arg.core},
    # item-kNN adds up over a history; here it may be as long as histories get.
    view={"name": "next_item", "length": 200},
    model={"name": "counts", "kind": arg.kind},
    evaluate={"full_ranking": {}},
  )
