"""SASRec of RecTools on exported events; lists of its validation users every few epochs.

Runs in the virtual environment of RecTools. Its own defaults are kept but for the sizes, which are
those of the model that it is compared with, and the number of epochs, which is bound by time.
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
  arguments = parse(epochs=(1, "between two looks at the lists"))
  torch.manual_seed(arguments.seed)
  np.random.seed(arguments.seed)  # noqa: NPY002, what RecTools draws from
  with np.load(arguments.data) as data:
    events = pd.DataFrame({
      Columns.User: data["train_user"], Columns.Item: data["train_item"], Columns.Weight: 1.0,
      # Only the order of times is read.
      Columns.Datetime: pd.to_datetime(np.arange(len(data["train_user"])), unit="s"),
    })
    users = data["validation_user"]
  dataset = Dataset.construct(events)
  model = SASRecModel(
    n_blocks=arguments.layers, n_heads=arguments.heads, n_factors=arguments.width,
    session_max_len=arguments.length, loss="softmax",
  )
  number = epochs = 0
  while clock.seconds() < arguments.seconds:
    model.fit_partial(dataset, min_epochs=arguments.epochs, max_epochs=arguments.epochs)
    epochs += arguments.epochs
    with clock.paused():
      seconds = clock.seconds()
      found = model.recommend(users, dataset, k=arguments.list, filter_viewed=True)
      ids = np.zeros((len(users), arguments.list), np.int64)
      scores = np.full(ids.shape, -np.inf)
      row = pd.Series(np.arange(len(users)), index=users)[found[Columns.User]].to_numpy()
      place = found[Columns.Rank].to_numpy() - 1
      ids[row, place] = found[Columns.Item]
      scores[row, place] = found[Columns.Score]
      write_lists(arguments.out, number, seconds, users, ids, scores, epochs=epochs)
    number += 1


if __name__ == "__main__":
  main()
