"""BERT's encoder, and its published weight files.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", NAACL 2019, arXiv 1810.04805. Words, places and the kind of the first sentence are
looked up, summed and normalised; then blocks of attention among all real tokens and of a feed-forward
network with the exact GELU, each with its sum normalised after it. The pooler is left out.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.errors import DataError
from recjax.nn import weight_files
from recjax.nn.encoder_block import EncoderBlock
from recjax.nn.weight_files import Tensor, affine, layer_norm

LEFT_OUT = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
# Keys of a published config.json whose other values would be another network.
_FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "model_type": "bert"}


class Sizes(NamedTuple):
  """Sizes of the network.

  Attributes:
    vocabulary: number of tokens.
    width: D, of the states.
    layers: number of blocks.
    heads: of each attention.
    hidden: width within the feed-forward networks.
    positions: longest text, in tokens.
    kinds: of sentences; every token here is of kind 0.
    epsilon: added to variances by the layer norms.
  """

  vocabulary: int
  width: int
  layers: int
  heads: int
  hidden: int
  positions: int
  kinds: int = 2
  epsilon: float = 1e-12


def sizes_of(config: Mapping[str, Any], place: str) -> Sizes:
  """Sizes from a published `config.json`, which `place` names in messages.

  Raises:
    DataError: a key is missing, or says that the network is another one.
  """
  for key, value in _FIXED.items():
    if config.get(key, value) != value:
      raise DataError(f"{place}: {key} is {config[key]!r}, and only {value!r} is known.")
  keys = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
  )
  missing = [key for key in keys if key not in config]
  if missing:
    raise DataError(f"{place} lacks {', '.join(missing)}.")
  return Sizes(*(config[key] for key in keys))


class Bert(nn.Module):
  """The encoder; weights of files fit its parameters, see `read_weights`."""

  sizes: Sizes

  @nn.compact
  def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Token ids [B, L], real where mask [B, L], to states [B, L, D]; L is at most `positions`."""
    sizes = self.sizes
    words = nn.Embed(sizes.vocabulary, sizes.width, name="word")(ids)
    places = nn.Embed(sizes.positions, sizes.width, name="position")(jnp.arange(ids.shape[1]))[None]
    kinds = nn.Embed(sizes.kinds, sizes.width, name="kind")(jnp.zeros_like(ids))
    x = nn.LayerNorm(sizes.epsilon, name="norm")(words + places + kinds)
    for layer in range(sizes.layers):
      block = EncoderBlock(
        sizes.heads, sizes.hidden, 0.0, "post", causal=False, epsilon=sizes.epsilon,
        activation=functools.partial(nn.gelu, approximate=False), name=f"block_{layer}",
      )
      x = block(x, mask, train=False)
    return x


def tensors(sizes: Sizes) -> Iterator[Tensor]:
  """Every tensor of a file of this size that is read."""
  for there, here in (("word", "word"), ("position", "position"), ("token_type", "kind")):
    yield Tensor(f"embeddings.{there}_embeddings.weight", (f"{here}/embedding",))
  yield from layer_norm("embeddings.LayerNorm", "norm")
  for layer in range(sizes.layers):
    there, here = f"encoder.layer.{layer}", f"block_{layer}"
    for name in ("query", "key", "value"):
      yield from affine(f"{there}.attention.self.{name}", f"{here}/attention/{name}")
    yield from affine(f"{there}.attention.output.dense", f"{here}/attention/output")
    yield from layer_norm(f"{there}.attention.output.LayerNorm", f"{here}/attention_norm")
    yield from affine(f"{there}.intermediate.dense", f"{here}/ffn_in")
    yield from affine(f"{there}.output.dense", f"{here}/ffn_out")
    yield from layer_norm(f"{there}.output.LayerNorm", f"{here}/ffn_norm")


def read_weights(path: str | os.PathLike, sizes: Sizes) -> dict[str, Any]:
  """Parameters of `Bert(sizes)` from a safetensors file; see `weight_files.read`."""
  return weight_files.read(path, tensors(sizes), our_shapes(sizes), left_out=LEFT_OUT)


def our_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
  """Shape of every parameter by its path."""
  ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 1), jnp.bool_)
  tree = jax.eval_shape(Bert(sizes).init, jax.random.key(0), ids, mask)
  return weight_files.shapes_of(tree["params"])
