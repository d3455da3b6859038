"""Trees of arrays as flat safetensors files: readable without recjax, and never executable."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recjax.errors import RecjaxError, writing


def save_arrays(path: pathlib.Path, tree: Mapping[str, Any]) -> None:
  """Writes a nested dict of arrays; names are paths joined by '/'. Complete or not at all."""
  from safetensors.numpy import save_file

  flat = {
    jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(a, order="C")
    for p, a in jax.tree_util.tree_leaves_with_path(tree)
  }
  partial = path.with_name(f".{path.name}.partial")
  mask = os.umask(0)
  os.umask(mask)
  with writing(path):
    save_file(flat, partial)
    os.chmod(partial, 0o666 & ~mask)  # safetensors makes files that only their owner can read
    os.replace(partial, path)


def load_arrays(path: pathlib.Path) -> dict[str, Any]:
  """Reads what `save_arrays` wrote, nested again."""
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  try:
    flat = load_file(path)
  except (OSError, SafetensorError) as error:
    raise RecjaxError(f"{path} cannot be read as safetensors: {error}.") from error
  tree: dict[str, Any] = {}
  for name, array in flat.items():
    *parents, leaf = name.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = array
  return tree
