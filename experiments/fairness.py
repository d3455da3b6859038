"""Fairness of lists: who is shown and who is served well, with and without re-ranking.

    python -m recjax.main --config=experiments/fairness.py --workdir=runs/fairness
    python -m recjax.main --config=experiments/fairness.py:rerank=borda --workdir=runs/borda

Trains SASRec (`experiments/sasrec.py`, as a stage) and measures its lists, as they are or re-ranked by
Borda, CombMNZ or GREEDY-beta: relevance, fairness of items and of users, distance to the frontier of
both. With `:rerank=din` DIN is a second stage, without categories, and orders what SASRec finds; in its
training nothing of a user's whole log is a negative of that user, as in `experiments/din.py`, so that
DIN is a little better off. Nothing is learned after the stages. `:data=NAME` takes another data set,
`:tiny` made-up sequences. `--mode=prove` compares all of these with popularity, item-kNN and the
transition table. Expected: see docs/results.md.
"""

from recjax.config import experiment, parse_arg, read_config_file


def get_config(arg=None):
  """The experiment; switches: tiny, data=NAME, rerank=borda|combmnz|greedy|din."""
  arg = parse_arg(arg, tiny=False, data="movielens_100k", rerank="")
  data = "planted" if arg.tiny else arg.data
  stages = {"sasrec": f"experiments/sasrec.py:{'tiny' if arg.tiny else f'data={data}'}"}
  base = read_config_file(stages["sasrec"])
  model, rerank = base.model, arg.rerank
  initialize = {"params": "sasrec:params", "tables": "sasrec:tables"}
  if arg.rerank == "din":
    stages["din"] = f"experiments/din.py:data={data},items_only"
    ranking = read_config_file(stages["din"]).model
    model, rerank = {"name": "two_stage", "retrieval": base.model, "ranking": ranking}, "model"
    initialize = {
      "params/retrieval": "sasrec:params", "tables/retrieval_item": "sasrec:tables/item",
      "params/ranking": "din:params", "tables/ranking_item": "din:tables/item",
      "tables/ranking_item_bias": "din:tables/item_bias", "batch_stats/ranking": "din:batch_stats",
    }
  return experiment(
    "fairness",
    data=base.data,
    view=base.view,
    model=model,
    evaluate={"list_fairness": {"rerank": rerank}},
    # The stages are what is judged: one step that changes nothing.
    train={"batch_size": base.train.batch_size, "steps": 1, "evaluate_every": 0},
    optimizer={"learning_rate": 0.0},
    stages=stages,
    initialize=initialize,
    proof=PROOF,
  )


_COUNTED = {"popularity": "popularity", "item-kNN": "item_knn", "transition table": "transition"}
_RERANKED = {"SASRec, Borda": "borda", "SASRec, CombMNZ": "combmnz", "SASRec, GREEDY": "greedy"}
_WORLDS = ("movielens_100k", "ml_1m_sequences")
_FALLS = ("Gini_our",)  # with fairness


def _fairer(metric, fair, unfair, **rest):
  """The claim that one arm is at least as fair as another."""
  better, worse = (unfair, fair) if metric in _FALLS else (fair, unfair)
  return {"metric": metric, "better": better, "worse": worse, **rest}


def _claims(world):
  """What is stated of one world."""
  stated = [
    *(
      _fairer(metric, arm, "popularity", name="popularity shows items least evenly")
      for metric in ("Jain_our", "QF_our", "Ent_our", "Gini_our", "FSat_our")
      for arm in ("item-kNN", "transition table", "SASRec")
    ),
    *(
      _fairer(metric, arm, "SASRec", name="re-ranking shows items more evenly")
      for metric in ("Ent_our", "Gini_our") for arm in _RERANKED
    ),
    *(
      {"name": "and costs relevance", "metric": "ndcg@10", "better": "SASRec", "worse": arm}
      for arm in ("SASRec, Borda", "SASRec, CombMNZ")
    ),
    {"name": "but hardly where little changes", "metric": "ndcg@10", "better": "SASRec, GREEDY",
     "worse": "SASRec", "relative": -0.05},
    *(
      {"name": "II-D does not move", "metric": "II-D_ori", "better": better, "worse": worse,
       "margin": -1e-9}
      for better, worse in (("SASRec", "popularity"), ("popularity", "SASRec"))
    ),
    {"name": "popularity serves people worse", "metric": "ndcg@10", "better": "SASRec",
     "worse": "popularity"},
    {"name": "and PUF is lower for it", "metric": "PUF-NDCG", "better": "SASRec",
     "worse": "popularity"},
    *(
      {"name": "unlike relevance, the distance prefers re-ranked lists", "metric": metric,
       "better": "SASRec", "worse": arm}
      for metric in ("DPFR NDCG-Gini_our", "DPFR P-Ent_our")
      for arm in ("SASRec, Borda", "SASRec, CombMNZ")
    ),
  ]
  return tuple({**claim, "world": world, "name": f"{world}: {claim['name']}"} for claim in stated)


PROOF = {
  "title": "Relevance and fairness of lists, as models make them and re-ranked",
  "note": "Leave-one-out, full ranking of the whole catalogue, seen items left out, lists of 10. Gini, "
  "VoCD, II-D, IAA, PUF and SD are low where lists are fair, the others high; DPFR is the distance to "
  "the frontier of what the test allows, low is better. Re-rankers take 10 of SASRec's best 25, with "
  "the settings of DPFR's authors; DIN orders the same 25 by its own scores. Each model is trained "
  "once for each seed. That popularity is least fair, that II-D does not move and that PUF can prefer "
  "who serves people worse is known from other models and another split of MovieLens 100K; what is "
  "stated of re-ranking and distances is ours, settled on a re-ranked transition table.",
  "worlds": {
    world: {
      "config": f"experiments/fairness.py:data={world}", "set": (f"data.name={world}",), "seeds": 3,
      "arms": (*_COUNTED, "SASRec", f"DIN-rerank, {world}", *_RERANKED), "reference": "SASRec",
      "metrics": (
        "ndcg@10", "hr@10", "Jain_our", "QF_our", "Ent_our", "Gini_our", "FSat_our", "VoCD_ori",
        "II-D_ori", "IBO_our", "IAA_our", "PUF-NDCG", "SD-NDCG", "DPFR NDCG-Ent_our",
        "DPFR NDCG-Gini_our", "DPFR P-Ent_our", "average NDCG-Ent_our",
      ),
    }
    for world in _WORLDS
  },
  "arms": {
    **{
      arm: {
        "config": f"experiments/counts.py:kind={kind}", "set": ("evaluate={'list_fairness': {}}",)
      }
      for arm, kind in _COUNTED.items()
    },
    "SASRec": {},
    # An arm's own file comes before its world's, so that each world has one.
    **{
      f"DIN-rerank, {world}": {"config": f"experiments/fairness.py:data={world},rerank=din"}
      for world in _WORLDS
    },
    **{arm: {"set": (f"evaluate.list_fairness.rerank={name}",)} for arm, name in _RERANKED.items()},
  },
  "claims": tuple(claim for world in _WORLDS for claim in _claims(world)),
}
