"""Contrast of two views of all nodes of a graph, in blocks: nodes x nodes is never in memory."""

import jax
import jax.numpy as jnp

from recjax.nn.multi_interest import normalize
from recjax.nn.over_devices import data_devices, sum_over_devices


def node_contrast(
  anchors: jax.Array,
  views: jax.Array,
  valid: jax.Array,
  temperature: float,
  *,
  pool: int | None = None,
  block: int = 1024,
) -> jax.Array:
  """Mean over valid i of -log f(a_i, v_i) / [sum over j of f(a_i, v_j) + over j != i of f(a_i, a_j)].

  f(a, b) = exp(cos(a, b) / temperature), j over valid nodes. Gradients flow into both sides. Memory is
  that of `block` anchors against all nodes, in the gradient, too. A row of zeros has cosine 0 to all.
  Traced under a mesh with a 'data' axis, devices have anchors of their own.

  Args:
    anchors: [N, D].
    views: [N, D], of the same nodes.
    valid: bool [N].
    temperature: above 0.
    pool: how many nodes there are, if those given were drawn evenly from so many: sums over others
      are multiplied by (pool - 1) / (valid - 1), so that their expectation is that over the pool.
    block: anchors at a time.
  """
  anchors, views, valid = normalize(anchors), normalize(views), jnp.asarray(valid)
  count = len(anchors)
  total = jnp.sum(valid, dtype=jnp.float32)
  others = jnp.zeros(()) if pool is None else jnp.log((pool - 1.0) / jnp.maximum(total - 1.0, 1.0))
  shards = data_devices()
  block = min(block, -(-count // shards))
  rounds = -(-count // (block * shards)) * shards
  number = jnp.arange(rounds * block, dtype=jnp.int32).reshape(rounds, block)
  least = jnp.finfo(jnp.float32).min

  def over_rounds(number, nodes):
    anchors, views, valid, others = nodes

    @jax.checkpoint
    def losses(row):
      own = jnp.minimum(row, count - 1)
      mine = anchors[own]
      other = valid[None, :] & (own[:, None] != jnp.arange(count)[None, :])

      def against(keys):
        logits = jnp.matmul(mine, keys.T, preferred_element_type=jnp.float32) / temperature
        return jnp.where(other, logits + others, least)

      positive = jnp.sum(mine * views[own], axis=-1) / temperature
      rest = jax.nn.logsumexp(jnp.concatenate([against(anchors), against(views)], axis=1), axis=1)
      loss = jnp.logaddexp(positive, rest) - positive
      return jnp.sum(jnp.where(valid[own] & (row < count), loss, 0.0))

    return jnp.sum(jax.lax.map(losses, number))

  found = sum_over_devices(over_rounds, number, (anchors, views, valid, others))
  return found / jnp.maximum(total, 1.0)
