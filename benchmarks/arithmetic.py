"""Floating-point operations of a traced program: its matrix products and convolutions."""

import math
from typing import Any

from jax.extend import core


def operations(jaxpr: core.Jaxpr, rounds: float = 0.0) -> float:
  """Multiplications and additions of products and convolutions, with what loops repeat.

  Args:
    jaxpr: of `jax.make_jaxpr(...)(...).jaxpr`.
    rounds: of every while loop, whose number of rounds no trace shows; at 0 they are refused.
  """
  total = 0.0
  for equation in jaxpr.eqns:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
      total += _product(equation)
      continue
    if name == "conv_general_dilated":
      total += _convolution(equation)
      continue
    times = 1.0
    if name == "scan":
      times = parameters["length"]
    elif name == "while":
      if not rounds:
        raise ValueError("The program has a while loop: say how many rounds it makes.")
      times = rounds
    inner = [operations(part, rounds) for part in _inner(parameters)]
    # Of the branches of a condition one is taken: the dearest.
    total += times * (max(inner, default=0.0) if name == "cond" else sum(inner))
  return total


def _product(equation: Any) -> float:
  left, right = (v.aval.shape for v in equation.invars)
  (contract, contract_right), (batch, batch_right) = equation.params["dimension_numbers"]
  size = lambda shape, axes: math.prod(shape[a] for a in axes)
  free = [a for a in range(len(right)) if a not in (*contract_right, *batch_right)]
  return 2.0 * math.prod(left) * size(right, free)


def _convolution(equation: Any) -> float:
  numbers = equation.params["dimension_numbers"]
  kernel = equation.invars[1].aval.shape
  # Every result sums over a window of the channels of its group; the axis of outputs is not summed.
  window = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * window


def _inner(parameters: dict[str, Any]) -> list[core.Jaxpr]:
  """Programs inside an equation."""
  found = []
  for value in parameters.values():
    for one in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(one, core.ClosedJaxpr):
        found.append(one.jaxpr)
      elif isinstance(one, core.Jaxpr):
        found.append(one)
  return found
