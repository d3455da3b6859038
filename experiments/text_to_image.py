"""A small text-to-image network, trained from nothing: the base that `experiments/ppd.py` builds on.

    python -m recjax.main --config=experiments/text_to_image.py --workdir=runs/text_to_image

Planted latents by default, in a few minutes on two CPU cores; `:data=pictures` are made-up shapes,
`:data=emoji` Twemoji pictures below the data root; `:tiny` takes seconds. The value `explained` is the
share of the noise that the network tells, over all times.
"""

from recjax.config import experiment, parse_arg

HOSTS = {
  "latents": {"name": "small", "width": 64, "blocks": 3, "heads": 4},
  "pictures": {"name": "small", "width": 96, "blocks": 3, "heads": 4, "patch": 4},
  "emoji": {"name": "small", "width": 128, "blocks": 4, "heads": 4, "patch": 4},
}
# Kinds with several colours each.
EMOJI = {
  "column": "subcategory",
  "only": (
    "heart", "geometric", "food-fruit", "food-vegetable", "plant-flower", "face-smiling", "clothing",
  ),
}
TINY = {"name": "small", "width": 32, "blocks": 1, "heads": 2}
TINY_DATA = {"train_users": 24, "unseen_users": 8, "validation_users": 4, "pairs": 40}


def get_config(arg=None):
  """The experiment; switches: tiny, data=latents|pictures|emoji, rewards=K, world=SEED."""
  arg = parse_arg(arg, tiny=False, data="latents", rewards=0, world=0)
  planted = EMOJI if arg.data == "emoji" else {"generator": arg.data}
  pairs = {"rewards": arg.rewards, "pairs": 20_000} if arg.rewards else {}
  return experiment(
    "text_to_image",
    data={
      "name": "emoji" if arg.data == "emoji" else "tastes",
      "seed": arg.world, **planted, **pairs, **(TINY_DATA if arg.tiny else {}),
    },
    view={"name": "samples", "mirror": arg.data != "latents"},
    model={"name": "text_to_image", "host": TINY if arg.tiny else HOSTS[arg.data]},
    evaluate={"denoising": {}},
    train={
      "batch_size": 256 if arg.data == "latents" else 64,
      "steps": 150 if arg.tiny else {"latents": 2000, "pictures": 2000, "emoji": 5000}[arg.data],
      "log_every": 50 if arg.tiny else 100,
      "evaluate_every": 0,
      "select_metric": "explained",
    },
    optimizer={
      "name": "adamw",
      "learning_rate": 4e-3 if arg.tiny else 2e-3 if arg.data == "latents" else 1e-3,
      "weight_decay": 1e-4, "warmup_steps": 10 if arg.tiny else 100, "schedule": "cosine",
      "clip_norm": 1.0,
    },
  )
