"""Context and target sets of a function that is observed at the events of a history.

The observation of event n is (time x_n, window of the L events before n, label: item n). A target is
an event to predict, and its contexts are other events of the row. Windows overlap, so a context can
give the answer away; `allowed_pairs` says which may serve.
"""

import jax
import jax.numpy as jnp


def allowed_pairs(targets: jax.Array, length: int, window: int, causal: bool) -> jax.Array:
  """Which events 0 .. length - 1 may be contexts of which targets [B, T]; bool [B, T, length].

  Event c may not serve target q if c = q, nor if q is in the window of c (c - window <= q < c), for
  then its window holds the answer; if `causal`, only events before q serve.
  """
  q = targets[..., None]
  c = jnp.arange(length, dtype=targets.dtype)[None, None]
  if causal:
    return jnp.broadcast_to(c < q, (*targets.shape, length))
  return (c != q) & ~((c - window <= q) & (q < c))


def observed(mask: jax.Array) -> jax.Array:
  """Events of mask [B, P] with one before them in the row, hence with a window to speak of."""
  return mask & jnp.pad(mask, ((0, 0), (1, 0)))[:, :-1]


def draw_sets(
  key: jax.Array,
  mask: jax.Array,
  askable: jax.Array,
  *,
  targets: int,
  contexts: tuple[int, int],
  least_before: int,
  window: int,
  causal: bool,
) -> dict[str, jax.Array]:
  """Random targets and contexts of every row.

  Args:
    key: all draws come from it.
    mask: bool [B, P], real events; padding comes first.
    askable: bool [B, P], events that may be targets.
    targets: T, drawn without replacement; fewer where a row has fewer.
    contexts: bounds of the number of contexts of a row, drawn evenly between them.
    least_before: events that must come before a target.
    window: L.
    causal: whether contexts come before their target.

  Returns:
    target_index int32 [B, T], target_mask bool [B, T] and pair_mask bool [B, T, P].
  """
  of_target, of_count, of_context = jax.random.split(key, 3)
  length = mask.shape[1]
  before = jnp.cumsum(mask, axis=1) - mask.astype(jnp.int32)
  ticket = jnp.where(
    mask & askable & (before >= least_before), jax.random.uniform(of_target, mask.shape), -1.0
  )
  drawn, index = jax.lax.top_k(ticket, targets)
  target_mask = drawn >= 0
  pairs = allowed_pairs(index, length, window, causal)
  pairs &= observed(mask)[:, None] & target_mask[..., None]
  # Contexts come from the union of what any target of the row may have.
  ticket = jnp.where(jnp.any(pairs, axis=1), jax.random.uniform(of_context, mask.shape), -1.0)
  place = jnp.argsort(jnp.argsort(-ticket, axis=1), axis=1)
  low, high = contexts
  count = jax.random.randint(of_count, (mask.shape[0], 1), low, high + 1)
  chosen = place < count
  return {
    "target_index": index.astype(jnp.int32),
    "target_mask": target_mask,
    "pair_mask": pairs & chosen[:, None],
  }


def newest_contexts(mask: jax.Array, contexts: int) -> jax.Array:
  """The newest `contexts` observations of a history [B, P], for the moment after it; [B, 1, P]."""
  length = mask.shape[1]
  recent = jnp.arange(length)[None] >= length - contexts
  return (observed(mask) & recent)[:, None]
