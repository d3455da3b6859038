"""CLIP's dual encoder of pictures and texts, and its published weight files.

Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever,
"Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020.

    picture   patches are mapped and follow a class token; places are added, the sum is normalised;
              blocks of attention; the class token's state is normalised and projected
    text      words and places are added; causal blocks; states are normalised, and that of the end of
              the text, whose id is the largest, is projected

Blocks are pre-norm with QuickGELU, x sigmoid(1.702 x). Both results have length one, and
s = exp(logit_scale) is the scale of their products. Files are those that Hugging Face's `CLIPModel`
writes. A text tower without layers is ours, for small trainings: the mean of the vectors of the words.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.errors import DataError
from recjax.nn import weight_files
from recjax.nn.dense import Dense
from recjax.nn.encoder_block import EncoderBlock
from recjax.nn.multi_interest import normalize
from recjax.nn.weight_files import MATRIX, Layout, Tensor, affine, layer_norm

LEFT_OUT = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
_EPSILON = 1e-5  # of all layer norms
_FIRST_SCALE = np.log(1 / 0.07)
# Keys of either part of a published config.json whose other values would be another network.
_FIXED = {"hidden_act": "quick_gelu", "layer_norm_eps": _EPSILON}


class Stack(NamedTuple):
  """A stack of blocks: width of the states, number of blocks, their heads, width of feed-forward."""

  width: int
  layers: int
  heads: int = 1
  hidden: int = 1


class Sizes(NamedTuple):
  """Sizes of both towers.

  Attributes:
    picture: height and width of pictures, in pixels.
    patch: of a patch; must divide it.
    vision: blocks of the picture tower.
    vocabulary: number of tokens; 0 is padding where `text` has no layers.
    length: longest text, in tokens.
    text: blocks of the text tower; without layers, a bag of words.
    width: E, of the vectors.
    channels: of a pixel.
  """

  picture: int
  patch: int
  vision: Stack
  vocabulary: int
  length: int
  text: Stack
  width: int
  channels: int = 3


VIT_B_32 = Sizes(224, 32, Stack(768, 12, 12, 3072), 49_408, 77, Stack(512, 12, 8, 2048), 512)


def quick_gelu(x: jax.Array) -> jax.Array:
  """x sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


def _blocks(stack: Stack, x: jax.Array, causal: bool) -> jax.Array:
  """States x [B, L, D] through the blocks of a stack; everything is real."""
  mask = jnp.ones(x.shape[:2], bool)
  for layer in range(stack.layers):
    block = EncoderBlock(
      stack.heads, stack.hidden, 0.0, "pre", causal=causal, activation=quick_gelu,
      epsilon=_EPSILON, name=f"block_{layer}",
    )
    x = block(x, mask, train=False)
  return x


class PictureTower(nn.Module):
  """Pictures to states of the class token."""

  sizes: Sizes

  @nn.compact
  def __call__(self, pictures: jax.Array) -> jax.Array:
    """Pictures [B, S, S, C], as the weights want them scaled, to [B, D]."""
    patch, width = self.sizes.patch, self.sizes.vision.width
    rows, side, channels = len(pictures), self.sizes.picture // patch, self.sizes.channels
    x = pictures.reshape(rows, side, patch, side, patch, channels)
    x = jnp.moveaxis(x, 2, 3).reshape(rows, side * side, patch * patch * channels)
    x = Dense(width, use_bias=False, name="patch")(x)
    first = self.param("class", nn.initializers.normal(width**-0.5), (width,), jnp.float32)
    x = jnp.concatenate([jnp.broadcast_to(first, (rows, 1, width)), x], axis=1)
    x = x + nn.Embed(side * side + 1, width, name="position")(jnp.arange(side * side + 1))[None]
    x = nn.LayerNorm(_EPSILON, name="norm_before")(x)
    x = _blocks(self.sizes.vision, x, causal=False)
    return nn.LayerNorm(_EPSILON, name="norm_after")(x[:, 0])


class TextTower(nn.Module):
  """Texts to states of their ends, or to means of their words."""

  sizes: Sizes

  @nn.compact
  def __call__(self, ids: jax.Array) -> jax.Array:
    """Token ids [B, L], L at most `length`, to [B, D]; what follows the end of a text has no effect."""
    words = nn.Embed(self.sizes.vocabulary, self.sizes.text.width, name="word")(ids)
    if not self.sizes.text.layers:
      real = (ids != 0)[..., None].astype(words.dtype)
      return jnp.sum(words * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1.0)
    places = nn.Embed(self.sizes.length, self.sizes.text.width, name="position")
    x = _blocks(self.sizes.text, words + places(jnp.arange(ids.shape[1]))[None], causal=True)
    x = nn.LayerNorm(_EPSILON, name="norm_after")(x)
    return jnp.take_along_axis(x, jnp.argmax(ids, axis=1)[:, None, None], axis=1)[:, 0]


class Clip(nn.Module):
  """Both towers; weights of files fit its parameters, see `read_weights`."""

  sizes: Sizes

  def setup(self):
    self.vision, self.text = PictureTower(self.sizes), TextTower(self.sizes)
    self.picture_projection = Dense(self.sizes.width, use_bias=False)
    self.text_projection = Dense(self.sizes.width, use_bias=False)
    self.logit_scale = self.param(
      "logit_scale", nn.initializers.constant(_FIRST_SCALE), (), jnp.float32
    )

  def __call__(self, pictures: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Vectors [B, E] of pictures, vectors [B, E] of texts, and logit_scale."""
    return self.encode_pictures(pictures), self.encode_texts(ids), self.logit_scale

  def encode_pictures(self, pictures: jax.Array) -> jax.Array:
    """Vectors [B, E] of pictures [B, S, S, C]."""
    return normalize(self.picture_projection(self.vision(pictures)))

  def encode_texts(self, ids: jax.Array) -> jax.Array:
    """Vectors [B, E] of texts, token ids [B, L]."""
    return normalize(self.text_projection(self.text(ids)))


def sizes_of(config: Mapping[str, Any], place: str) -> Sizes:
  """Sizes from a published `config.json`, which `place` names in messages.

  Raises:
    DataError: a key is missing, or says that the network is another one.
  """
  stack = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
  wanted = {
    "vision_config": (*stack, "image_size", "patch_size"),
    "text_config": (*stack, "vocab_size", "max_position_embeddings"),
  }
  found = {part: config.get(part, {}) for part in wanted}
  missing = [f"{part}.{key}" for part in wanted for key in wanted[part] if key not in found[part]]
  if missing or "projection_dim" not in config:
    raise DataError(f"{place} lacks {', '.join(missing or ['projection_dim'])}.")
  for part, keys in found.items():
    for key, value in _FIXED.items():
      if keys.get(key, value) != value:
        raise DataError(f"{place}: {part}.{key} is {keys[key]!r}, and only {value!r} is known.")
  vision, text = found.values()
  return Sizes(
    vision["image_size"], vision["patch_size"], Stack(*(vision[key] for key in stack)),
    text["vocab_size"], text["max_position_embeddings"], Stack(*(text[key] for key in stack)),
    config["projection_dim"], vision.get("num_channels", 3),
  )


def tensors(sizes: Sizes) -> Iterator[Tensor]:
  """Every tensor of a file of this size that is read; `sizes.text` has layers."""
  patch, channels = sizes.patch, sizes.channels
  of_patches = Layout(
    lambda x: x.reshape(patch, patch, channels, -1).transpose(3, 2, 0, 1),
    lambda x: x.transpose(2, 3, 1, 0).reshape(patch * patch * channels, -1),
  )
  yield Tensor("logit_scale", ("logit_scale",))
  yield Tensor("visual_projection.weight", ("picture_projection/kernel",), MATRIX)
  yield Tensor("text_projection.weight", ("text_projection/kernel",), MATRIX)
  there = "vision_model.embeddings"
  yield Tensor(f"{there}.class_embedding", ("vision/class",))
  yield Tensor(f"{there}.patch_embedding.weight", ("vision/patch/kernel",), of_patches)
  yield Tensor(f"{there}.position_embedding.weight", ("vision/position/embedding",))
  yield from layer_norm("vision_model.pre_layrnorm", "vision/norm_before")  # so spelled in the files
  yield from layer_norm("vision_model.post_layernorm", "vision/norm_after")
  for name, here in (("token", "word"), ("position", "position")):
    yield Tensor(f"text_model.embeddings.{name}_embedding.weight", (f"text/{here}/embedding",))
  yield from layer_norm("text_model.final_layer_norm", "text/norm_after")
  for tower, stack in (("vision", sizes.vision), ("text", sizes.text)):
    for layer in range(stack.layers):
      there, here = f"{tower}_model.encoder.layers.{layer}", f"{tower}/block_{layer}"
      for short, name in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
        yield from affine(f"{there}.self_attn.{short}_proj", f"{here}/attention/{name}")
      yield from affine(f"{there}.mlp.fc1", f"{here}/ffn_in")
      yield from affine(f"{there}.mlp.fc2", f"{here}/ffn_out")
      yield from layer_norm(f"{there}.layer_norm1", f"{here}/attention_norm")
      yield from layer_norm(f"{there}.layer_norm2", f"{here}/ffn_norm")


def read_weights(path: str | os.PathLike, sizes: Sizes) -> dict[str, Any]:
  """Parameters of `Clip(sizes)` from a safetensors file; see `weight_files.read`."""
  return weight_files.read(path, tensors(sizes), our_shapes(sizes), left_out=LEFT_OUT)


def our_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
  """Shape of every parameter by its path; nothing is allocated."""
  side = sizes.picture
  pictures = jax.ShapeDtypeStruct((1, side, side, sizes.channels), jnp.float32)
  ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  tree = jax.eval_shape(Clip(sizes).init, jax.random.key(0), pictures, ids)
  return weight_files.shapes_of(tree["params"])
