"""Operations counted by hand and by benchmarks/arithmetic.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arithmetic import operations


def count(function, *shapes, rounds=0.0):
  given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
  return operations(jax.make_jaxpr(function)(*given).jaxpr, rounds)


def test_products_and_convolutions():
  assert count(lambda a, b: a @ b, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
  assert count(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (7, 3, 4), (7, 5, 4)) == 7 * 2 * 60
  convolve = lambda x, k: jax.lax.conv_general_dilated(
    x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  assert count(convolve, (2, 8, 8, 3), (3, 3, 3, 5)) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)


def test_a_gradient_costs_the_products_of_both_sides():
  loss = lambda a, b: jnp.sum((a @ b) ** 2)
  assert count(jax.grad(loss, (0, 1)), (3, 4), (4, 5)) == 3 * 2 * 60


def test_loops_and_calls_repeat_what_they_hold():
  square = lambda a, b: jax.jit(lambda x: x @ b)(a)
  assert count(lambda a, b: jax.lax.fori_loop(0, 6, lambda i, x: square(x, b), a), (2, 4), (4, 4)) == (
    6 * 2 * 2 * 16
  )
  loop = lambda a, b: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ b, a)
  with pytest.raises(ValueError, match="how many rounds"):
    count(loop, (2, 4), (4, 4))
  assert count(loop, (2, 4), (4, 4), rounds=2.5) == 2.5 * 2 * 2 * 16
  choose = lambda a, b: jax.lax.cond(a.sum() > 0, lambda: (a @ b) @ b, lambda: a @ b)
  assert count(choose, (2, 4), (4, 4)) == 2 * 2 * 2 * 16
