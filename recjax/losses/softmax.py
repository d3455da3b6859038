"""Softmax cross-entropy over a catalogue: over every item, or over a few drawn ones.

Both return sums, never means, and leave padding to weights that are zero.
"""

import functools

import jax
import jax.numpy as jnp

_POSITIONS = 256  # a block's positions: measured fastest on a CPU for 1,700 items of width 64
_LOGITS = 2**26  # a block's logits at most: 256 MiB, which larger catalogues reach first


def full_softmax(
  queries: jax.Array,
  table: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  *,
  num_items: int,
  block: int | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sum of w_m (logsumexp_j q_m e_j - q_m e_target(m)) over the items j = 1 .. num_items.

  The rows 0 (padding) and those after num_items (padding of shards) are no candidates. Positions
  without weight cost nothing: the others are moved to the front, and a loop of as many steps as
  they need computes the loss and its gradients block by block. So memory is [block, V], never
  [M, V], and time follows the real positions. Gradients flow to queries and table only. Traced
  under a mesh with a 'data' axis, every device works on its own positions, and sums are exchanged.

  Args:
    queries: [M, D].
    table: [V, D] with V > num_items.
    targets: int32 [M] in 1 .. num_items where the weight is positive, else anything in 0 .. V - 1.
    weights: [M], not negative.
    num_items: items without padding.
    block: positions worked on at once; by default 256, or fewer where their logits would exceed
      256 MiB.

  Returns:
    Scalar float32 loss sum, and the weight of positions whose target beats every other item (a tie
    is a miss).
  """
  if not 0 < num_items < table.shape[0]:
    raise ValueError(f"A table of {table.shape[0]} rows cannot hold {num_items} items and padding.")
  if block is None:
    block = max(1, min(_POSITIONS, _LOGITS // table.shape[0]))
  shards = jax.sharding.get_abstract_mesh().shape.get("data", 1)
  local = functools.partial(_streamed, num_items, min(block, queries.shape[0] // shards))
  if shards == 1:
    return local(queries, table, targets, weights)

  # Ordering positions across devices would gather them all; each device orders its own.
  @functools.partial(
    jax.shard_map,
    in_specs=(jax.P("data"), jax.P(), jax.P("data"), jax.P("data")),
    out_specs=jax.P(),
    check_vma=False,
  )
  def on_each(queries, table, targets, weights):
    return jax.lax.psum(local(queries, table, targets, weights), "data")

  return on_each(queries, table, targets, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _streamed(num_items, block, queries, table, targets, weights):
  """Loss and hits without gradients: what runs when nobody differentiates."""
  return _stream(num_items, block, queries, table, targets, weights, gradients=False)[:2]


def _forward(num_items, block, queries, table, targets, weights):
  loss, hits, d_queries, d_table = _stream(
    num_items, block, queries, table, targets, weights, gradients=True
  )
  return (loss, hits), (d_queries, d_table)


def _backward(num_items, block, residuals, cotangents):
  d_queries, d_table = residuals
  scale = cotangents[0]
  return (
    d_queries * scale.astype(d_queries.dtype),
    d_table * scale.astype(d_table.dtype),
    None,
    None,
  )


_streamed.defvjp(_forward, _backward)


def _stream(num_items, block, queries, table, targets, weights, *, gradients):
  """(loss, hits), and with `gradients` also the loss's gradients in queries and table."""
  count, width = queries.shape
  rows = table.shape[0]
  order = jnp.argsort(weights <= 0, stable=True)
  padding = -count % block
  order = jnp.concatenate([order, jnp.zeros((padding,), order.dtype)])
  queries_by_rank = jnp.take(queries, order, axis=0)
  targets_by_rank = jnp.take(targets, order)
  weights_by_rank = jnp.take(weights, order).astype(jnp.float32)
  weights_by_rank = jnp.where(jnp.arange(count + padding) < count, weights_by_rank, 0.0)
  columns = jnp.arange(rows, dtype=jnp.int32)[None, :]
  candidate = (columns > 0) & (columns <= num_items)
  steps = (jnp.sum(weights > 0) + block - 1) // block

  def one_block(step, carry):
    loss, hits, *slopes = carry
    start = step * block
    q = jax.lax.dynamic_slice_in_dim(queries_by_rank, start, block)
    t = jax.lax.dynamic_slice_in_dim(targets_by_rank, start, block)[:, None]
    w = jax.lax.dynamic_slice_in_dim(weights_by_rank, start, block)
    logits = jnp.einsum("md,vd->mv", q, table, preferred_element_type=jnp.float32)
    logits = jnp.where(candidate, logits, -jnp.inf)
    top = jnp.max(logits, axis=1, keepdims=True)
    exponentials = jnp.exp(logits - top)
    total = jnp.sum(exponentials, axis=1, keepdims=True)
    at_target = jnp.take_along_axis(logits, t, axis=1)
    # A position without weight may have target 0, whose logit is -inf: select, do not multiply.
    cross_entropy = jnp.where(w > 0, (top + jnp.log(total) - at_target)[:, 0], 0.0)
    loss = loss + jnp.sum(w * cross_entropy)
    alone = jnp.sum(logits >= at_target, axis=1) == 1
    hits = hits + jnp.sum(jnp.where(alone, w, 0.0))
    if not gradients:
      return loss, hits
    d_queries, d_table = slopes
    d_logits = exponentials * (w[:, None] / total) - jnp.where(columns == t, w[:, None], 0.0)
    d_logits = d_logits.astype(table.dtype)
    d_block = jnp.einsum("mv,vd->md", d_logits, table, preferred_element_type=jnp.float32)
    d_queries = jax.lax.dynamic_update_slice_in_dim(d_queries, d_block, start, 0)
    d_table = d_table + jnp.einsum("mv,md->vd", d_logits, q, preferred_element_type=jnp.float32)
    return loss, hits, d_queries, d_table

  zero = jnp.zeros((), jnp.float32)
  carry = (zero, zero)
  if gradients:
    carry += (
      jnp.zeros((count + padding, width), jnp.float32),
      jnp.zeros((rows, width), jnp.float32),
    )
  loss, hits, *slopes = jax.lax.fori_loop(0, steps, one_block, carry)
  if not gradients:
    return loss, hits
  d_queries, d_table = slopes
  d_queries = (
    jnp.zeros((count, width), jnp.float32)
    .at[order[:count]]
    .set(d_queries[:count], unique_indices=True)
  )
  return loss, hits, d_queries.astype(queries.dtype), d_table.astype(table.dtype)


def sampled_softmax(
  queries: jax.Array,
  positive_vectors: jax.Array,
  negative_vectors: jax.Array,
  targets: jax.Array,
  negatives: jax.Array,
  log_q_positive: jax.Array,
  log_q_negative: jax.Array,
  weights: jax.Array,
) -> jax.Array:
  """Softmax cross-entropy of each target against K drawn items that all positions share.

  Every logit is lowered by the log of the item's expected count in the candidate list (Bengio and
  Senecal 2008), and a negative that is the position's own target is left out. With
  log_q_positive = 0 and negatives drawn with replacement the partition function is unbiased, since
  the target is listed once with certainty; correcting the target as if it had been drawn, too, is
  biased but less noisy where the draws are uneven.

  Args:
    queries: [M, D].
    positive_vectors: [M, D] of the targets.
    negative_vectors: [K, D].
    targets: int [M]; compared with `negatives` only, so compact ids serve.
    negatives: int [K].
    log_q_positive: [M].
    log_q_negative: [K], log(K p_k) for K draws with replacement from p.
    weights: [M], not negative.

  Returns:
    Scalar float32 loss sum.
  """
  positive = jnp.sum(queries * positive_vectors, axis=-1, dtype=jnp.float32) - log_q_positive
  negative = jnp.einsum("md,kd->mk", queries, negative_vectors, preferred_element_type=jnp.float32)
  negative = negative - log_q_negative[None, :]
  hit = targets[:, None] == negatives[None, :]
  negative = jnp.where(hit, -jnp.inf, negative)
  logits = jnp.concatenate([positive[:, None], negative], axis=1)
  cross_entropy = jax.nn.logsumexp(logits, axis=1) - positive
  return jnp.sum(weights.astype(jnp.float32) * cross_entropy)
