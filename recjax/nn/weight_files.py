"""Published weight files (safetensors) and our parameters, one to the other, by a map of names.

A model says once which tensor of a file holds which parameters and how they lie there (`Tensor`);
reading, writing and refusing a file that does not fit follow from that. Every tensor of a file is used
once, or named as left out, and every parameter comes from one.
"""

import contextlib
import difflib
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.errors import DataError


class Layout(NamedTuple):
  """How an array of ours lies in a file."""

  to_file: Callable[[np.ndarray], np.ndarray]
  from_file: Callable[[np.ndarray], np.ndarray]


VECTOR = Layout(lambda x: x, lambda x: x)
MATRIX = Layout(lambda x: x.T, lambda x: x.T)  # PyTorch's linear maps are [out, in]


class Tensor(NamedTuple):
  """A tensor of a file.

  Attributes:
    name: its name there.
    paths: the parameters that it holds, one after the other along its first axis.
    layout: of each of them.
  """

  name: str
  paths: tuple[str, ...]
  layout: Layout = VECTOR


def affine(there: str, here: str, layout: Layout = MATRIX) -> Iterator[Tensor]:
  """Weight and bias of a linear map `there`, of which `here` is the Flax module."""
  yield Tensor(f"{there}.weight", (f"{here}/kernel",), layout)
  yield Tensor(f"{there}.bias", (f"{here}/bias",))


def layer_norm(there: str, here: str) -> Iterator[Tensor]:
  """Weight and bias of a layer norm `there`, of which `here` is the Flax module."""
  yield Tensor(f"{there}.weight", (f"{here}/scale",))
  yield Tensor(f"{there}.bias", (f"{here}/bias",))


def shapes_of(params: Any) -> dict[str, tuple[int, ...]]:
  """Shape of every leaf of a tree of arrays, by its path."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }


def file_shapes(
  tensors: Iterable[Tensor], ours: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
  """Shape of every tensor of a file, by name, for parameters of shapes `ours`; makes no arrays."""
  shapes = {}
  for tensor in tensors:
    # An array of one number shows what the layout does to a shape.
    parts = [tensor.layout.to_file(np.broadcast_to(np.int8(0), ours[p])).shape for p in tensor.paths]
    joined = (sum(part[0] for part in parts), *parts[0][1:]) if len(parts) > 1 else parts[0]
    shapes[tensor.name] = joined
  return shapes


def read(
  path: str | os.PathLike,
  tensors: Iterable[Tensor],
  ours: Mapping[str, tuple[int, ...]],
  dtype: Any = None,
  left_out: Collection[str] = (),
) -> dict[str, Any]:
  """Parameters of shapes `ours` from a file, as a tree of NumPy arrays.

  The file is mapped into memory and read tensor by tensor: held are the parameters and one tensor.

  Args:
    path: the file.
    tensors: what each tensor holds.
    ours: shape of every parameter by its path.
    dtype: of the parameters, for example `jnp.bfloat16`; by default the file's own.
    left_out: names of tensors that a file may have and nobody reads.

  Raises:
    DataError: if the file cannot be read, lacks a tensor, has one too many, or one of another shape.
  """
  tensors = tuple(tensors)
  params: dict[str, Any] = {}
  with opened(path, file_shapes(tensors, ours), left_out) as file:
    for tensor in tensors:
      whole, several = file.get_tensor(tensor.name), len(tensor.paths)
      parts = np.split(whole, several) if several > 1 else [whole]  # a number cannot be split
      for name, part in zip(tensor.paths, parts, strict=True):
        part = tensor.layout.from_file(part)
        # A copy, so that a part does not keep the whole of what it was read from.
        _put(params, name, np.array(part, dtype or part.dtype, order="C"))
  return params


@contextlib.contextmanager
def opened(
  path: str | os.PathLike, wanted: Mapping[str, tuple[int, ...]], left_out: Collection[str] = ()
) -> Iterator[Any]:
  """The open file, if its tensors are those wanted; raises as `read`."""
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, framework="numpy") as file:
      names = [name for name in file.keys() if name not in left_out]
      _compare(path, wanted, {name: tuple(file.get_slice(name).get_shape()) for name in names})
      yield file
  except (OSError, SafetensorError) as error:
    raise DataError(f"{path} cannot be read as safetensors: {error}.") from error


def write(
  path: str | os.PathLike,
  params: Mapping[str, Any],
  tensors: Iterable[Tensor],
  shapes: Mapping[str, tuple[int, ...]],
) -> None:
  """Writes what `read` reads, complete or not at all; needs memory for a second copy.

  Raises:
    DataError: if `params` are not of these shapes.
  """
  from safetensors.numpy import save_file

  _compare("params", shapes, shapes_of(params))
  ours = {
    jax.tree_util.keystr(p, simple=True, separator="/"): leaf
    for p, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  flat = {}
  for tensor in tensors:
    parts = [tensor.layout.to_file(np.asarray(ours[name])) for name in tensor.paths]
    # safetensors writes memory as it lies, and a joint of transposed matrices lies transposed.
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    flat[tensor.name] = np.array(whole, order="C")
  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.partial")
  save_file(flat, partial)
  os.replace(partial, path)


def _put(tree: dict[str, Any], path: str, leaf: np.ndarray) -> None:
  *parents, last = path.split("/")
  for parent in parents:
    tree = tree.setdefault(parent, {})
  tree[last] = leaf


def _compare(where: Any, wanted: Mapping[str, tuple], found: Mapping[str, tuple]) -> None:
  """Raises DataError unless both have the same names with the same shapes."""
  for names, others, says in (
    (wanted.keys() - found.keys(), found.keys() - wanted.keys(), "lacks"),
    (found.keys() - wanted.keys(), wanted.keys() - found.keys(), "has an unknown"),
  ):
    if names:
      first = min(names)
      nearest = difflib.get_close_matches(first, sorted(others), n=3, cutoff=0.0)
      more = f" and {len(names) - 1} more" if len(names) > 1 else ""
      hint = f"; nearest where they differ: {', '.join(nearest)}" if nearest else ""
      raise DataError(f"{where} {says} {first!r}{more}{hint}.")
  wrong = {name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]}
  if wrong:
    name, (has, needs) = next(iter(wrong.items()))
    more = f" and {len(wrong) - 1} more do not fit" if len(wrong) > 1 else ""
    raise DataError(f"{where} has {name!r} of shape {list(has)}, not {list(needs)}{more}.")
