# %% [markdown]
# # Pictures for one user: PPD
#
# Personalized preference fine-tuning (Dang et al., CVPR 2025) teaches a text-to-image network what
# each user likes, from a few comparisons. This notebook trains a small network on made-up shapes,
# freezes it, trains the users' branch on comparisons by users with planted tastes, and looks at what
# it draws.
#
# Install recjax first, from a checkout: `pip install -e '.[colab]'`. No network is needed. With the
# environment variable `RECJAX_COLAB_TINY` set, everything is so small that it only shows that it runs.

# %%
import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from recjax.config import experiment, resolve
from recjax.data.load import load
from recjax.evaluate.pictures import grid
from recjax.programs import start
from recjax.programs.train import train
from recjax.train.writers import read_metrics

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()
start.runtime()

TINY = bool(os.environ.get("RECJAX_COLAB_TINY"))
folder = pathlib.Path("runs") / ("ppd_tiny" if TINY else "ppd")

# %% [markdown]
# ## Comparisons
#
# The prompt names a shape; colour, size and place are free. A user's taste is a direction of warmth,
# greenness, ink and contrast, and the better of two pictures is chosen with a little chance. Below, the
# first comparisons of two users: the preferred pictures are in the upper row.

# %%
data = {
  "name": "tastes",
  "generator": "pictures",
  "size": 8 if TINY else 16,
  "samples": 500 if TINY else 4000,
  **({"train_users": 10, "unseen_users": 2, "validation_users": 1, "pairs": 16} if TINY else {}),
}
table = load(data)
figure, axes = plt.subplots(1, 2, figsize=(12, 2.6), layout="constrained")
for user, axis in enumerate(axes, 1):
  mine = np.flatnonzero(table.user == user)[:10]
  axis.imshow(grid(np.stack([table.samples[table.winner[mine]], table.samples[table.loser[mine]]])))
  side = table.samples.shape[1] + 2
  axis.set_yticks([side / 2, 3 * side / 2], ["preferred", "not"])
  axis.set_xticks(side * np.arange(10) + side / 2, range(1, 11))
  axis.set(xlabel="comparison", title=f"User {user}")
plt.show()

# %% [markdown]
# ## The base
#
# A denoising network with prompts, trained on all pictures whoever compared them. Of its prompts, one
# in ten is blank, so that guidance has something to start from.

# %%
host = {"name": "small", "patch": 4, "width": 16 if TINY else 96, "blocks": 1 if TINY else 3}
base = experiment(
  "text_to_image",
  data=data,
  view={"name": "samples", "mirror": True},
  model={"name": "text_to_image", "host": host},
  evaluate={"denoising": {"repeats": 1}},
  train={
    "batch_size": 64,
    "steps": 20 if TINY else 2000,
    "log_every": 10 if TINY else 100,
    "evaluate_every": 0,
    "select_metric": "explained",
  },
  optimizer={"learning_rate": 1e-3, "schedule": "cosine", "clip_norm": 1.0},
)
train(resolve(base), folder / "base")

# %% [markdown]
# ## The users
#
# The base is named as a stage and stays frozen. Four tokens, one for each of four past comparisons, are
# all that is known of a user; key and value maps for them are all that is trained.

# %%
config = experiment(
  "ppd",
  data=data,
  view={"name": "sample_pairs", "validation_samples": 2, "test_samples": 4 if TINY else 6},
  model={"name": "ppd", "host": host, "strength": 200.0},
  evaluate={
    "personal_samples": {
      "steps": 2 if TINY else 25,
      "text_scale": 2.0,
      "user_scale": 2.0,
      "limit": 1.0,
      "mixtures": 3 if TINY else 7,
      "pictures": 1 if TINY else 4,
      "batch_size": 128,
    }
  },
  train={
    "batch_size": 32,
    "steps": 20 if TINY else 600,
    "log_every": 10 if TINY else 50,
    "evaluate_every": 0,
    "select_metric": "win",
  },
  optimizer={"learning_rate": 1e-3, "clip_norm": 1.0},
  stages={"base": str(folder / "base")},
  initialize={"host": "base:params"},
)
report = train(resolve(config), folder / "users")

# %% [markdown]
# ## Does it know them?
#
# Wins against what the base makes of the same noise, in the eyes of the user. The last bar takes the
# history of another user: it should be near one half.

# %%
metrics = report["test"]["metrics"]
names = ["win_seen", "win_unseen", "win_part", "win_other"]
lines = [line for line in read_metrics(folder / "users") if line["kind"] == "train"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
left.plot([line["step"] for line in lines], [line["accuracy"] for line in lines], marker=".")
left.set(xlabel="step", ylabel="pairs in the right order", title="Training")
right.bar(names, [metrics[name]["mean"] for name in names])
right.axhline(0.5, color="0.5", linestyle=":")
right.set(ylabel="wins against the base", ylim=(0, 1), title="Samples")
plt.show()

# %% [markdown]
# ## What it draws
#
# The first row is the base; each further row is a user, with the prompts and noises of the first row.
# The rows of the second picture walk from one user to another.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 6), layout="constrained")
for axis, name in ((left, "samples"), (right, "mixed")):
  axis.imshow(plt.imread(folder / "users" / f"{name}_test.png"))
  axis.set_title(name)
  axis.axis("off")
plt.show()
