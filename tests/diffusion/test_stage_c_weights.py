"""Stage C's files: the complete list of tensors, round trips, and files that do not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import stage_c_twin as twin
from safetensors.numpy import load_file, save_file

from recjax.diffusion.stage_c import FULL, LITE, Config, build_stage_c
from recjax.diffusion.stage_c_weights import file_shapes, read_weights, tensors, write_weights
from recjax.errors import DataError

TINY = Config(
  width=64, condition_width=32, heads=4, down=(1, 1), up=(1, 1), text_width=20, image_width=12, side=4
)
SHAPES = twin.shapes(64, 32, (1, 1), (1, 1), text=20, image=12)


@pytest.mark.parametrize("config, count, size", [
  (FULL, 3_589_103_632, (2048, 2048, (8, 24), (24, 8))),
  (LITE, 1_030_785_040, (1536, 1536, (4, 12), (12, 4))),
  (dataclasses.replace(LITE, condition_width=2048), 1_060_805_136, (1536, 2048, (4, 12), (12, 4))),
], ids=["full", "lite", "lite with a wider condition"])
def test_every_tensor_of_a_published_file(config, count, size):
  found = file_shapes(config)
  assert found == twin.shapes(*size)
  assert sum(np.prod(shape, dtype=np.int64) for shape in found.values()) == count


def test_every_parameter_is_in_one_tensor():
  leaves = jax.tree_util.tree_leaves_with_path(
    jax.eval_shape(build_stage_c(TINY).init, jax.random.key(0))
  )
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
  assert sorted(path for tensor in tensors(TINY) for path in tensor.paths) == sorted(names)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_round_trip_to_the_bit(tmp_path, dtype):
  content = twin.random_tensors(0, SHAPES, dtype)
  save_file(content, tmp_path / "a.safetensors")
  params = read_weights(tmp_path / "a.safetensors", TINY)
  assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
  write_weights(tmp_path / "b.safetensors", jax.tree.map(jnp.asarray, params), TINY)
  again = load_file(tmp_path / "b.safetensors")
  assert again.keys() == content.keys()
  for name, values in content.items():
    assert again[name].dtype == dtype
    np.testing.assert_array_equal(again[name].view(np.uint8), values.view(np.uint8), err_msg=name)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_layouts_by_hand_and_a_cast(tmp_path):
  content = twin.random_tensors(1, SHAPES, ml_dtypes.bfloat16)
  save_file(content, tmp_path / "a.safetensors")
  params = read_weights(tmp_path / "a.safetensors", TINY, jnp.float32)
  assert all(leaf.dtype == np.float32 and leaf.flags.c_contiguous for leaf in jax.tree.leaves(params))
  half = read_weights(tmp_path / "a.safetensors", TINY, jnp.bfloat16)
  np.testing.assert_array_equal(half["embed"]["kernel"].astype(np.float32), params["embed"]["kernel"])
  block, at = params["up_1_0"], "up_blocks.1"
  depthwise = content[f"{at}.0.depthwise.weight"].astype(np.float32)
  assert block["convolution"]["depthwise"]["kernel"].shape == (3, 3, 1, 64)
  assert block["convolution"]["depthwise"]["kernel"][0, 2, 0, 5] == depthwise[5, 0, 0, 2]
  joint = content[f"{at}.2.attention.attn.in_proj_weight"].astype(np.float32)
  np.testing.assert_array_equal(block["attention"]["key"]["kernel"], joint[64:128].T)
  embed = content["embedding.1.weight"].astype(np.float32)
  np.testing.assert_array_equal(params["embed"]["kernel"], embed[:, :, 0, 0].T)


def spoil(remove=(), add=None):
  content = twin.random_tensors(0, SHAPES)
  for name in remove:
    del content[name]
  return {**content, **(add or {})}


@pytest.mark.parametrize("remove, add, message", [
  (["clf.1.bias"], {}, r"lacks 'clf.1.bias'\.$"),
  (["clf.1.bias"], {"clf.2.bias": (16,)}, "lacks 'clf.1.bias'; .* differ: clf.2.bias"),
  (["clf.1.bias", "embedding.1.bias"], {}, r"lacks 'clf.1.bias' and 1 more\.$"),
  ([], {"down_blocks.0.3.depthwise.bias": (64,)}, "has an unknown 'down_blocks.0.3.depthwise.bias'"),
  ([], {"clf.1.bias": (8,)}, r"has 'clf.1.bias' of shape \[8\], not \[16\]\.$"),
  ([], {"clf.1.bias": (8,), "clf.1.weight": (16, 64)}, r"and 1 more do not fit\.$"),
])
def test_files_that_do_not_fit(tmp_path, remove, add, message):
  path = tmp_path / "a.safetensors"
  save_file(spoil(remove, {name: np.zeros(shape, np.float32) for name, shape in add.items()}), path)
  with pytest.raises(DataError, match=message) as error:
    read_weights(path, TINY)
  assert str(path) in str(error.value)


def test_files_that_are_none(tmp_path):
  with pytest.raises(DataError, match="cannot be read as safetensors"):
    read_weights(tmp_path / "absent.safetensors", TINY)
  (tmp_path / "text.safetensors").write_text("no tensors here")
  with pytest.raises(DataError, match="text.safetensors cannot be read as safetensors"):
    read_weights(tmp_path / "text.safetensors", TINY)


def test_parameters_of_another_size_are_not_written(tmp_path):
  save_file(spoil(), tmp_path / "a.safetensors")
  params = read_weights(tmp_path / "a.safetensors", TINY)
  with pytest.raises(DataError, match="params lacks 'down_1_1/.*' and 23 more"):
    write_weights(tmp_path / "b.safetensors", params, dataclasses.replace(TINY, down=(1, 2)))
  assert not (tmp_path / "b.safetensors").exists()
