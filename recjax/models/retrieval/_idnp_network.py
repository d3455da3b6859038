"""The network of IDNP (`idnp.py`): interest encoder, both paths, decoder."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.nn import neural_process as process
from recjax.nn.convolution import DilatedResidualBlock
from recjax.nn.dense import Dense
from recjax.nn.dropout import Dropout
from recjax.nn.pooling import AttentionPool
from recjax.nn.tables import take

if typing.TYPE_CHECKING:
  from recjax.models.retrieval.idnp import Config


class Queries(NamedTuple):
  """What is asked of a row.

  Attributes:
    index: int32 [B, T] in 0 .. P, the event asked for; P stands for the one after the history.
    time: [B, T], when.
    contexts: bool [B, T, P], the observations that may be used.
    label: int32 [B, T], the right answers, where they are known; the posterior is then computed.
  """

  index: jax.Array
  time: jax.Array
  contexts: jax.Array
  label: jax.Array | None = None


class Answers(NamedTuple):
  """What IDNP says; fields of paths that are switched off are None.

  Attributes:
    state: d_q [B, T, D].
    prior: mean and deviation [B, T, Z].
    posterior: the same with the right answer.
    attention: [B, T, heads, P], of the deterministic path.
    observed: [B, T, D], interest of the window that ends in the event asked for.
  """

  state: jax.Array
  prior: tuple[jax.Array, jax.Array] | None
  posterior: tuple[jax.Array, jax.Array] | None
  attention: jax.Array | None
  observed: jax.Array


class InterestEncoder(nn.Module):
  """Attentive interest encoder: windows of item vectors [..., L, D] to interests [..., D]."""

  config: Config

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
    """Interests [..., D] for x [..., L, D] and mask [..., L]; zero for an empty window."""
    config = self.config
    scales = [x * mask[..., None].astype(x.dtype)]
    for index, dilation in enumerate(config.dilations):
      pair = (dilation, 2 * dilation) if config.dilated else (1, 1)
      block = DilatedResidualBlock(config.kernel, pair, name=f"block_{index}")
      scales.append(block(scales[-1], mask))
    if not config.attention:
      return scales[-1][..., -1, :]
    pooled = [AttentionPool(name=f"time_{i}")(h, mask)[0] for i, h in enumerate(scales)]
    pooled = jnp.stack(pooled, axis=-2)
    return AttentionPool(name="scale")(pooled, jnp.ones(pooled.shape[:-1], bool))[0]


class IDNP(nn.Module):
  """Tables, history and queries to states of the interest function."""

  config: Config

  @nn.compact
  def __call__(
    self,
    tables: Mapping[str, jax.Array],
    batch: Mapping[str, jax.Array],
    queries: Queries,
    noise: jax.Array | None,
    *,
    train: bool,
  ) -> Answers:
    """Answers to queries about hist_item, hist_time and hist_mask [B, P].

    noise [B, T, Z] makes z of the posterior, or of the prior where no label is known; None stands
    for the mean.
    """
    config, mask = self.config, batch["hist_mask"]
    drop = lambda y: Dropout(config.dropout, deterministic=not train)(y)
    vectors = take(tables["item"], batch["hist_item"]) * mask[..., None].astype(jnp.float32)
    # Every distinct window once; the last one ends with the newest event.
    encoder = InterestEncoder(config, name="encoder")
    interest = encoder(windows(vectors, config.window), windows(mask, config.window))
    asked = pick(interest, queries.index)
    observed = pick(interest, jnp.minimum(queries.index + 1, mask.shape[1]))
    interest, r_q = drop(interest[:, :-1]), drop(asked)

    code = process.TimeCode(config.width, name="time")
    codes, now, since = map(code, moments(config.time, times_of(batch), mask, queries))
    features, prior, posterior, attention = [r_q, since], None, None, None
    seen = [interest, vectors] if config.context_label else [interest]
    observations = jnp.concatenate(seen, axis=-1)
    if config.deterministic:
      tokens = process.ContextTokens(config.width, name="token")(observations, codes)
      keys = interest if config.query_aware else interest[..., :0]
      query = jnp.concatenate([now, r_q], axis=-1) if config.query_aware else now
      path = process.AttentivePath(config.width, config.heads, name="deterministic")
      r_d, attention = path(query, keys, codes, tokens, queries.contexts)
      features.append(r_d)
    if config.latent:
      tokenize = process.ContextTokens(config.width, name="latent_token")
      tokens = tokenize(observations, codes)
      gaussian = process.LatentPath(config.latent_width, name="latent")
      prior = gaussian(process.summarise(tokens, queries.contexts))
      chosen = prior
      if queries.label is not None:
        own = [r_q, take(tables["item"], queries.label)] if config.context_label else [r_q]
        own = jnp.concatenate(own, axis=-1)
        # One token a target: targets stand where the rows of a batch stood.
        own = tokenize(own.reshape(-1, 1, own.shape[-1]), now.reshape(-1, 1, 1, now.shape[-1]))
        own = own.reshape(*queries.index.shape, -1)
        posterior = gaussian(process.summarise(tokens, queries.contexts, own))
        chosen = posterior if config.latent_source == "posterior" else prior
      features.append(chosen[0] if noise is None else chosen[0] + chosen[1] * noise)
    hidden = jnp.concatenate(features, axis=-1)
    hidden = drop(nn.relu(Dense(2 * config.width, name="decoder_in")(hidden)))
    state = Dense(config.width, name="decoder_out")(hidden)
    return Answers(state, prior, posterior, attention, observed)


def windows(values: jax.Array, window: int) -> jax.Array:
  """The `window` before each event of values [B, P, ...], and the newest; [B, P + 1, L, ...]."""
  padded = jnp.pad(values, ((0, 0), (window, 0), *((0, 0),) * (values.ndim - 2)))
  return padded[:, jnp.arange(values.shape[1] + 1)[:, None] + jnp.arange(window)[None]]


def pick(values: jax.Array, index: jax.Array) -> jax.Array:
  """Rows index [B, T] of values [B, P, D], as [B, T, D]."""
  return jnp.take_along_axis(values, index[..., None], axis=1)


def moments(
  kind: str, times: jax.Array, mask: jax.Array, queries: Queries
) -> tuple[jax.Array, ...]:
  """What codes know of times [B, P]: of contexts [B, T, P], of the query and since the last [B, T].

  Where no event comes before the query, none is long ago: the time since the last one is 0.
  """
  now = queries.time
  if kind == "absolute":
    return jnp.broadcast_to(times[:, None], queries.contexts.shape), now, now
  before = jnp.maximum(queries.index - 1, 0)
  last, real = (pick(values[..., None], before)[..., 0] for values in (times, mask))
  since = jnp.where(real & (queries.index > 0), now - last, 0.0)
  relative = times[:, None] - now[..., None], jnp.zeros_like(now), since
  return relative if kind == "relative" else jax.tree.map(jnp.zeros_like, relative)


def times_of(batch: Mapping[str, jax.Array]) -> jax.Array:
  """Times [B, P] of a history; one without times, as from `Recommender`, has them 1 / P apart."""
  if "hist_time" in batch:
    return batch["hist_time"]
  mask = batch["hist_mask"]
  place = jnp.cumsum(mask, axis=1) - mask.astype(jnp.int32)
  return place.astype(jnp.float32) / mask.shape[1]


def query_time_of(batch: Mapping[str, jax.Array]) -> jax.Array:
  """The time [B] asked for, by the same rule."""
  if "query_time" in batch:
    return batch["query_time"]
  mask = batch["hist_mask"]
  return jnp.sum(mask, axis=1, dtype=jnp.float32) / mask.shape[1]
