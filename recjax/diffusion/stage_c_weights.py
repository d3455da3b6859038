"""Stage C's published weight files and our parameters, one to the other.

A file (`stage_c_bf16.safetensors`, `stage_c_lite_bf16.safetensors`) has PyTorch's names and layouts:
matrices are [out, in], 1x1 convolutions [out, in, 1, 1], the depthwise one [C, 1, 3, 3]; query, key and
value of an attention are one matrix [3 C, C]. Every tensor of a file is used once, and every parameter
comes from one; a file that does not fit is refused before anything is read.
"""

import contextlib
import difflib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.diffusion.stage_c import CONDITIONS, Config, build_stage_c
from recjax.errors import DataError


class Layout(NamedTuple):
  """How an array of ours lies in a file."""

  to_file: Callable[[np.ndarray], np.ndarray]
  from_file: Callable[[np.ndarray], np.ndarray]


VECTOR = Layout(lambda x: x, lambda x: x)
MATRIX = Layout(lambda x: x.T, lambda x: x.T)
POINTWISE = Layout(lambda x: x.T[:, :, None, None], lambda x: x[:, :, 0, 0].T)
DEPTHWISE = Layout(lambda x: x.transpose(3, 2, 0, 1), lambda x: x.transpose(2, 3, 1, 0))
CHANNELS = Layout(lambda x: x[None, None, None], lambda x: x[0, 0, 0])


class Tensor(NamedTuple):
  """A tensor of a file.

  Attributes:
    name: its name there.
    paths: the parameters that it holds, one after the other along its first axis.
    layout: of each of them.
  """

  name: str
  paths: tuple[str, ...]
  layout: Layout


def tensors(config: Config) -> Iterator[Tensor]:
  """Every tensor of a file of this size."""
  yield from _affine("clip_txt_mapper", "text")
  yield from _affine("clip_txt_pooled_mapper", "pooled")
  yield from _affine("clip_img_mapper", "image")
  yield from _affine("embedding.1", "embed", POINTWISE)
  yield from _affine("down_downscalers.1.1.blocks.0", "down_map", POINTWISE)
  yield from _affine("up_upscalers.0.1.blocks.1", "up_map", POINTWISE)
  yield from _affine("clf.1", "noise", POINTWISE)
  for way, counts in (("down", config.down), ("up", config.up)):
    for level, count in enumerate(counts):
      for index in range(count):
        layer = lambda number, at=f"{way}_blocks.{level}", first=3 * index: f"{at}.{first + number}"
        yield from _block(layer, f"{way}_{level}_{index}")


def _block(layer: Callable[[int], str], ours: str) -> Iterator[Tensor]:
  """The tensors of layers C, T and A, whose names there begin with `layer(0)`, `(1)` and `(2)`."""
  there, here = layer(0), f"{ours}/convolution"
  yield from _affine(f"{there}.depthwise", f"{here}/depthwise", DEPTHWISE)
  yield from _affine(f"{there}.channelwise.0", f"{here}/widen")
  for name in ("gamma", "beta"):
    yield Tensor(f"{there}.channelwise.2.{name}", (f"{here}/response/{name}",), CHANNELS)
  yield from _affine(f"{there}.channelwise.4", f"{here}/narrow")
  for condition in CONDITIONS:
    mapper = "mapper" if condition == "time" else f"mapper_{condition}"
    yield from _affine(f"{layer(1)}.{mapper}", f"{ours}/time/{condition}")
  there, here = layer(2), f"{ours}/attention"
  for name, ending, layout in (("in_proj_weight", "kernel", MATRIX), ("in_proj_bias", "bias", VECTOR)):
    paths = tuple(f"{here}/{part}/{ending}" for part in ("query", "key", "value"))
    yield Tensor(f"{there}.attention.attn.{name}", paths, layout)
  yield from _affine(f"{there}.attention.attn.out_proj", f"{here}/output")
  yield from _affine(f"{there}.kv_mapper.1", f"{here}/condition")


def _affine(there: str, here: str, layout: Layout = MATRIX) -> Iterator[Tensor]:
  yield Tensor(f"{there}.weight", (f"{here}/kernel",), layout)
  yield Tensor(f"{there}.bias", (f"{here}/bias",), VECTOR)


def file_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  """Shape of every tensor of a file of this size, by name; makes no arrays."""
  ours = _our_shapes(config)
  shapes = {}
  for tensor in tensors(config):
    # An array of one number shows what the layout does to a shape.
    parts = [tensor.layout.to_file(np.broadcast_to(np.int8(0), ours[p])).shape for p in tensor.paths]
    shapes[tensor.name] = (sum(part[0] for part in parts), *parts[0][1:])
  return shapes


def read_weights(path: str | os.PathLike, config: Config, dtype: Any = None) -> dict[str, Any]:
  """Parameters of `StageC(config)` from a file, as NumPy arrays.

  The file is mapped into memory and read tensor by tensor: held are the parameters and one tensor.

  Args:
    path: a safetensors file with the published names.
    config: sizes of the network.
    dtype: of the parameters, for example `jnp.bfloat16`; by default the file's own.

  Raises:
    DataError: if the file cannot be read, lacks a tensor, has one too many, or one of another shape.
  """
  params: dict[str, Any] = {}
  with _opened(path, config) as file:
    for tensor in tensors(config):
      for name, part in zip(
        tensor.paths, np.split(file.get_tensor(tensor.name), len(tensor.paths)), strict=True
      ):
        part = tensor.layout.from_file(part)
        # A copy, so that a part does not keep the whole of what it was read from.
        _put(params, name, np.array(part, dtype or part.dtype, order="C"))
  return params


def check_weights(path: str | os.PathLike, config: Config) -> None:
  """Raises what `read_weights` would raise about names and shapes, without reading arrays."""
  with _opened(path, config):
    pass


@contextlib.contextmanager
def _opened(path, config):
  """The file, if its tensors are those of `config`."""
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, framework="numpy") as file:
      found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
      _compare(path, file_shapes(config), found)
      yield file
  except (OSError, SafetensorError) as error:
    raise DataError(f"{path} cannot be read as safetensors: {error}.") from error


def write_weights(path: str | os.PathLike, params: Mapping[str, Any], config: Config) -> None:
  """Writes what `read_weights` reads, complete or not at all; needs memory for a second copy.

  Raises:
    DataError: if `params` are not those of `config`.
  """
  from safetensors.numpy import save_file

  ours = {
    jax.tree_util.keystr(p, simple=True, separator="/"): leaf
    for p, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  _compare("params", _our_shapes(config), {name: leaf.shape for name, leaf in ours.items()})
  flat = {}
  for tensor in tensors(config):
    parts = [tensor.layout.to_file(np.asarray(ours[name])) for name in tensor.paths]
    # safetensors writes memory as it lies, and a joint of transposed matrices lies transposed.
    flat[tensor.name] = np.ascontiguousarray(np.concatenate(parts))
  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.partial")
  save_file(flat, partial)
  os.replace(partial, path)


def _our_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  tree = jax.eval_shape(build_stage_c(config).init, jax.random.key(0))
  return {
    jax.tree_util.keystr(p, simple=True, separator="/"): leaf.shape
    for p, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


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
