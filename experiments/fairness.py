"""Fairness of lists: who is shown and who is served well, with and without re-ranking.

    python -m recjax.main --config=experiments/fairness.py --workdir=runs/fairness
    python -m recjax.main --config=experiments/fairness.py:rerank=borda --workdir=runs/borda

Trains SASRec (`experiments/sasrec.py`, as a stage) and measures its lists, as they are or re-ranked by
Borda, CombMNZ or GREEDY-beta: relevance, fairness of items and of users, distance to the frontier of the
two. Nothing is learned after the stage. `:data=NAME` takes another data set, `:tiny` made-up sequences.
`--mode=prove` compares it with popularity, item-kNN and the transition table.
"""

from recjax.config import experiment, parse_arg, read_config_file


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, core=K, rerank=borda|combmnz|greedy."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", core=0, rerank="")
  switches = (["tiny"] if arg.tiny else [f"data={arg.data}"]) + [f"core={arg.core}"]
  stage = f"experiments/sasrec.py:{','.join(switches)}"
  base = read_config_file(stage)
  return experiment(
    "fairness",
    data=base.data,
    view=base.view,
    model=base.model,
    evaluate={"list_fairness": {"rerank": arg.rerank}},
    # The stage is what is judged: one step that changes nothing.
    train={"batch_size": base.train.batch_size, "steps": 1, "evaluate_every": 0},
    optimizer={"learning_rate": 0.0},
    stages={"base": stage},
    initialize={"params": "base:params", "tables": "base:tables"},
    proof=PROOF,
  )


_COUNTED = {"popularity": "popularity", "item-kNN": "item_knn", "transition table": "transition"}
_RERANKED = {"SASRec, Borda": "borda", "SASRec, CombMNZ": "combmnz", "SASRec, GREEDY": "greedy"}
_JUDGED = "evaluate={'list_fairness': {}}"
_WORLD = {
  "arms": (*_COUNTED, "SASRec", *_RERANKED), "seeds": 3, "reference": "SASRec",
  "metrics": (
    "ndcg@10", "hr@10", "Jain_our", "QF_our", "Ent_our", "Gini_our", "FSat_our", "VoCD_ori", "II-D_ori",
    "IBO_our", "IAA_our", "PUF-NDCG", "SD-NDCG", "DPFR NDCG-Ent_our", "DPFR NDCG-Gini_our",
    "DPFR P-Ent_our", "average NDCG-Ent_our",
  ),
}


def _claims(world):
  """Statements about one world; `falls` names the measures that fall with fairness."""
  falls = ("Gini_our",)
  sides = lambda metric, fair, unfair: dict(
    zip(("better", "worse"), (unfair, fair) if metric in falls else (fair, unfair), strict=True)
  )
  return (
    *({"name": f"{world}: popularity shows items least evenly", "world": world, "metric": metric,
       **sides(metric, arm, "popularity")}
      for metric in ("Jain_our", "QF_our", "Ent_our", "Gini_our", "FSat_our")
      for arm in ("item-kNN", "transition table", "SASRec")),
    *({"name": f"{world}: re-ranking shows items more evenly", "world": world, "metric": metric,
       **sides(metric, arm, "SASRec")}
      for metric in ("Ent_our", "Gini_our") for arm in _RERANKED),
    *({"name": f"{world}: and costs relevance", "world": world, "metric": "ndcg@10",
       "better": "SASRec", "worse": arm} for arm in _RERANKED),
    *({"name": f"{world}: II-D is the same for all", "world": world, "metric": "II-D_ori",
       "better": better, "worse": worse, "margin": -1e-9}
      for better, worse in (("SASRec", "popularity"), ("popularity", "SASRec"))),
    {"name": f"{world}: users are served more equally by who serves them worse", "world": world,
     "metric": "PUF-NDCG", "better": "SASRec", "worse": "popularity"},
    {"name": f"{world}: which is less relevant", "world": world, "metric": "ndcg@10",
     "better": "SASRec", "worse": "popularity"},
    *({"name": f"{world}: the distance prefers re-ranked lists, unlike relevance", "world": world,
       "metric": "DPFR NDCG-Ent_our", "better": "SASRec", "worse": arm} for arm in _RERANKED),
  )


PROOF = {
  "title": "Relevance and fairness of lists, as models make them and re-ranked",
  "note": "Leave-one-out, full ranking of the whole catalogue, seen items left out, lists of 10. Gini, "
  "VoCD, II-D, IAA, PUF and SD are low where lists are fair, the others high; DPFR is the distance to "
  "the frontier of what the test allows, low is better. Re-rankers take 10 of SASRec's best 25, with the "
  "settings of DPFR's authors, and SASRec is trained once for each seed. That popularity is least fair, "
  "that re-ranking trades relevance for fairness and that PUF can prefer who serves people worse is "
  "known from lists of other models and another split of MovieLens 100K; the rest is ours.",
  "worlds": {
    name: {**_WORLD, "config": f"experiments/fairness.py:data={name}", "set": (f"data.name={name}",)}
    for name in ("movielens_100k", "ml_1m_sequences")
  },
  "arms": {
    **{arm: {"config": f"experiments/counts.py:kind={kind}", "set": (_JUDGED,)}
       for arm, kind in _COUNTED.items()},
    "SASRec": {},
    **{arm: {"set": (f"evaluate.list_fairness.rerank={name}",)} for arm, name in _RERANKED.items()},
  },
  "claims": (*_claims("movielens_100k"), *_claims("ml_1m_sequences")),
}
