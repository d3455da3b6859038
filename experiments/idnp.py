"""IDNP (Du et al., WSDM 2023, arXiv 2208.04600) on MovieLens 1M, 20 events of each user.

    python -m recjax.main --config=experiments/idnp.py --workdir=runs/idnp

Few shots: a user's first 19 events are for training, the 20th is for validation, all later ones are the
test; full ranking over 3,416 items, without what the user has seen. Every validation shows one answer a
user, so ndcg@10 chooses the variables; the test has many, so both forms of NDCG are reported.
`:data=movietweetings_100k` and others with times use them; `:shots=K` takes other histories. One run
takes about five minutes of CPU time, one of `:planted` about two. Expected: see docs/results.md.

`:tuned` takes the settings that were best in validation on seed 100, of a few: items that score as they
encode, no user table, width 64, windows of 10; it takes about twelve minutes of CPU time.

`:planted` learns interests that move with time, for each user at another velocity: what comes next is
told by several earlier sessions together, and by the last one hardly. `:tiny` runs on made-up sequences
in under a minute. `--mode=prove` compares the parts of the model in both worlds.
"""

from recjax.config import experiment, parse_arg

# Validation NDCG@10 of seed 100 was .137 with dropout .5, .145 without the user table, .149 with items
# that score as they encode besides, .165 with width 64 and .169 with windows of 10.
_TUNED = {"width": 64, "window": 10, "user_embedding": "zero", "output": "items"}


def get_config(arg=None):
  """The experiment; switches: tiny, planted, tuned, data=NAME, shots=K."""
  arg = parse_arg(arg, tiny=False, planted=False, tuned=False, data="ml_1m_sequences", shots=20)
  if arg.planted:
    return planted()
  length = 20 if arg.tiny else arg.shots
  return experiment(
    "idnp",
    data={"name": "planted" if arg.tiny else arg.data},
    split={"name": "leave_one_out" if arg.tiny else "few_shot", "shots": arg.shots},
    view={"name": "interest_functions", "length": length},
    model={
      "name": "idnp", "width": 32, "latent_width": 16, "targets": 8, "contexts_max": length - 1,
      **(_TUNED if arg.tuned else {}),
    },
    evaluate={"full_ranking": {"ideal": "relevant" if arg.tiny else "both", "cutoffs": (1, 5, 10, 20)}},
    train={
      "batch_size": 64 if arg.tiny else 256,
      "steps": 200 if arg.tiny else 960 if arg.tuned else 720,  # of 24 an epoch
      "log_every": 50 if arg.tiny else 24,
      "evaluate_every": 50 if arg.tiny else 48,
      "patience": 0 if arg.tiny else 4,
    },
    optimizer={"learning_rate": 1e-2 if arg.tiny else 3e-3, "clip_norm": 5.0},
    proof=PROOF,
  )


def planted():
  """Interests that move: 8 topics of 8 items; the first item of the sixth session is asked for."""
  return experiment(
    "idnp_planted",
    data={"name": "planted", "generator": "interest_functions", "num_users": 200_000},
    # 20 of 21 events are history.
    split={
      "name": "user_disjoint", "validation_users": 0.01, "test_users": 0.02, "history_share": 0.96,
    },
    # Only the first items of sessions are asked for: the others are told by the ones before them.
    view={"name": "interest_functions", "length": 21, "unit": 1e6, "pause": 1000},
    model={
      "name": "idnp", "width": 32, "window": 4, "dilations": (1,), "contexts_max": 20,
      "least_before": 8, "user_embedding": "zero", "dropout": 0.0,
    },
    # People come back to items here, and a list of 8 can hold a whole topic.
    evaluate={"full_ranking": {"cutoffs": (1, 8), "keep_seen": True, "beyond_accuracy": False}},
    train={
      "batch_size": 128, "steps": 1000, "log_every": 100, "evaluate_every": 250,
      "select_metric": "hr@8",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0, "schedule": "cosine"},
  )


_ENCODER = ("model.deterministic=False", "model.latent=False")
_PARTS = ("encoder only", "deterministic path", "latent path", "IDNP")
_MOVING = {"config": "experiments/idnp.py:planted", "metrics": ("hr@8", "ndcg@8"), "reference": "IDNP"}
_FEW = (
  "data.name=ml_1m_sequences", "split.name=few_shot", "split.shots=20",
  "evaluate.full_ranking.ideal=both", "evaluate.full_ranking.cutoffs=(1, 5, 10)",
)
PROOF = {
  "title": "IDNP and its parts, where interests move and on 20 events a user",
  "note": "Interests that move have a known truth: from the last session alone nobody can hit more "
  "than .30 of what comes next in a list of 8, from all five .84. MovieLens 1M: the first 19 events of "
  "a user train, the 20th chooses the variables, all later ones are the test, and ndcg_retrieved takes "
  "the hits of the list itself as the ideal. What counts is fitted again with the 20th event before "
  "the test. For this protocol, as far as it is known, summaries of the paper by others quote "
  "precision@10 .3722, recall@10 .0424 and NDCG .6499 (probably ndcg_retrieved).",
  "worlds": {
    "interests that move": {**_MOVING, "seeds": 3, "arms": _PARTS},
    "interests that move, switches": {
      **_MOVING, "seeds": 1,
      "arms": (
        "IDNP", "posterior, W2", "posterior, KL", "absolute times", "no times", "random split",
      ),
    },
    "ml_1m, 20 events a user": {
      "config": "experiments/idnp.py", "seeds": 3, "reference": "IDNP", "set": _FEW,
      "metrics": ("precision@10", "hr@10", "recall@10", "ndcg@10", "ndcg_retrieved@10"),
      "arms": (
        "popularity", "transition table", "SASRec", "plain CNN", "encoder only",
        "deterministic path", "IDNP", "random split", "IDNP, tuned",
      ),
    },
  },
  "arms": {
    "popularity": {"config": "experiments/counts.py:kind=popularity"},
    "transition table": {"config": "experiments/counts.py:kind=transition"},
    "SASRec": {"config": "experiments/sasrec.py"},
    "plain CNN": {"set": (*_ENCODER, "model.dilated=False", "model.attention=False")},
    "encoder only": {"set": _ENCODER},
    "deterministic path": {"set": ("model.latent=False",)},
    "latent path": {"set": ("model.deterministic=False",)},
    "IDNP": {},
    "posterior, W2": {"set": ("model.latent_source=posterior",)},
    "posterior, KL": {
      "set": (
        "model.latent_source=posterior", "model.distance=kl", "model.distance_weight=1.0",
        "model.warmup_rows=0",
      )
    },
    "absolute times": {"set": ("model.time=absolute",)},
    "no times": {"set": ("model.time=none",)},
    "random split": {"set": ("model.causal=False",)},
    "IDNP, tuned": {"config": "experiments/idnp.py:tuned"},
  },
  "claims": (
    {"name": "(A) a few observations tell the function", "world": "interests that move",
     "metric": "hr@8", "better": "IDNP", "at_least": 0.5},
    {"name": "(A) which the last session does not", "world": "interests that move",
     "metric": "hr@8", "better": "IDNP", "worse": "encoder only", "margin": 0.15},
    {"name": "(A) both paths are no worse than the deterministic one", "world": "interests that move",
     "metric": "hr@8", "better": "IDNP", "worse": "deterministic path", "margin": -0.01},
    {"name": "(A) nor than the latent one", "world": "interests that move",
     "metric": "hr@8", "better": "IDNP", "worse": "latent path", "margin": -0.01},
    {"name": "(B) the process adds to a plain encoder", "world": "ml_1m, 20 events a user",
     "metric": "ndcg_retrieved@10", "better": "IDNP", "worse": "plain CNN", "relative": 0.05},
    {"name": "(B) and is more precise than popularity", "world": "ml_1m, 20 events a user",
     "metric": "precision@10", "better": "IDNP", "worse": "popularity"},
    {"name": "(B) tuned in validation, it is", "world": "ml_1m, 20 events a user",
     "metric": "precision@10", "better": "IDNP, tuned", "worse": "popularity"},
  ),
}
