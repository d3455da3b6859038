"""Personalized preference fine-tuning (Dang et al., CVPR 2025, arXiv 2501.06655) for planted tastes.

    python -m recjax.main --config=experiments/ppd.py --workdir=runs/ppd

Trains the text-to-image network first (`experiments/text_to_image.py`, as a stage), then the users'
branch on it, and judges samples by the planted tastes: seen users, unseen users, and both with the
history of another user. Expected: see docs/results.md. `:tiny` takes seconds; `:encoder=pairs` learns
what tells a user from past pairs; `:rewards=3` has three reward functions as users, by number
(`encoder=one_hot`); `:data=pictures` are made-up shapes, `:data=emoji` Twemoji pictures below the
data root. `--mode=prove` compares it with the base, with SFT on winners and with plain Diffusion-DPO.
"""

from recjax.config import experiment, parse_arg, read_config_file

SUPPORT = {"tokens": "tokens", "pairs": "pairs", "one_hot": "none", "constant": "none"}


def get_config(arg=None):
  """The experiment; switches: encoder=NAME and those of text_to_image.py, which has data and host."""
  arg = parse_arg(arg, tiny=False, data="latents", rewards=0, world=0, encoder="tokens")
  encoder = "one_hot" if arg.rewards else arg.encoder
  latents = arg.data == "latents"
  switches = [f"data={arg.data}", f"rewards={arg.rewards}", f"world={arg.world}"]
  stage = f"experiments/text_to_image.py:{','.join(['tiny'] * arg.tiny + switches)}"
  base = read_config_file(stage)
  return experiment(
    "ppd",
    data=base.data,
    view={
      "name": "sample_pairs", "support": SUPPORT[encoder],
      "test_samples": 8 if arg.tiny else 400 if arg.rewards else 40 if latents else 8,
    },
    model={
      "name": "ppd", "host": base.model.host, "encoder": encoder,
      # 2 for errors summed over the 16 dimensions of a latent.
      "strength": 32.0 if latents else 1000.0,
      # Rewards are told by one token that is never missing.
      "token_dropout": 0.1, "blank_prompt": 0.0 if latents else 0.1,
    },
    evaluate={
      "personal_samples": {
        "mixtures": 5 if arg.rewards else 0,
        "steps": 10 if arg.tiny else 25,
        "text_scale": 1.0 if latents else 2.0, "user_scale": 1.0 if latents else 2.0,
        "batch_size": 1024 if latents else 128,
      },
    },
    train={
      "batch_size": 128 if latents else 32,
      "steps": 150 if arg.tiny else 600,
      "log_every": 50,
      "evaluate_every": 0,
      "select_metric": "win",
    },
    optimizer={"learning_rate": 1e-3, "clip_norm": 1.0},
    stages={"base": stage},
    initialize={"host": "base:params"},
    proof={},
  )
