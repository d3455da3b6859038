"""SASRec of RecTools on exported events; lists of its validation users every few epochs.

Runs in the virtual environment of RecTools. Its own defaults are kept but for the sizes, which are
those of the model that it is compared with, the number of epochs, which is bound by time or given, and
what else is asked for. With --test, lists of the test users, who know the validation events by then,
stand beside the others.
"""

from clock import Clock, parse, write_lists

clock = Clock()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from rectools import Columns  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.models import SASRecModel  # noqa: E402


def main():
  """Trains until the time is up."""
  arguments = parse(
    epochs=(1, "between two looks at the lists"), last=(0, "epochs in all; 0: until the time is up"),
    test=(0, "1: also lists of the test users"), dropout=(0.2, "rate"), rate=(0.001, "of Adam"),
    batch=(128, "users"),
  )
  torch.manual_seed(arguments.seed)
  np.random.seed(arguments.seed)  # noqa: NPY002, what RecTools draws from
  with np.load(arguments.data) as data:
    trained, held = ([data[f"{part}_{side}"] for side in ("user", "item")] for part in (
      "train", "validation"
    ))
    parts = {"lists": (data["validation_user"], dataset_of(*trained))}
    if arguments.test:
      known = (np.concatenate(both) for both in zip(trained, held, strict=True))
      parts["test"] = data["test_user"], dataset_of(*known)
  model = SASRecModel(
    n_blocks=arguments.layers, n_heads=arguments.heads, n_factors=arguments.width,
    session_max_len=arguments.length, loss="softmax", dropout_rate=arguments.dropout,
    lr=arguments.rate, batch_size=arguments.batch,
  )
  number = epochs = 0
  while clock.seconds() < arguments.seconds and (not arguments.last or epochs < arguments.last):
    model.fit_partial(
      parts["lists"][1], min_epochs=arguments.epochs, max_epochs=arguments.epochs
    )
    epochs += arguments.epochs
    with clock.paused():
      seconds = clock.seconds()
      if arguments.test:
        users, dataset = parts["test"]
        ids, scores = lists_of(model, users, dataset, arguments.list)
        np.savez(f"{arguments.out}/test_{number:03}.npz", user=users, ids=ids, scores=scores)
      users, dataset = parts["lists"]
      ids, scores = lists_of(model, users, dataset, arguments.list)
      write_lists(arguments.out, number, seconds, users, ids, scores, epochs=epochs)
    number += 1


def dataset_of(users, items):
  """Events [n] in order as RecTools takes them."""
  return Dataset.construct(pd.DataFrame({
    Columns.User: users, Columns.Item: items, Columns.Weight: 1.0,
    # Only the order of times is read.
    Columns.Datetime: pd.to_datetime(np.arange(len(users)), unit="s"),
  }))


def lists_of(model, users, dataset, length):
  """Ids and scores [n, length] of unseen items for users [n]."""
  found = model.recommend(users, dataset, k=length, filter_viewed=True)
  ids = np.zeros((len(users), length), np.int64)
  scores = np.full(ids.shape, -np.inf)
  row = pd.Series(np.arange(len(users)), index=users)[found[Columns.User]].to_numpy()
  place = found[Columns.Rank].to_numpy() - 1
  ids[row, place] = found[Columns.Item]
  scores[row, place] = found[Columns.Score]
  return ids, scores


if __name__ == "__main__":
  main()
