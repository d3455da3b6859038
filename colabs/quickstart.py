# %% [markdown]
# # recjax: from ratings to recommendations
#
# This notebook trains a small sequential recommender, SASRec (Kang and McAuley, ICDM 2018), on
# MovieLens 100K, looks at what it learned, and asks it for films.
#
# Install recjax first, from a checkout: `pip install -e '.[colab]'`. The data set is fetched on
# first use and is for research only; its licence note is printed below. Training takes a few
# minutes on two CPU cores. With the environment variable `RECJAX_COLAB_TINY` set, the notebook
# trains on a few made-up sequences instead and needs no network.

# %%
import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from recjax.config import experiment, resolve
from recjax.data.load import load
from recjax.programs import start
from recjax.programs.train import train
from recjax.serve.recommender import Recommender
from recjax.train.writers import read_metrics

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()
start.runtime()

TINY = bool(os.environ.get("RECJAX_COLAB_TINY"))

# %% [markdown]
# ## The experiment
#
# An experiment is a config: data, view, model, evaluators, and how long to train. `experiment`
# fills in every other key and refuses keys it does not know. Here the last event of each user is
# the test, the one before it validation, and every film competes with all others that the user
# has not rated.

# %%
config = resolve(
  experiment(
    "quickstart",
    data={"name": "planted" if TINY else "movielens_100k"},
    view={"name": "next_item", "length": 20 if TINY else 50},
    model={"name": "sasrec", "width": 32 if TINY else 64, "heads": 1, "dropout": 0.3},
    evaluate={"full_ranking": {}},
    train={
      "batch_size": 64 if TINY else 128,
      "steps": 150 if TINY else 500,
      "log_every": 50,
      "evaluate_every": 50,
    },
    optimizer={"learning_rate": 2e-3},
  )
)

# %% [markdown]
# ## Training
#
# Everything that the run writes is in its folder. Run this cell again and it returns at once.
# Restart the kernel midway, and the same cells go on from the last checkpoint.

# %%
workdir = pathlib.Path("runs") / ("quickstart_tiny" if TINY else "quickstart")
report = train(config, workdir)

# %% [markdown]
# ## The learning curve
#
# `metrics.jsonl` holds one line for every logged step. NDCG@10 of the validation part chose the
# variables that were kept.

# %%
lines = read_metrics(workdir)
training = [line for line in lines if line["kind"] == "train"]
validation = [line for line in lines if line["kind"] == "validation"]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot([line["step"] for line in training], [line["loss"] for line in training], marker=".")
left.set(xlabel="step", ylabel="training loss (nats)", title="Loss")
right.plot(
  [line["step"] for line in validation], [line["ndcg@10"][0] for line in validation], marker="."
)
right.axvline(report["best_step"][0], color="0.6", linestyle=":", label="kept")
right.set(xlabel="step", ylabel="NDCG@10", title="Validation")
right.legend()
plt.show()

# %% [markdown]
# ## The report
#
# `report.json` is written last. It has the test metrics, the number of cases behind them, the
# data with their cleaning steps and licence, the time, and the versions of the packages.

# %%
test = report["test"]
for name in ("hr@10", "ndcg@10", "mrr@10", "coverage@20"):
  print(f"{name:12} {test['metrics'][name]['mean']:.4f}")
print(f"cases        {test['facts']['cases']}, each against {test['facts']['candidates']} items")
print(f"parameters   {sum(report['parameters'].values()):,}")
print(f"trained      {report['train_seconds']:.0f} s, best step {report['best_step'][0]}")
print(f"data         {report['data']['way']}")
print(f"licence      {report['data']['licence']}")

# %% [markdown]
# ## One user
#
# The prepared log is a set of memory-mapped arrays sorted by user and time. User 1's last event
# is the test target; the model sees what came before it. Bars on the left show how often an item
# occurs in the data, bars on the right the model's scores. The held-out item, if it is
# recommended, has a red bar.

# %%
log = load(config.data)
recommender = Recommender.load(workdir)
events = np.asarray(log.item[log.indptr[1] : log.indptr[2]])
history, held_out = events[:-1].tolist(), int(events[-1])
found = recommender.recommend([history], k=10)[0]

recent = history[-10:]
count = np.bincount(log.item, minlength=log.num_items + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
left.barh(range(len(recent)), count[recent], color="tab:blue")
left.set_yticks(range(len(recent)), [recommender.label(item) for item in recent])
left.set(xlabel="events of the item in the data", title="History, newest on top")
right.barh(
  range(len(found)),
  [answer.score for answer in found],
  color=["tab:red" if answer.item == held_out else "tab:orange" for answer in found],
)
right.set_yticks(range(len(found)), [answer.label for answer in found])
right.invert_yaxis()
right.set(xlabel="score", title="Recommended, best on top")
plt.show()
print("held out:", recommender.label(held_out))

# %% [markdown]
# ## Your own history
#
# A user needs no id: any list of items, oldest first, gets recommendations. `find` takes a label
# or an id, and where a label is wrong it names the nearest ones.

# %%
names = (
  ["Item 3", "Item 14", "Item 15"]
  if TINY
  else ["Star Wars (1977)", "Blade Runner (1982)", "Alien (1979)"]
)
mine = [recommender.find(name) for name in names]
for rank, answer in enumerate(recommender.recommend([mine], k=5)[0], 1):
  print(f"{rank}. {answer.label}  ({answer.score:.2f})")

# %% [markdown]
# The same from a shell:
#
#     python -m recjax.main --mode=recommend --workdir=runs/quickstart \
#       --history="Star Wars (1977)|Blade Runner (1982)"
