"""DiffuMIN (Lai et al., RecSys 2025, arXiv 2508.15311) on clicks with a planted truth."""

from recjax.config import experiment, parse_arg


def get_config(arg=None):
  """The experiment; switches: tiny, model=diffumin|din."""
  arg = parse_arg(arg, tiny=False, model="diffumin")
  sizes = {"num_train": 4_000, "num_validation": 1_000, "num_test": 1_000} if arg.tiny else {
    "num_train": 20_000, "num_validation": 5_000, "num_test": 5_000}
  return experiment(
    "diffumin",
    data={"name": "planted", "generator": "multi", **sizes},
    view={"name": "table"},
    model={"name": arg.model, "item_width": 0, "category_width": 8},
    evaluate={"ctr": {}},
    train={
      "batch_size": 512,
      "epochs": 2.0 if arg.tiny else 4.0,
      "log_every": 20,
      "evaluate_every": 40,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
  )
