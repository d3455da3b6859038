"""The view for text-to-image models: samples with their prompts, whoever compared them."""

import dataclasses

import numpy as np

from recjax.data.preference_table import PreferenceTable
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Cases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "samples"
  held_out: float = 0.05  # share of samples for validation, and as much again for the test
  mirror: bool = False  # show every training sample also mirrored from left to right
  seed: Count = 0  # of the choice of held-out samples

  def __post_init__(self):
    if not 0 < self.held_out < 0.5:
      raise ConfigError(f"config.view.held_out is a share above 0 and below 0.5, not {self.held_out}.")


def build(config: Config, data: PreferenceTable, split: None) -> View:
  """Rows of fields sample [B, H, W, C] and text_NAME [B, ...]."""
  del split
  if not isinstance(data, PreferenceTable):
    raise DataError("The view 'samples' needs a table of preferences between samples.")
  count = len(data.samples)
  held = max(1, round(config.held_out * count))
  order = np.random.default_rng(config.seed).permutation(count).astype(np.int32)
  train = _rows(data, order[2 * held :], config.mirror)
  facts = {"train_rows": train.count}
  parts = (_cases(data, order[start : start + held]) for start in (0, held))
  return View(train, *parts, {}, facts)


def _rows(data: PreferenceTable, which: np.ndarray, mirror: bool = False) -> Rows:
  shape = data.samples.shape[1:]
  fields = {"sample": Field("vector", shape)}
  fields |= {f"text_{name}": Field("vector", x.shape[1:]) for name, x in data.prompts.items()}
  columns = {"which": which, "samples": data.samples, "prompt": data.prompt}
  columns |= {f"text_{name}": x for name, x in data.prompts.items()}
  count = len(which)

  def gather(xp, columns, index):
    row = columns["which"][index % count]
    sample = columns["samples"][row]
    if mirror:
      sample = xp.where((index < count)[:, None, None, None], sample, sample[:, :, ::-1])
    prompt = columns["prompt"][row]
    return {"sample": sample} | {f"text_{n}": columns[f"text_{n}"][prompt] for n in data.prompts}

  return Rows(count * (1 + mirror), columns, gather, Schema(fields, {}))


def _cases(data: PreferenceTable, which: np.ndarray) -> Cases:
  none = np.zeros((len(which), 0), np.int32)
  return Cases(_rows(data, which), which, none, lambda index: none[index])
