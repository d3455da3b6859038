"""TED by hand and against the dense form; the teacher's constants; no array of heads x items."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from recjax.errors import ConfigError
from recjax.losses.transition_distillation import (
  first_occurrences,
  transition_distillation,
  transition_teacher,
)

ITEMS, WIDTH, TAU = 9, 4, 0.1
distil = jax.jit(
  functools.partial(transition_distillation, temperature=TAU, scale=1.0),
  static_argnames="num_items",
)


def matrix(counts):
  """Counts of items 1, 2, ... as a matrix with an empty row and column 0."""
  return scipy.sparse.csr_array(np.pad(np.asarray(counts, np.float32), ((1, 0), (1, 0))))


def dense(teacher, size):
  """The teacher's probabilities [size, size - 1], of items only."""
  found = np.zeros((size, size))
  for row in range(size):
    first, last = teacher["indptr"][row], teacher["indptr"][row + 1]
    found[row, teacher["neighbour"][first:last]] += teacher["weight"][first:last]
    found[row, 1:] += teacher["rest"][row]
  return found[:, 1:]


def test_rows_of_the_papers_figure():
  counts = np.zeros((5, 5))
  counts[0], counts[1] = [1, 1, 0, 2, 5], [0, 2, 1, 2, 2]
  rows = dense(transition_teacher(matrix(counts), TAU), 6)
  np.testing.assert_allclose(rows[1], [0.000334, 0.000334, 0.000045, 0.002471, 0.996815], atol=6e-7)
  np.testing.assert_allclose(rows[2], [0.000015, 0.332581, 0.002241, 0.332581, 0.332581], atol=6e-7)
  np.testing.assert_allclose(-np.sum(rows[1] * np.log(rows[1])), 0.0238180, atol=1e-6)
  np.testing.assert_allclose(rows[3:], 1 / 5, rtol=1e-6)  # nothing follows: uniform


def test_rows_divided_by_their_sum_and_low_temperatures():
  counts = np.zeros((3, 3))
  counts[0] = [3, 1, 0]
  row = dense(transition_teacher(matrix(counts), 0.5, norm="sum"), 4)[1]
  expected = np.exp([1.5, 0.5, 0.0])
  np.testing.assert_allclose(row, expected / expected.sum(), rtol=1e-6)
  cold = dense(transition_teacher(matrix(counts), 1e-4), 4)
  np.testing.assert_allclose(cold[1], [1, 0, 0], atol=1e-7)


def test_cut_successors_are_counted_and_count_as_never_seen():
  counts = np.zeros((4, 4))
  counts[0] = [1, 4, 2, 3]
  teacher = transition_teacher(matrix(counts), TAU, most=2)
  assert teacher["cut"] == 3 and len(teacher["window"]) == 2
  np.testing.assert_array_equal(teacher["neighbour"][:2], [2, 4])  # most frequent first
  expected = np.exp(np.array([0, 4, 0, 3]) / 4 / TAU)
  np.testing.assert_allclose(dense(teacher, 5)[1], expected / expected.sum(), rtol=1e-6)
  assert transition_teacher(matrix(counts), TAU)["cut"] == 0


def case(seed=0):
  rng = np.random.default_rng(seed)
  counts = rng.integers(0, 6, (ITEMS, ITEMS)) * (rng.random((ITEMS, ITEMS)) < 0.3)
  counts[2] = 0
  table = rng.normal(size=(ITEMS + 3, WIDTH)).astype(np.float32)
  table[0] = 0
  heads = jnp.asarray([0, 3, 1, 3, 7, 0, 1, 3, 9, 5, 4], jnp.int32)
  return counts, jnp.asarray(table), heads


def plainly(table, heads, mask, counts, tau, scale):
  """The same sum with dense arrays."""
  w = counts / np.maximum(counts.max(1, keepdims=True), 1e-24)
  p = jax.nn.softmax(jnp.asarray(w / tau, jnp.float32), axis=1)
  items = table[1 : ITEMS + 1]
  student = jax.nn.log_softmax(scale * table[heads] @ items.T / tau, axis=1)
  each = -jnp.sum(p[jnp.maximum(heads - 1, 0)] * student, axis=1)
  return jnp.sum(jnp.where(mask, each, 0.0))


COUNTS, TABLE, HEADS = case()
MASK = HEADS != 0
TEACHER = transition_teacher(matrix(COUNTS), TAU)


@pytest.fixture(scope="module")
def expected():
  """The dense form's value and gradient."""
  value = lambda e: plainly(e, HEADS, MASK, COUNTS, TAU, WIDTH**0.5)
  return jax.jit(jax.value_and_grad(value))(TABLE)


def sparsely(table, teacher, unique, block):
  weights = first_occurrences(HEADS, MASK) if unique else MASK.astype(jnp.float32)
  return transition_distillation(
    table, HEADS, weights, teacher, num_items=ITEMS, temperature=TAU, scale=WIDTH**0.5, block=block
  )[0]


@pytest.mark.parametrize(("unique", "block"), [(True, 1), (True, 4), (True, None), (False, 4)])
def test_equals_the_dense_form_in_value_and_gradient(unique, block, expected):
  f = jax.jit(jax.value_and_grad(sparsely), static_argnums=(2, 3))
  got, slope = f(TABLE, TEACHER, unique, block)
  np.testing.assert_allclose(got, expected[0], rtol=1e-5)
  np.testing.assert_allclose(slope, expected[1], rtol=1e-4, atol=1e-4)


def test_vmap_over_seeds_equals_one_seed_at_a_time(expected):
  tables = jnp.stack([0.5 * TABLE, TABLE])
  teachers = jax.tree.map(lambda x: jnp.stack([x, x]), TEACHER)
  got = jax.jit(jax.vmap(jax.grad(lambda e, t: sparsely(e, t, True, 4))))(tables, teachers)
  np.testing.assert_allclose(got[1], expected[1], rtol=1e-4, atol=1e-4)
  assert np.abs(got[0] - got[1]).max() > 0.1


def test_at_zero_vectors_it_is_the_log_of_the_catalogue():
  size = 12_101
  counts = scipy.sparse.csr_array(([2.0], ([5], [7])), (size + 1, size + 1))
  teacher = transition_teacher(counts, TAU)
  heads = jnp.asarray([5, 9])
  loss, _ = distil(jnp.zeros((size + 1, 2)), heads, jnp.ones(2), teacher, num_items=size)
  np.testing.assert_allclose(loss / 2, 9.4010434, rtol=1e-6)


def test_agreement_is_the_weight_of_heads_whose_best_successor_scores_best():
  table = jnp.asarray([[0, 0], [1, 0], [2, 0], [0, 1], [0, 3]], jnp.float32)
  counts = np.zeros((4, 4))
  counts[0] = [0, 2, 1, 0]  # 1 is followed by 2, which is its best student, too
  counts[2] = [0, 1, 0, 0]  # 3 is followed by 2, its student says 4
  teacher = transition_teacher(matrix(counts), TAU)
  _, agreement = distil(table, jnp.asarray([1, 3]), jnp.asarray([5.0, 7.0]), teacher, num_items=4)
  assert agreement == 5


def test_dropout_is_of_the_head_and_follows_the_key():
  @jax.jit
  def value(seed):
    return transition_distillation(
      TABLE, HEADS, MASK, TEACHER, num_items=ITEMS, temperature=TAU, scale=1.0, dropout=0.5,
      key=jax.random.key(seed),
    )[0]

  assert value(0) == value(0) != value(1)


def test_occurrences_count_once_at_their_first_place():
  ids = jnp.asarray([4, 2, 4, 0, 2, 4, 9])
  mask = jnp.asarray([True, True, True, True, True, True, False])
  np.testing.assert_array_equal(jax.jit(first_occurrences)(ids, mask), [3, 2, 0, 0, 0, 0, 0])


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown norm of the teacher 'mix'"):
    transition_teacher(matrix(np.eye(2)), TAU, norm="mix")
  with pytest.raises(ConfigError, match="not 0.0 and 256"):
    transition_teacher(matrix(np.eye(2)), 0.0)
  with pytest.raises(ConfigError, match="not 0.1 and 0"):
    transition_teacher(matrix(np.eye(2)), 0.1, most=0)
