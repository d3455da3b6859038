"""Stage C's published weight files and our parameters, one to the other.

A file (`stage_c_bf16.safetensors`, `stage_c_lite_bf16.safetensors`) has PyTorch's names and layouts:
matrices are [out, in], 1x1 convolutions [out, in, 1, 1], the depthwise one [C, 1, 3, 3]; query, key and
value of an attention are one matrix [3 C, C]. Every tensor of a file is used once, and every parameter
comes from one; a file that does not fit is refused before anything is read.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from recjax.diffusion.stage_c import CONDITIONS, Config, build_stage_c
from recjax.nn import weight_files
from recjax.nn.weight_files import MATRIX, VECTOR, Layout, Tensor, affine

POINTWISE = Layout(lambda x: x.T[:, :, None, None], lambda x: x[:, :, 0, 0].T)
DEPTHWISE = Layout(lambda x: x.transpose(3, 2, 0, 1), lambda x: x.transpose(2, 3, 1, 0))
CHANNELS = Layout(lambda x: x[None, None, None], lambda x: x[0, 0, 0])


def tensors(config: Config) -> Iterator[Tensor]:
  """Every tensor of a file of this size."""
  yield from affine("clip_txt_mapper", "text")
  yield from affine("clip_txt_pooled_mapper", "pooled")
  yield from affine("clip_img_mapper", "image")
  yield from affine("embedding.1", "embed", POINTWISE)
  yield from affine("down_downscalers.1.1.blocks.0", "down_map", POINTWISE)
  yield from affine("up_upscalers.0.1.blocks.1", "up_map", POINTWISE)
  yield from affine("clf.1", "noise", POINTWISE)
  for way, counts in (("down", config.down), ("up", config.up)):
    for level, count in enumerate(counts):
      for index in range(count):
        layer = lambda number, at=f"{way}_blocks.{level}", first=3 * index: f"{at}.{first + number}"
        yield from _block(layer, f"{way}_{level}_{index}")


def _block(layer: Callable[[int], str], ours: str) -> Iterator[Tensor]:
  """The tensors of layers C, T and A, whose names there begin with `layer(0)`, `(1)` and `(2)`."""
  there, here = layer(0), f"{ours}/convolution"
  yield from affine(f"{there}.depthwise", f"{here}/depthwise", DEPTHWISE)
  yield from affine(f"{there}.channelwise.0", f"{here}/widen")
  for name in ("gamma", "beta"):
    yield Tensor(f"{there}.channelwise.2.{name}", (f"{here}/response/{name}",), CHANNELS)
  yield from affine(f"{there}.channelwise.4", f"{here}/narrow")
  for condition in CONDITIONS:
    mapper = "mapper" if condition == "time" else f"mapper_{condition}"
    yield from affine(f"{layer(1)}.{mapper}", f"{ours}/time/{condition}")
  there, here = layer(2), f"{ours}/attention"
  for name, ending, layout in (("in_proj_weight", "kernel", MATRIX), ("in_proj_bias", "bias", VECTOR)):
    paths = tuple(f"{here}/{part}/{ending}" for part in ("query", "key", "value"))
    yield Tensor(f"{there}.attention.attn.{name}", paths, layout)
  yield from affine(f"{there}.attention.attn.out_proj", f"{here}/output")
  yield from affine(f"{there}.kv_mapper.1", f"{here}/condition")


def file_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  """Shape of every tensor of a file of this size, by name; makes no arrays."""
  return weight_files.file_shapes(tensors(config), _our_shapes(config))


def read_weights(path: str | os.PathLike, config: Config, dtype: Any = None) -> dict[str, Any]:
  """Parameters of `StageC(config)` from a file with the published names; see `weight_files.read`."""
  return weight_files.read(path, tensors(config), _our_shapes(config), dtype)


def check_weights(path: str | os.PathLike, config: Config) -> None:
  """Raises what `read_weights` would raise about names and shapes, without reading arrays."""
  with weight_files.opened(path, file_shapes(config)):
    pass


def write_weights(path: str | os.PathLike, params: Mapping[str, Any], config: Config) -> None:
  """Writes what `read_weights` reads; see `weight_files.write`."""
  weight_files.write(path, params, tensors(config), _our_shapes(config))


def _our_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  return weight_files.shapes_of(jax.eval_shape(build_stage_c(config).init, jax.random.key(0)))
