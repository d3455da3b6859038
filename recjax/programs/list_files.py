"""The lists of a run and what they are judged by, as the files that a comparison reads.

    WORKDIR/lists/recommendations.parquet   user_id, item_id, rank; labels of the source
    WORKDIR/lists/relevance.parquet         user_id, item_id, the right answers of the test
    WORKDIR/lists/training.parquet          user_id, item_id, an event a row
    WORKDIR/lists/items.parquet             item_id, and category where items have one
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.errors import writing
from recjax.evaluate.evaluation import Evaluation
from recjax.programs.assemble import Parts

FOLDER = "lists"
LISTS, RELEVANCE, TRAINING, ITEMS = (
  f"{name}.parquet" for name in ("recommendations", "relevance", "training", "items")
)


def write_lists(parts: Parts, evaluation: Evaluation, folder: pathlib.Path) -> None:
  """Writes the four files of what an evaluator of the test recommends.

  Where a user has several test cases, each counts as a user of its own, "LABEL case N".
  """
  log, cases = parts.data, parts.view.test
  users, items = log.users["raw"], log.items["raw"]
  asked = np.flatnonzero((cases.targets != 0).any(axis=1))
  label = users[cases.user[asked]].astype(str)
  if len(np.unique(label)) < len(label):
    label = np.array([f"{name} case {case}" for name, case in zip(label, asked, strict=True)])

  def pairs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, place = np.nonzero(ids)
    return label[row], items[ids[row, place]].astype(str), place

  user, item, place = pairs(evaluation.lists)
  tables = {LISTS: {"user_id": user, "item_id": item, "rank": place + 1}}
  # A right answer that is there twice counts once.
  once = np.sort(cases.targets[asked], axis=1)
  once[:, 1:][np.diff(once, axis=1) == 0] = 0
  user, item, _ = pairs(once)
  tables[RELEVANCE] = {"user_id": user, "item_id": item}
  owner = np.repeat(np.arange(log.num_users + 1), np.diff(log.indptr))
  at = np.arange(len(owner))
  trained = (at >= parts.split.train_begin[owner]) & (at < parts.split.train_end[owner])
  tables[TRAINING] = {
    "user_id": users[owner[trained]].astype(str),
    "item_id": items[np.asarray(log.item)[trained]].astype(str),
  }
  tables[ITEMS] = {"item_id": items[1:].astype(str)}
  if "category" in log.items:
    tables[ITEMS]["category"] = log.items["category"][1:]
  with writing(folder):
    folder.mkdir(exist_ok=True)
    for name, columns in tables.items():
      pq.write_table(pa.table(columns), folder / name, compression="zstd")
