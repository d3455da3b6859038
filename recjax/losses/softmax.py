"""Softmax cross-entropy over a catalogue: over every item, or over a few drawn ones.

All return sums, never means, and leave padding to weights that are zero.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_POSITIONS = 256  # a block's positions: measured fastest on a CPU for 1,700 items of width 64
_LOGITS = 2**26  # a block's logits at most: 256 MiB, which larger catalogues reach first


class _Options(NamedTuple):
  """What is fixed when a stream is compiled.

  Attributes:
    num_items: items without padding.
    padding: whether row 0, which is zero, is one of the classes.
    block: positions worked on at once.
    lookup: (labels [b], constants) -> targets [b, S] and their shares [b, S].
  """

  num_items: int
  padding: bool
  block: int
  lookup: Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]


def full_softmax(
  queries: jax.Array,
  table: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  *,
  num_items: int,
  padding: bool = False,
  block: int | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sum of w_m (logsumexp_j q_m e_j - q_m e_target(m)) over the items j = 1 .. num_items.

  The rows 0 (padding) and those after num_items (padding of shards) are no candidates; with
  `padding` row 0, which is zero, is one more class with the logit 0. Positions without weight cost
  nothing: the others are moved to the front, and a loop of as many steps as they need computes the
  loss and its gradients block by block. So memory is [block, V], never [M, V], and time follows the
  real positions. Gradients flow to queries and table only. Traced under a mesh with a 'data' axis,
  every device works on its own positions, and sums are exchanged.

  Args:
    queries: [M, D].
    table: [V, D] with V > num_items.
    targets: int32 [M] in 1 .. num_items where the weight is positive, else anything in 0 .. V - 1.
    weights: [M], not negative.
    num_items: items without padding.
    padding: whether padding is a class.
    block: positions worked on at once; by default 256, or fewer where their logits would exceed
      256 MiB.

  Returns:
    Scalar float32 loss sum, and the weight of positions whose target beats every other class (a tie
    is a miss).
  """
  return _over_devices(
    num_items, padding, block, _one_target, queries, table, targets, weights, None
  )


def shared_softmax(
  queries: jax.Array,
  table: jax.Array,
  labels: jax.Array,
  weights: jax.Array,
  lookup: Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]],
  constants: Any,
  *,
  num_items: int,
  block: int | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sum of w_m (logsumexp_j q_m e_j - sum_s a_ms q_m e_t(ms)): several targets share a position.

  Targets t and shares a of a block of positions are looked up when it is its turn, so neither they
  nor logits exist for all positions. Otherwise as `full_softmax`.

  Args:
    queries: [M, D].
    table: [V, D] with V > num_items.
    labels: int32 [M], what `lookup` is asked for.
    weights: [M], not negative.
    lookup: a function of the module's level, (labels [b], constants) -> targets int32 [b, S] and
      shares [b, S]; a share of 0 goes with any target in 0 .. V - 1. Not differentiated.
    constants: arrays for `lookup`.
    num_items: items without padding.
    block: as in `full_softmax`.

  Returns:
    Scalar float32 loss sum, and the weight of positions whose first target beats every other item.
  """
  return _over_devices(
    num_items, False, block, lookup, queries, table, labels, weights, constants
  )


def _one_target(labels, constants):
  del constants
  return labels[:, None], jnp.ones((len(labels), 1), jnp.float32)


def _over_devices(num_items, padding, block, lookup, queries, table, labels, weights, constants):
  """The stream, on every device of the mesh for its own positions."""
  if not 0 < num_items < table.shape[0]:
    raise ValueError(f"A table of {table.shape[0]} rows cannot hold {num_items} items and padding.")
  if block is None:
    block = max(1, min(_POSITIONS, _LOGITS // table.shape[0]))
  shards = jax.sharding.get_abstract_mesh().shape.get("data", 1)
  options = _Options(num_items, padding, min(block, queries.shape[0] // shards), lookup)
  local = functools.partial(_streamed, options)
  if shards == 1:
    return local(queries, table, labels, weights, constants)

  # Ordering positions across devices would gather them all; each device orders its own.
  @functools.partial(
    jax.shard_map,
    in_specs=(jax.P("data"), jax.P(), jax.P("data"), jax.P("data"), jax.P()),
    out_specs=jax.P(),
    check_vma=False,
  )
  def on_each(*arguments):
    return jax.lax.psum(local(*arguments), "data")

  return on_each(queries, table, labels, weights, constants)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _streamed(options, queries, table, labels, weights, constants):
  """Loss and hits without gradients: what runs when nobody differentiates."""
  return _stream(options, queries, table, labels, weights, constants, gradients=False)[:2]


def _forward(options, queries, table, labels, weights, constants):
  loss, hits, d_queries, d_table = _stream(
    options, queries, table, labels, weights, constants, gradients=True
  )
  return (loss, hits), (d_queries, d_table)


def _backward(options, residuals, cotangents):
  d_queries, d_table = residuals
  scale = cotangents[0]
  return (
    d_queries * scale.astype(d_queries.dtype),
    d_table * scale.astype(d_table.dtype),
    None,
    None,
    None,
  )


_streamed.defvjp(_forward, _backward)


def _stream(options, queries, table, labels, weights, constants, *, gradients):
  """(loss, hits), and with `gradients` also the loss's gradients in queries and table."""
  count, width = queries.shape
  rows, block = table.shape[0], options.block
  order = jnp.argsort(weights <= 0, stable=True)
  padding = -count % block
  order = jnp.concatenate([order, jnp.zeros((padding,), order.dtype)])
  queries_by_rank = jnp.take(queries, order, axis=0)
  labels_by_rank = jnp.take(labels, order)
  weights_by_rank = jnp.take(weights, order).astype(jnp.float32)
  weights_by_rank = jnp.where(jnp.arange(count + padding) < count, weights_by_rank, 0.0)
  columns = jnp.arange(rows, dtype=jnp.int32)[None, :]
  candidate = (columns >= (0 if options.padding else 1)) & (columns <= options.num_items)
  steps = (jnp.sum(weights > 0) + block - 1) // block

  def one_block(step, carry):
    loss, hits, *slopes = carry
    start = step * block
    q = jax.lax.dynamic_slice_in_dim(queries_by_rank, start, block)
    w = jax.lax.dynamic_slice_in_dim(weights_by_rank, start, block)
    label = jax.lax.dynamic_slice_in_dim(labels_by_rank, start, block)
    target, share = options.lookup(label, constants)
    logits = jnp.einsum("md,vd->mv", q, table, preferred_element_type=jnp.float32)
    logits = jnp.where(candidate, logits, -jnp.inf)
    top = jnp.max(logits, axis=1, keepdims=True)
    exponentials = jnp.exp(logits - top)
    total = jnp.sum(exponentials, axis=1, keepdims=True)
    at_target = jnp.take_along_axis(logits, target, axis=1)
    # Padding has the logit -inf: where it has no share or no weight select, do not multiply.
    gained = jnp.sum(jnp.where(share > 0, share * at_target, 0.0), axis=1)
    cross_entropy = jnp.where(w > 0, (top + jnp.log(total))[:, 0] - gained, 0.0)
    loss = loss + jnp.sum(w * cross_entropy)
    alone = jnp.sum(logits >= at_target[:, :1], axis=1) == 1
    hits = hits + jnp.sum(jnp.where(alone, w, 0.0))
    if not gradients:
      return loss, hits
    d_queries, d_table = slopes
    d_logits = exponentials * (w[:, None] / total)
    pull = w[:, None] * share
    if target.shape[1] == 1:
      d_logits = d_logits - jnp.where(columns == target, pull, 0.0)
    else:
      d_logits = d_logits.at[jnp.arange(block)[:, None], target].add(-pull)
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
