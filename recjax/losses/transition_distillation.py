"""Transition-aware embedding distillation: raw item vectors learn what follows what (arXiv 2311.01056).

    W_j   = A_j / max_k A_jk,  A_jk = how often item k follows item j in training
    p_jk  = softmax_k(W_jk / tau)                          teacher, constant
    l_jk  = log softmax_k(dropout(s E_j) . E_k / tau)      student
    L     = - sum over the heads j of a batch of sum_k p_jk l_jk

A plug-in for any model with an item table. Items that never follow j have the numerator e^0 = 1, so

    p_jk = r_j + a_jk,   r_j = 1 / Z_j,   a_jk = (e^(W_jk / tau) - 1) / Z_j,
    Z_j  = N + sum_k (e^(W_jk / tau) - 1)

and a_j is as sparse as A_j. With z_jk = s E_j . E_k / tau the sum over all items is

    - sum_k p_jk l_jk = logsumexp_k z_jk - sum_k a_jk z_jk - r_j (s E_j / tau) . (sum_k E_k)

so neither teacher nor student is ever an array of heads x items.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.errors import ConfigError
from recjax.losses.softmax import shared_softmax
from recjax.nn.sparse import sparse_rows, take_sparse
from recjax.nn.tables import take
from recjax.registry import unknown

NORMS = ("max", "sum")


def transition_teacher(
  transitions: scipy.sparse.csr_array, temperature: float, norm: str = "max", most: int = 256
) -> dict[str, np.ndarray]:
  """The teacher of counts A [V, V], whose row and column 0 are empty, as constants.

  Args:
    transitions: A.
    temperature: tau.
    norm: what a row is divided by, one of NORMS.
    most: successors kept of an item, the most frequent ones; what is cut counts as never seen.

  Returns:
    a as `nn.sparse.sparse_rows`, most frequent successor first; `rest`, r float32 [V]; and `cut`,
    the number of transitions left out, float32 scalar.

  Raises:
    ConfigError: for an unknown norm, a temperature that is not positive or `most` below 1.
  """
  if norm not in NORMS:
    raise ConfigError(unknown("norm of the teacher", norm, NORMS))
  if temperature <= 0 or most < 1:
    raise ConfigError(
      f"A teacher needs a positive temperature and at least one successor, not {temperature} and "
      f"{most}."
    )
  size, pairs = transitions.shape[0], transitions.tocoo()
  order = np.lexsort((pairs.col, -pairs.data, pairs.row))
  row, column, count = pairs.row[order], pairs.col[order], pairs.data[order].astype(np.float64)
  scale = np.zeros(size)
  (np.maximum if norm == "max" else np.add).at(scale, row, count)
  kept = np.arange(len(row)) - np.searchsorted(row, row) < most
  cut = count[~kept].sum()
  row, column, count = row[kept], column[kept], count[kept]
  logit = count / (scale[row] + 1e-24) / temperature
  # Numerators are taken relative to the largest one, so that a low temperature overflows nothing.
  top = np.zeros(size)
  np.maximum.at(top, row, logit)
  one = np.exp(-top)
  above = np.exp(logit - top[row]) - one[row]
  total = (size - 1) * one + np.bincount(row, above, minlength=size)
  indptr = np.searchsorted(row, np.arange(size + 1))
  shares = scipy.sparse.csr_array((above / total[row], column, indptr), (size, size))
  return {
    **sparse_rows(shares), "rest": (one / total).astype(np.float32), "cut": np.float32(cut)
  }


def first_occurrences(ids: jax.Array, mask: jax.Array) -> jax.Array:
  """Float32 [M]: how often id m occurs in ids [M] under mask [M], at its first place; else 0."""
  ids = jnp.where(mask, ids, 0)
  order = jnp.argsort(ids, stable=True)
  ranked = ids[order]
  first = jnp.concatenate([jnp.ones((1,), bool), ranked[1:] != ranked[:-1]]) & (ranked != 0)
  count = jnp.searchsorted(ranked, ranked, side="right") - jnp.arange(len(ids))
  weights = jnp.where(first, count, 0).astype(jnp.float32)
  return jnp.zeros(ids.shape, jnp.float32).at[order].set(weights, unique_indices=True)


def transition_distillation(
  table: jax.Array,
  heads: jax.Array,
  weights: jax.Array,
  teacher: Mapping[str, jax.Array],
  *,
  num_items: int,
  temperature: float,
  scale: float,
  dropout: float = 0.0,
  key: jax.Array | None = None,
  block: int | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sum of w_m times the cross-entropy of head m's student to its teacher, over all items.

  Time follows the heads with weight, memory [block, V]; see `losses.softmax.shared_softmax`.

  Args:
    table: E, [V, D] with V > num_items; gradients flow to it through heads and tails.
    heads: int32 [M] items, anything where the weight is 0.
    weights: [M], not negative: `first_occurrences`, or a mask to count every occurrence by itself.
    teacher: from `transition_teacher` with the same temperature.
    num_items: N, items without padding.
    temperature: tau, of the student.
    scale: s, sqrt(D) in the paper.
    dropout: rate at which the heads' scaled vectors are dropped out with `key`.
    key: a random key, read where dropout is above 0.
    block: heads worked on at once.

  Returns:
    Scalar float32 loss sum, and the weight of heads whose most frequent successor scores best.
  """
  teacher = jax.tree.map(jnp.asarray, dict(teacher))
  queries = take(table, heads) * np.float32(scale / temperature)
  if dropout > 0:
    kept = jax.random.bernoulli(key, 1.0 - dropout, queries.shape)
    queries = jnp.where(kept, queries / np.float32(1.0 - dropout), 0.0)
  loss, hits = shared_softmax(
    queries, table, heads, weights, _shares, teacher, num_items=num_items, block=block
  )
  everything = jnp.sum(table[1 : num_items + 1], axis=0)
  uniform = weights * teacher["rest"][heads]
  return loss - jnp.sum(uniform * (queries @ everything)), hits


def _shares(heads, teacher):
  return take_sparse(teacher, heads)
