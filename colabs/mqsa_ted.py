# %% [markdown]
# # MQSA-TED: one question to the last item, another to the last few
#
# Zhu et al., WSDM 2024, [arXiv 2311.01056](https://arxiv.org/abs/2311.01056). Some steps of a user
# follow from the last item alone (a transition), others from what the last few items have in common
# (collaboration). The model asks its history two questions, and a second loss teaches the item
# vectors the table of transitions.
#
# This notebook plants both signals in made-up sequences, trains the model, and looks at where each
# branch looks. Install recjax first, from a checkout: `pip install -e '.[colab]'`. No data are
# fetched. With the environment variable `RECJAX_COLAB_TINY` set it trains for a few steps only.

# %%
import os
import pathlib

import jax
import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from recjax.config import experiment, resolve
from recjax.models.retrieval.mqsa_ted import MQSA
from recjax.programs import start
from recjax.programs.assemble import assemble
from recjax.programs.train import train
from recjax.serve.export import read_export

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()
start.runtime()

TINY = bool(os.environ.get("RECJAX_COLAB_TINY"))

# %% [markdown]
# ## Two signals
#
# Of 400 items in 20 groups each has one successor, in another group. A user likes three groups. With
# probability 0.35 a step goes to the successor of the last item; else to any item of a group of one
# of the last three items. The column `step` of the log says which it was, and the evaluator reports
# both kinds apart.

# %%
LENGTH, WINDOW = 12, 3
config = resolve(
  experiment(
    "mqsa_ted_colab",
    data={
      "name": "planted", "generator": "two_signals", "shortest": LENGTH, "longest": LENGTH,
      "num_users": 300 if TINY else 3000,
    },
    view={"name": "next_item", "length": LENGTH},
    model={
      "name": "mqsa_ted", "query_window": WINDOW, "dropout": 0.3, "width": 16 if TINY else 64,
    },
    evaluate={"full_ranking": {"by_column": "step", "beyond_accuracy": False}},
    train={
      "batch_size": 256,
      "steps": 20 if TINY else 600,
      "log_every": 20,
      "evaluate_every": 20,
      "patience": 8,
      "select_metric": "ndcg@20",
    },
    optimizer={"learning_rate": 3e-3},
  )
)
workdir = pathlib.Path("runs") / ("mqsa_ted_colab_tiny" if TINY else "mqsa_ted_colab")
report = train(config, workdir)

# %% [markdown]
# ## Which steps are found
#
# HR@10 of the test by kind of step, beside what a random list of ten would have.

# %%
metrics, facts = report["test"]["metrics"], report["test"]["facts"]
kinds = ["successor", "collaborative"]
values = [metrics[f"hr@10 step {kind}"]["mean"] for kind in kinds]
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.bar([f"{k}\n{facts[f'cases step {k}']} cases" for k in kinds], values, color="tab:blue")
axes.axhline(10 / facts["candidates"], color="0.5", linestyle=":", label="ten at random")
axes.set(ylabel="HR@10", title="Test, by kind of step")
axes.legend()
plt.show()

# %% [markdown]
# ## Where each branch looks
#
# The short branch asks with the last item, the long one with the mean of the last three. Both look at
# the same keys and values, with weights of their own. A row of a map is a question at that position,
# a column the item that is looked at; position 0 is the oldest.

# %%
export = read_export(workdir / "export")
parts = assemble(config)
rows = parts.view.test.rows
batch = rows.gather(np, rows.columns, np.arange(min(256, rows.count), dtype=np.int32))
module = MQSA(config.model, LENGTH)
look = jax.jit(
  lambda variables, batch: module.apply(
    {"params": variables["params"]}, variables["tables"], batch, train=False,
    mutable=["intermediates"],
  )[1]
)
found = look(export.variables, batch)
weights = {
  branch: np.asarray(found["intermediates"][branch]["attention_0"]["weights"][0])[:, 0]
  for branch in ("short", "long")
}

figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, (branch, window) in zip(panels, (("short", 1), ("long", WINDOW)), strict=True):
  image = axes.imshow(weights[branch].mean(axis=0), cmap="viridis", vmin=0)
  axes.set(title=f"{branch} branch, query of {window}", xlabel="looked at", ylabel="asked at")
  figure.colorbar(image, ax=axes, shrink=0.8)
plt.show()

# %% [markdown]
# ## Weight by distance
#
# The last question of every history, the one that makes the recommendation: how much weight lies on
# the item asked with (0), the one before it (1), and so on. The dotted line is an even spread.

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
real = batch["hist_mask"].sum(axis=1)
for branch in ("short", "long"):
  newest_first = weights[branch][:, -1, ::-1].mean(axis=0)
  axes.plot(newest_first, marker="o", label=f"{branch} branch")
axes.axhline(1 / real.mean(), color="0.5", linestyle=":", label="even")
axes.set(xlabel="items back", ylabel="mean attention weight", title="The last question")
axes.legend()
plt.show()
