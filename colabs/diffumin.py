# %% [markdown]
# # DiffuMIN: interests, and interests made by diffusion
#
# DiffuMIN (Lai et al., RecSys 2025) reads a long history along a few orthogonal directions that the
# candidate chooses. What it finds along each is an interest; a diffusion model makes variations of
# them. This notebook trains it on planted clicks, shows which behaviours each channel took, draws
# interests and generated interests in two dimensions, and follows one interest into noise and back.
#
# Install recjax first, from a checkout: `pip install -e '.[colab]'`. No data are downloaded. With the
# environment variable `RECJAX_COLAB_TINY` set, everything is smaller.

# %%
import os
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from recjax.config import experiment, resolve
from recjax.data.load import load
from recjax.data.views import table
from recjax.diffusion import schedules
from recjax.diffusion.samplers import sample
from recjax.models.ranking import diffumin
from recjax.nn.interest_generators import InterestDenoiser
from recjax.programs import start
from recjax.programs.train import train
from recjax.serve.export import read_export

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()
start.runtime()

TINY = bool(os.environ.get("RECJAX_COLAB_TINY"))

# %% [markdown]
# ## Training
#
# A click is likelier the more behaviours share the target's category. The generator's losses have more
# weight than in the paper, since there are few steps. Run the cell again and it returns at once.

# %%
config = resolve(
  experiment(
    "diffumin_colab",
    data={
      "name": "planted", "generator": "count", "num_categories": 16,
      "num_train": 2_000 if TINY else 20_000, "num_validation": 500, "num_test": 500,
    },
    view={"name": "table"},
    model={
      "name": "diffumin", "item_width": 4, "category_width": 12, "channels": 3,
      "start_t": 99, "sampler_steps": 4, "denoiser_layers": 1 if TINY else 2, "short_layers": 1,
      "stop_grad_sampler": TINY,
      "generator_weight": 1.0, "contrast_weight": 0.01,
    },
    evaluate={"ctr": {}},
    train={
      "batch_size": 256, "epochs": 1.0 if TINY else 4.0, "log_every": 20, "evaluate_every": 100,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 5e-3, "clip_norm": 5.0},
  )
)
workdir = pathlib.Path("runs") / ("diffumin_tiny" if TINY else "diffumin")
report = train(config, workdir)
print(f"AUC {report['test']['metrics']['auc']['mean']:.3f}; no model can be expected to beat "
      f"{report['data']['bayes_auc']:.3f}")

# %% [markdown]
# ## Which behaviours a channel takes
#
# One row a channel, one column a behaviour of a single user, oldest first. Crosses mark behaviours
# of the target's category.

# %%
rows = table.build(config.view, load(config.data), None).test.rows
batch = jax.tree.map(jnp.asarray, rows.gather(np, rows.columns, np.arange(rows.count)))
exported = read_export(workdir / "export")
variables = jax.tree.map(jnp.asarray, exported.variables)
learner = diffumin.build(config.model, exported.schema)
parts = jax.device_get(jax.jit(learner.predict["explain"])(variables, batch))

same = np.asarray(batch["hist_cat"] == batch["target_cat"][:, None])
user = int(np.argmax(same.sum(1)))
figure, axes = plt.subplots(figsize=(9, 2.2), layout="constrained")
axes.imshow(parts["shares"][user].T, cmap="Blues", aspect="auto", vmin=0, vmax=1)
axes.scatter(np.flatnonzero(same[user]), np.full(same[user].sum(), 0.0), marker="x", color="tab:red")
axes.set(xlabel="behaviour", ylabel="channel", yticks=range(config.model.channels))
plt.show()

# %% [markdown]
# ## Interests and generated interests in two dimensions
#
# Every dot is an interest of length one, every cross what diffusion made of it, on the first two
# principal components of all interests of the test rows. A line joins the two.

# %%
length = np.linalg.norm(parts["interests"], axis=-1, keepdims=True)
unit, alive = parts["interests"] / np.maximum(length, 1e-9), length[..., 0] > 0
centre = unit[alive].mean(0)
axes_of = np.linalg.svd(unit[alive] - centre, full_matrices=False)[2][:2]
flat = lambda x: (x - centre) @ axes_of.T

figure, panels = plt.subplots(
  1, config.model.channels, figsize=(11, 3.6), layout="constrained", sharex=True, sharey=True
)
for channel, panel in enumerate(panels):
  shown = np.flatnonzero(alive[:, channel])[:150]
  real, made = flat(unit[shown, channel]), flat(parts["generated"][shown, channel])
  panel.plot(*np.stack([real, made]).transpose(2, 0, 1), color="0.8", linewidth=0.6, zorder=0)
  panel.scatter(*real.T, s=9, label="interest")
  panel.scatter(*made.T, s=14, marker="x", linewidth=0.8, label="generated")
  panel.set(title=f"channel {channel}", xlabel="component 1")
panels[0].set(ylabel="component 2")
panels[0].legend()
plt.show()

# %% [markdown]
# ## Into noise and back
#
# One interest is noised more and more, up to t = 99, and then denoised step by step. The way out is a
# draw of the forward process; the way back follows the means, as when scores are served.

# %%
schedule = schedules.linear()
network = InterestDenoiser(config.model.denoiser_layers, config.model.heads)
row = int(np.flatnonzero(alive.all(1))[0])
context = jnp.asarray(unit[row])[None]
directions = jnp.asarray(parts["channels"][row])[None]


denoiser = diffumin.denoiser(network, variables["params"]["denoiser"], schedule)


def denoise(x, time):
  times = jnp.broadcast_to(time[:1, None], (1, config.model.channels))
  return denoiser(x[None], times, context, directions)[0]


noise = jax.random.normal(jax.random.key(1), context.shape[1:])
steps = np.arange(99, -1, -11)
forward = [
  schedules.add_noise(schedule.log_snr(jnp.full(len(noise), t)), context[0], noise)
  for t in steps[::-1]
]
backward = [
  sample(denoise, forward[-1], schedule, steps[: i + 1], eta=1.0) for i in range(len(steps))
]
out, back = (flat(np.asarray(path)[:, 0]) for path in (forward, backward))
begin = flat(unit[row, 0])

figure, axes = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
axes.plot(*np.vstack([begin, out]).T, marker=".", label="into noise")
axes.plot(*np.vstack([out[-1], back]).T, marker=".", label="back, best guess after each step")
axes.scatter(*begin, color="black", zorder=3, label="interest")
axes.set(xlabel="component 1", ylabel="component 2")
axes.legend()
plt.show()
