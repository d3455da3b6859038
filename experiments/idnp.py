from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, planted, data=NAME, shots=K."""
  arg = parse_arg(arg, tiny=False, planted=False, data="ml_1m_sequences", shots=20)
  if arg.planted:
    return planted()
  return experiment(
    "idnp",
    data={"name": arg.data},
    split={"name": "few_shot", "shots": arg.shots},
    view={"name": "interest_functions", "length": arg.shots},
    model={"name": "idnp", "width": 32, "targets": 8, "contexts_max": arg.shots - 1},
    evaluate={"full_ranking": {"ideal": "both", "cutoffs": (1, 5, 10)}},
    train={
      "batch_size": 256, "steps": 24 * 15, "log_every": 24, "evaluate_every": 48,
      "select_metric": "ndcg@10", "patience": 6,
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
  )


def planted():
  return experiment(
    "idnp_planted",
    data={"name": "planted", "generator": "interest_functions", "num_users": 200_000},
    split={
      "name": "user_disjoint", "validation_users": 0.01, "test_users": 0.02, "history_share": 0.96,
    },
    view={"name": "interest_functions", "length": 21, "unit": 1e6, "pause": 1000},
    model={
      "name": "idnp", "width": 32, "window": 4, "dilations": (1,), "contexts_max": 20,
      "least_before": 8, "user_embedding": "zero", "dropout": 0.0, "latent_width": 32,
    },
    evaluate={"full_ranking": {"cutoffs": (1, 8), "keep_seen": True, "beyond_accuracy": False}},
    train={
      "batch_size": 128, "steps": 3000, "log_every": 200, "evaluate_every": 600,
      "select_metric": "hr@8",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0, "schedule": "cosine"},
  )
