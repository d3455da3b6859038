"""SASRec of RecBole on exported events; lists of its validation users at intervals of time.

Runs in the virtual environment of RecBole. Its own defaults are kept but for the sizes, which are those
of the model that it is compared with. An epoch may take longer than the budget, so lists are made
within epochs. RecBole's own evaluation leaves what users have seen in the ranking; the lists are of
unseen items, and after the last of them stand those that its own evaluation ranks, with its metric and
its time.
"""

import pathlib
import time

from clock import Clock, parse, write_lists

clock = Clock()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402


class Over(Exception):
  """The time is up."""

class Watched:
  """Batches of a loader, and a look at the clock between any two of them."""

  def __init__(self, loader, look):
    self._loader, self._look = loader, look

  def __len__(self):
    return len(self._loader)

  def __iter__(self):
    for batch in self._loader:
      yield batch
      self._look()

  def __getattr__(self, name):
    return getattr(self._loader, name)


def main():
  """Trains until the time is up."""
  arguments = parse(every=(60.0, "seconds between two lists"))
  out = pathlib.Path(arguments.out)
  with clock.paused():  # writing its file format is not its doing
    folder = out / "atomic" / "events"
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.data) as data:
      user, item = data["user"], data["item"]
      trained = np.stack([data["train_user"], data["train_item"]])
      asked = data["validation_user"]
    lines = (f"{u}\t{i}\t{t}" for t, (u, i) in enumerate(zip(user, item, strict=True)))
    head = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "events.inter").write_text("\n".join([head, *lines]) + "\n")
  config = Config(
    model="SASRec", dataset="events",
    config_dict={
      "data_path": str(folder.parent), "checkpoint_dir": str(out / "saved"), "seed": arguments.seed,
      "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False,
      "MAX_ITEM_LIST_LENGTH": arguments.length, "n_layers": arguments.layers,
      "n_heads": arguments.heads, "hidden_size": arguments.width, "inner_size": arguments.width,
      "train_neg_sample_args": None, "loss_type": "CE", "metrics": ["NDCG"], "topk": [10],
      "valid_metric": "NDCG@10", "metric_decimal_place": 8, "show_progress": False,
      "eval_args": {
        "split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full",
      },
    },
  )
  init_seed(config["seed"], config["reproducibility"])
  dataset = create_dataset(config)
  train_data, valid_data, _ = data_preparation(config, dataset)
  model = SASRec(config, train_data.dataset).to(config["device"])
  trainer = Trainer(config, model)
  trainer.tot_item_num = dataset.item_num  # else known only after its own evaluation

  with clock.paused():
    tokens = dataset.field2id_token
    item_of = np.array([0, *map(int, tokens["item_id"][1:])])
    internal_user = {int(token): i for i, token in enumerate(tokens["user_id"]) if i}
    internal_item = {int(token): i for i, token in enumerate(tokens["item_id"]) if i}
    seen = {u: [] for u in internal_user.values()}
    for u, i in trained.T:
      seen[internal_user[u]].append(internal_item[i])
    user_of = np.array([0, *map(int, tokens["user_id"][1:])])

  def lists(hide_seen):
    """(users, ids, scores) of the best items of every validation user."""
    users, ids, scores = [], [], []
    model.eval()
    with torch.no_grad():
      for batch in valid_data:
        interaction, score, *_ = trainer._full_sort_batch_eval(batch)
        own = interaction["user_id"].numpy()
        if hide_seen:
          for row, u in enumerate(own):
            score[row, seen[u]] = -np.inf
        value, place = torch.topk(score, arguments.list, dim=1)
        users.append(user_of[own])
        ids.append(item_of[place.numpy()])
        scores.append(value.numpy())
    model.train()
    users = np.concatenate(users)
    order = np.argsort(users)
    assert (users[order] == np.sort(asked)).all(), "RecBole validates other users"
    return users[order], np.concatenate(ids)[order], np.concatenate(scores)[order]

  state = {"number": 0, "next": arguments.every, "batches": 0}

  def look():
    state["batches"] += 1
    seconds = clock.seconds()
    if seconds < state["next"]:
      return
    with clock.paused():
      write_lists(
        out, state["number"], seconds, *lists(hide_seen=True),
        epochs=state["batches"] / len(train_data),
      )
    state["number"] += 1
    state["next"] += arguments.every
    if seconds >= arguments.seconds:
      raise Over

  watched = Watched(train_data, look)
  try:
    for epoch in range(10_000):
      trainer._train_epoch(watched, epoch, show_progress=False)
  except Over:
    pass
  started = time.monotonic()
  found = trainer.evaluate(valid_data, load_best_model=False)
  seconds = time.monotonic() - started
  users, ids, scores = lists(hide_seen=False)
  np.savez(
    out / "own_evaluation.npz", user=users, ids=ids, scores=scores, ndcg=found["ndcg@10"],
    seconds=seconds,
  )


if __name__ == "__main__":
  main()
