"""The denoiser against NumPy, its parameters, and attention to a single key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.decoupled_attention import attend
from recjax.nn.interest_generators import InterestAutoencoder, InterestDenoiser, waves

rng = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_parameters_of_a_block():
  # 4 x 40^2 attention, 2 x 40^2 for the channel, 9,760 feed-forward, three norms; the paper's code
  # has 2 x 40^2 more, queries and keys of a softmax over one key.
  shapes = jax.eval_shape(
    InterestDenoiser(layers=1).init, jax.random.key(0), jnp.zeros((2, 4, 40)),
    jnp.zeros((2, 4), jnp.int32), jnp.zeros((2, 4, 40)), jnp.zeros((2, 4, 40)),
  )["params"]
  count = lambda name: sum(leaf.size for leaf in jax.tree.leaves(shapes[name]))
  total = sum(map(count, ("block_0", "channel_value_0", "channel_output_0")))
  assert total == 22_800 - 2 * 40**2
  assert count("time_hidden") + count("time") == 40 * 160 + 160 + 160 * 40 + 40


def test_one_key_makes_the_query_irrelevant():
  query, key, value = normal(5, 3, 8), normal(5, 1, 8), normal(5, 1, 8)
  made = attend(query, key, value, 2)
  np.testing.assert_allclose(made, np.broadcast_to(value, made.shape), rtol=1e-6)


def layer_norm(x, p):
  centred = x - x.mean(-1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  return scaled * p["scale"] + p["bias"]


def linear(x, p):
  return x @ p["kernel"] + p.get("bias", 0.0)


def twin(params, noised, time, context, channels, layers, heads):
  """Prediction [K, D] of one user, every row of every block computed, channel by channel."""
  count, width = noised.shape
  made = np.zeros_like(noised)
  for i in range(count):
    wave = linear(np.asarray(waves(jnp.asarray(time[i]), width)), params["time_hidden"])
    wave = linear(wave / (1 + np.exp(-wave)), params["time"])
    x = context.copy()
    x[i] = noised[i]
    x = x + wave
    for layer in range(layers):
      p = params[f"block_{layer}"]
      q, k, v = (linear(x, p[name]) for name in ("query", "key", "value"))
      mixed = np.zeros_like(x)
      size = width // heads
      for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        scores = np.exp(q[:, own] @ k[:, own].T / np.sqrt(size))
        mixed[:, own] = scores / scores.sum(1, keepdims=True) @ v[:, own]
      x = layer_norm(x + linear(mixed, p["mix"]), p["norm_attention"])
      condition = linear(channels[i], params[f"channel_value_{layer}"])
      x = layer_norm(x + linear(condition, params[f"channel_output_{layer}"]), p["norm_condition"])
      hidden = np.maximum(linear(x, p["hidden"]), 0)
      x = layer_norm(x + linear(hidden, p["output"]), p["norm_output"])
    made[i] = x[i]
  return made


@pytest.mark.parametrize("layers", [1, 2])
def test_denoiser_against_numpy(layers):
  inputs = normal(2, 3, 8), jnp.array([[0, 9, 99], [999, 5, 5]]), normal(2, 3, 8), normal(2, 3, 8)
  network = InterestDenoiser(layers=layers, heads=2)
  shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  params = jax.tree.map(lambda leaf: 0.5 * normal(*leaf.shape), shapes)
  made = jax.jit(network.apply)(params, *inputs)
  plain = jax.tree.map(np.asarray, params["params"])
  for b in range(2):
    one = twin(plain, *(np.array(x[b]) for x in inputs), layers, 2)
    np.testing.assert_allclose(made[b], one, rtol=2e-4, atol=2e-4)


def test_waves():
  made = waves(jnp.array([0, 9]), 4)
  np.testing.assert_allclose(made[0], [0, 0, 1, 1], atol=1e-6)
  np.testing.assert_allclose(made[1], [np.sin(9), np.sin(0.09), np.cos(9), np.cos(0.09)], atol=1e-5)
  assert waves(jnp.array([3]), 5).shape == (1, 5)


def test_autoencoder_divergence_by_hand():
  network = InterestAutoencoder()
  interests, channels = normal(2, 1, 4), normal(2, 1, 4)
  params = network.init(jax.random.key(0), interests, channels, None)
  encode = params["params"]["encode"]
  encode["kernel"] = jnp.zeros_like(encode["kernel"])
  # Mean 1 and variance e^0.5 in each of four dimensions.
  encode["bias"] = jnp.concatenate([jnp.ones(4), jnp.full(4, 0.5)])
  made, divergence = network.apply(params, interests, channels, None)
  np.testing.assert_allclose(divergence, 0.5 * 4 * (1 + np.exp(0.5) - 1 - 0.5), rtol=1e-6)
  drawn, _ = network.apply(params, interests, channels, jax.random.key(1))
  assert np.abs(drawn - made).max() > 1e-3
