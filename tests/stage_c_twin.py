"""Stage C a second time, from the names in its weight files: shapes, random files, and plain NumPy."""

import math

import numpy as np


def shapes(width, condition, down, up, text=1280, image=768, time=64, channels=16):
  """Name -> shape of every tensor of a file, as PyTorch's modules would list them."""
  found = {}

  def linear(name, inputs, outputs):
    found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)

  def conv(name, inputs, outputs, size=1):
    found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs, size, size), (outputs,)

  linear("clip_txt_mapper", text, condition)
  linear("clip_txt_pooled_mapper", text, condition * 4)
  linear("clip_img_mapper", image, condition * 4)
  conv("embedding.1", channels, width)
  conv("down_downscalers.1.1.blocks.0", width, width)
  conv("up_upscalers.0.1.blocks.1", width, width)
  conv("clf.1", width, channels)
  for way, counts in (("down_blocks", down), ("up_blocks", up)):
    for level, count in enumerate(counts):
      for number in range(3 * count):
        at = f"{way}.{level}.{number}"
        if number % 3 == 0:
          skip = width if way == "up_blocks" and level == 1 and number == 0 else 0
          conv(f"{at}.depthwise", 1, width, 3)
          linear(f"{at}.channelwise.0", width + skip, 4 * width)
          found[f"{at}.channelwise.2.gamma"] = found[f"{at}.channelwise.2.beta"] = (1, 1, 1, 4 * width)
          linear(f"{at}.channelwise.4", 4 * width, width)
        elif number % 3 == 1:
          for mapper in ("mapper", "mapper_sca", "mapper_crp"):
            linear(f"{at}.{mapper}", time, 2 * width)
        else:
          found[f"{at}.attention.attn.in_proj_weight"] = (3 * width, width)
          found[f"{at}.attention.attn.in_proj_bias"] = (3 * width,)
          linear(f"{at}.attention.attn.out_proj", width, width)
          linear(f"{at}.kv_mapper.1", condition, width)
  return found


def random_tensors(seed, wanted, dtype=np.float32):
  """Values of about unit gain for matrices and 0.3 elsewhere, so that every tensor matters."""
  draw = np.random.default_rng(seed)
  scale = lambda shape: 0.3 if len(shape) == 1 or shape[0] == 1 else np.prod(shape[1:]) ** -0.5
  return {n: (scale(s) * draw.standard_normal(s)).astype(dtype) for n, s in wanted.items()}


def norm(x):
  """Over channels."""
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def linear(weights, name, x):
  """A matrix or a 1x1 convolution over channels."""
  matrix = weights[f"{name}.weight"].astype(np.float64)
  return x @ matrix.reshape(matrix.shape[0], -1).T + weights[f"{name}.bias"]


def convolution(weights, at, x, skip=None):
  """Layer C on [B, H, W, C]."""
  height, width = x.shape[1:3]
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  kernel, h = weights[f"{at}.depthwise.weight"], 0
  for row in range(3):
    for column in range(3):
      h = h + padded[:, row:row + height, column:column + width] * kernel[:, 0, row, column]
  h = norm(h + weights[f"{at}.depthwise.bias"])
  h = linear(weights, f"{at}.channelwise.0", h if skip is None else np.concatenate([h, skip], -1))
  h = 0.5 * h * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
  lengths = np.sqrt((h**2).sum((1, 2)))  # [B, 4 C]
  share = lengths / (lengths.mean(-1, keepdims=True) + 1e-6)
  gamma, beta = (weights[f"{at}.channelwise.2.{name}"] for name in ("gamma", "beta"))
  return x + linear(weights, f"{at}.channelwise.4", gamma * h * share[:, None, None] + beta + h)


def embedding(time, width):
  """Of one time."""
  half = width // 2
  rates = np.exp(-np.log(10_000) * np.arange(half) / (half - 1)).astype(np.float32)
  angles = (np.float32(time * 10_000) * rates).astype(np.float64)
  return np.concatenate([np.sin(angles), np.cos(angles)])


def timestep(weights, at, x, times):
  """Layer T; sca and crp are 0."""
  size = weights[f"{at}.mapper.weight"].shape[1]
  result = np.empty_like(x)
  for row, time in enumerate(times):
    both = linear(weights, f"{at}.mapper", embedding(time, size))
    for name in ("sca", "crp"):
      both = both + linear(weights, f"{at}.mapper_{name}", embedding(0.0, size))
    result[row] = x[row] * (1 + both[:x.shape[-1]]) + both[x.shape[-1]:]
  return result


def softmax_mix(query, key, value):
  """One head: [S, d], [L, d], [L, d]."""
  weight = np.exp(query @ key.T / math.sqrt(query.shape[-1]))
  return weight / weight.sum(-1, keepdims=True) @ value


def attention(weights, at, x, clip, heads, user=None):
  """Layer A; user is (keys, values) [B, L, C] that are added with a softmax of their own."""
  channels = x.shape[-1]
  projection = weights[f"{at}.attention.attn.in_proj_weight"].astype(np.float64)
  bias = weights[f"{at}.attention.attn.in_proj_bias"]
  parts = [slice(i * channels, (i + 1) * channels) for i in range(3)]
  result = np.empty_like(x)
  for row in range(len(x)):
    image = norm(x[row]).reshape(-1, channels)
    condition = clip[row] / (1 + np.exp(-clip[row]))
    both = np.concatenate([image, linear(weights, f"{at}.kv_mapper.1", condition)])
    query, key, value = (
      tokens @ projection[part].T + bias[part]
      for tokens, part in zip((image, both, both), parts, strict=True)
    )
    mixed = np.empty_like(query)
    for head in np.split(np.arange(channels), heads):
      mixed[:, head] = softmax_mix(query[:, head], key[:, head], value[:, head])
      if user is not None:
        mixed[:, head] += softmax_mix(query[:, head], user[0][row][:, head], user[1][row][:, head])
    out = linear(weights, f"{at}.attention.attn.out_proj", mixed)
    result[row] = x[row] + out.reshape(x[row].shape)
  return result


def network(weights, noised, times, text, pooled, image, heads, user=None):
  """The whole; user is what `attention` takes, for every block. [B, H, W, C] to the same."""
  mapped = [
    linear(weights, "clip_txt_mapper", text),
    *(linear(weights, name, value).reshape(len(value), 4, -1)
      for name, value in (("clip_txt_pooled_mapper", pooled), ("clip_img_mapper", image))),
  ]
  clip = norm(np.concatenate(mapped, axis=1))

  def level(name, x, skip=None):
    number = 0
    while f"{name}.{number}.depthwise.bias" in weights:
      x = convolution(weights, f"{name}.{number}", x, skip if number == 0 else None)
      x = timestep(weights, f"{name}.{number + 1}", x, times)
      x = attention(weights, f"{name}.{number + 2}", x, clip, heads, user)
      number += 3
    return x

  skip = level("down_blocks.0", norm(linear(weights, "embedding.1", noised)))
  x = level("down_blocks.1", linear(weights, "down_downscalers.1.1.blocks.0", norm(skip)))
  x = linear(weights, "up_upscalers.0.1.blocks.1", norm(level("up_blocks.0", x)))
  return linear(weights, "clf.1", norm(level("up_blocks.1", x, skip)))
