"""DIN or DIEN of FuxiCTR's LongCTR zoo on Parquet files: training samples a second, as a line of JSON.

Runs in the virtual environment of FuxiCTR, so it imports NumPy, PyTorch, FuxiCTR and the standard
library only. A step is the model's own `train_step` and, as in its `fit`, reading the loss. With
--loader=1 batches come from its own loader and one worker process, its default; with 0 they are made
before the clock starts.
"""

import argparse
import collections
import importlib.metadata
import json
import time

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR.DIEN.DIEN import DIEN
from model_zoo.LongCTR.DIN.DIN import DIN
from model_zoo.LongCTR.longctr_dataloader import LongCTRDataLoader


def feature_map(arguments: argparse.Namespace) -> FeatureMap:
  """What its preprocessing would write of these files."""
  made = FeatureMap("ctr_vs_peers", arguments.data)
  known = {"type": "categorical", "source": "item", "padding_idx": 0}
  made.features = collections.OrderedDict({
    **{name: {"type": "meta"} for name in ("user_index", "item_index", "seq_len")},
    "item_id": {**known, "vocab_size": arguments.items},
    "cate_id": {**known, "vocab_size": arguments.categories},
  })
  made.labels, made.default_emb_dim = ["is_click"], arguments.width
  made.num_fields = made.get_num_fields()
  return made


def build(arguments: argparse.Namespace, features: FeatureMap):
  """The model, ready to train."""
  numbers = lambda text: [int(n) for n in text.split(",")]
  common = {
    "embedding_dim": arguments.width, "dnn_hidden_units": numbers(arguments.tower),
    "dnn_activations": "ReLU", "batch_norm": False, "learning_rate": arguments.rate,
    "optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"], "verbose": 0,
    "model_root": arguments.data, "gpu": -1,
  }
  if arguments.model == "DIN":
    unit = {"attention_hidden_units": numbers(arguments.unit), "attention_hidden_activations": "ReLU"}
    model = DIN(features, **common, **unit)
  else:
    model = DIEN(
      features, **common, gru_type="AUGRU", enable_sum_pooling=True,
      attention_type="bilinear_attention", item_info_fields=2,
    )
  model._max_gradient_norm, model._batch_index = arguments.clip, 0  # what `fit` sets
  return model.train()


def main() -> None:
  """Trains a window that is not timed, then the timed ones."""
  parser = argparse.ArgumentParser()
  for name in ("model", "data", "unit", "tower"):
    parser.add_argument(f"--{name}", required=True)
  whole = ("items", "categories", "batch", "length", "width", "steps", "repeats", "loader", "threads")
  for name in whole:
    parser.add_argument(f"--{name}", type=int, required=True)
  for name in ("clip", "rate"):
    parser.add_argument(f"--{name}", type=float, required=True)
  arguments = parser.parse_args()
  torch.set_num_threads(arguments.threads)
  seed_everything(0)
  features = feature_map(arguments)
  model = build(arguments, features)
  loader = LongCTRDataLoader(
    features, f"{arguments.data}/train.parquet", f"{arguments.data}/user_info.parquet",
    f"{arguments.data}/item_info.parquet", batch_size=arguments.batch, shuffle=True, num_workers=1,
    max_len=arguments.length,
  )
  batches = iter(loader) if arguments.loader else iter(list(loader))
  seconds, losses = [], []
  for _ in range(1 + arguments.repeats):
    total, started = 0.0, time.perf_counter()
    for _ in range(arguments.steps):
      total += model.train_step(next(batches)).item()
    seconds.append(time.perf_counter() - started)
    losses.append(total / arguments.steps)
  print(json.dumps({
    "samples": arguments.steps * arguments.batch / float(np.median(seconds[1:])),
    "first_loss": losses[0], "last_loss": losses[-1],
    "version": importlib.metadata.version("fuxictr"), "torch": torch.__version__,
  }))


if __name__ == "__main__":
  main()
