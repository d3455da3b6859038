"""kNN-Embed (El-Kishky et al., PAKDD 2023, arXiv 2205.06205) over LightGCN's vectors.

    python -m recjax.main --config=experiments/knn_embed.py --workdir=runs/knn_embed

Trains LightGCN as a stage and takes its vectors: items fall into clusters, and a list of 50 is shared
out over the clusters that a user and the nearest users had most of. Few shots: 19 events of each user
train, the 20th is for validation, all later ones are the test; full ranking without what was seen.
Nothing is learned after the stage. `:single` ranks by the stage's own single query, `:data=NAME` takes
another data set (ml_1m_sequences), `:tiny` made-up sequences without any download, in under a minute.
`--mode=prove` compares the single query with mixtures that are smoothed and not. Planted worlds with a
known truth are in experiments/knn_embed_planted.py. Expected: see docs/results.md.
"""

from recjax.config import experiment, parse_arg, read_config_file


def get_config(arg=None):
  """The experiment; switches: tiny, single, data=NAME."""
  arg = parse_arg(arg, tiny=False, single=False, data="movielens_100k")
  stage = f"experiments/lightgcn.py:{'tiny' if arg.tiny else f'data={arg.data},shots=20'}"
  base = read_config_file(stage)
  mixture = {
    "name": "knn_embed", "base": base.model,
    **({"clusters": 12, "queries": 2, "neighbours": 5} if arg.tiny else {"clusters": 50}),
  }
  return experiment(
    "knn_embed",
    data=base.data,
    split=base.split,
    view=base.view,
    model=base.model if arg.single else mixture,
    evaluate={"full_ranking": {"cutoffs": (10, 20, 50), "spread": True}},
    # The stage is what is mixed: one step that changes nothing.
    train={
      "batch_size": base.train.batch_size, "steps": 1, "evaluate_every": 0,
      "select_metric": "recall@50",
    },
    optimizer={"learning_rate": 0.0},
    stages={"lightgcn": stage},
    initialize={"tables": "lightgcn:tables"},
    proof=PROOF,
  )


_SINGLE, _ALONE, _HALF = "single query", "mixture, not smoothed", "kNN-Embed, 50 % own"
_SET = {
  _ALONE: ("model.neighbours=0",),
  **{f"kNN-Embed, {own} % own": (f"model.own={own / 100}",) for own in (80, 50, 20)},
}
_WORLDS = ("movielens_100k", "ml_1m_sequences")


def _claims(world):
  return (
    {"world": world, "name": f"{world}: lists are wider", "metric": "spread@50", "better": _HALF,
     "worse": _SINGLE, "relative": 0.1},
    {"world": world, "name": f"{world}: and hold nearly as much", "metric": "recall@50",
     "better": _HALF, "worse": _SINGLE, "relative": -0.01},
  )


PROOF = {
  "title": "kNN-Embed over LightGCN: lists from several clusters",
  "note": "The first 19 events of a user train, the 20th chooses LightGCN's variables, all later ones "
  "are the test. spread is the mean of 1 - cosine over the pairs of a list, by LightGCN's vectors, "
  "which all arms share; it is trained once a seed. The paper's abstract states gains of recall and of "
  "diversity on three other data sets; the claims here are ours.",
  "worlds": {
    world: {
      "config": f"experiments/knn_embed.py:data={world}", "set": (f"data.name={world}",), "seeds": 3,
      "arms": (f"{_SINGLE}, {world}", *_SET), "reference": _HALF,
      "metrics": ("recall@10", "recall@20", "recall@50", "spread@50", "coverage@50"),
    }
    for world in _WORLDS
  },
  "arms": {
    # An arm's own file comes before its world's, so that each world has one.
    **{
      f"{_SINGLE}, {world}": {"config": f"experiments/knn_embed.py:single,data={world}"}
      for world in _WORLDS
    },
    **{arm: {"set": settings} for arm, settings in _SET.items()},
  },
  "claims": tuple(
    {**claim, "worse": f"{_SINGLE}, {world}"} for world in _WORLDS for claim in _claims(world)
  ),
}
