"""SDIM against full target attention as histories grow from 50 to 10,000 behaviours.

    python benchmarks/long_histories.py [--lengths 50,200,1000,2000,5000,10000] [--repeats 20]

One request is a user's history and 1,000 candidates, vectors of width 64, m = 48 bits in groups of 3:
full attention (the softmax of scaled products), DIN's unit, building SDIM's sums, reading them, and
adding one behaviour to them. Then a training step's forward and backward pass of 64 histories with one
candidate each, where SDIM hashes the whole history. Medians of `--repeats` runs after a warm-up.
Writes docs/results/long_histories.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import machine

from recjax.nn import simhash
from recjax.nn.attention import masked_softmax
from recjax.nn.target_attention import LocalActivationUnit

CANDIDATES, WIDTH, BITS, GROUP, ROWS = 1000, 64, 48, 3, 64
FASTER, FLAT = 5.0, 1.10  # at 1,024 behaviours; from 1,024 to 8,192 behaviours
FROM, TO = 1024, 8192


def milliseconds(function: Callable, *arguments: Any, repeats: int) -> float:
  """Median time of one call that is compiled already."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(1e3 * (time.perf_counter() - started))
  return statistics.median(times)


def attention(candidates: jax.Array, history: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax attention of candidates [B, C, D] to history [B, L, D] where mask [B, L]."""
  scores = jnp.einsum("bcd,bld->bcl", candidates, history) * candidates.shape[-1] ** -0.5
  weights = masked_softmax(scores, jnp.broadcast_to(mask[:, None], scores.shape))
  return jnp.einsum("bcl,bld->bcd", weights, history)


def hashed(x: jax.Array, rotations: jax.Array) -> jax.Array:
  """Codes of vectors."""
  return simhash.codes(x, rotations, GROUP)


def sdim(candidates: jax.Array, history: jax.Array, mask: jax.Array, rotations: jax.Array) -> jax.Array:
  """SDIM's reading as in training: everything is hashed, few candidates."""
  known = hashed(history, rotations)
  return simhash.read_collisions(hashed(candidates, rotations), history, known, mask, "l2")


def build(history: jax.Array, mask: jax.Array, rotations: jax.Array) -> simhash.Buckets:
  """What the service keeps of a history."""
  return simhash.build(history, hashed(history, rotations), mask, GROUP)


def read(buckets: simhash.Buckets, candidates: jax.Array, rotations: jax.Array) -> jax.Array:
  """What a request costs once that is there."""
  return simhash.read_buckets(buckets, hashed(candidates, rotations), "l2")


def add(buckets: simhash.Buckets, new: jax.Array, rotations: jax.Array) -> simhash.Buckets:
  """One more behaviour [1, D]."""
  return simhash.add(buckets, new, hashed(new, rotations), jnp.ones(1))


def slope(function: Callable) -> Callable:
  """Forward and backward pass, to candidates and histories."""
  return jax.jit(jax.grad(lambda q, s, *rest: jnp.sum(jnp.square(function(q, s, *rest))), (0, 1)))


def measure(length: int, repeats: int, candidates: int, rows: int) -> dict[str, float]:
  """Milliseconds of each way at one length."""
  rng = np.random.default_rng(length)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  rotations, target, history = draw(BITS, WIDTH), draw(1, candidates, WIDTH), draw(1, length, WIDTH)
  mask = jnp.ones((1, length), bool)
  timed = lambda function, *arguments: milliseconds(function, *arguments, repeats=repeats)
  build_, read_, add_ = jax.jit(build), jax.jit(read), jax.jit(add)
  buckets = build_(history, mask, rotations)
  unit = LocalActivationUnit((32, 16), "prelu", "softmax")
  some, counted = target[:, : max(1, candidates // 10)], jnp.ones((1, candidates // 10), bool)
  variables = unit.init(jax.random.key(0), some, history, mask, counted, train=False)
  din = jax.jit(lambda q, s, m: unit.apply(variables, q, s, m, counted, train=False)[0])
  found = {
    "length": length,
    "attention": timed(jax.jit(attention), target, history, mask),
    "din_tenth": timed(din, some, history, mask),
    "build": timed(build_, history, mask, rotations),
    "read": timed(read_, buckets, target, rotations),
    "add": timed(add_, buckets, target[:, 0], rotations),
  }
  target, history = draw(rows, 1, WIDTH), draw(rows, length, WIDTH)
  mask = jnp.ones((rows, length), bool)
  found["train_attention"] = timed(slope(attention), target, history, mask)
  found["train_sdim"] = timed(slope(sdim), target, history, mask, rotations)
  return found


def claims(found: list[dict[str, float]]) -> list[dict[str, Any]]:
  """What must hold: reads are fast, and as fast for long histories, while attention is linear."""
  at = {int(row["length"]): row for row in found}
  near = lambda length: at[min(at, key=lambda known: abs(known - length))]
  short, long = near(FROM), near(TO)
  ratio, growth = short["attention"] / short["read"], long["read"] / short["read"]
  times, lengths = long["attention"] / short["attention"], long["length"] / short["length"]
  return [
    {"name": "reading is fast", "passed": ratio >= FASTER,
     "text": f"at {short['length']:,} behaviours a read of kept sums takes {ratio:.1f} times less than "
     f"full attention, at least {FASTER:g}"},
    {"name": "reading is flat", "passed": growth <= FLAT,
     "text": f"from {short['length']:,} to {long['length']:,} behaviours its time changes by a factor "
     f"{growth:.2f}, at most {FLAT:g}"},
    {"name": "attention is not", "passed": times >= lengths / 2,
     "text": f"while that of attention grows by {times:.1f} for {lengths:.1f} times the behaviours, at "
     "least half of that"},
  ]


def main() -> None:
  """Measures every length, prints what comes of it and writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--lengths", default="50,100,200,500,1024,2000,5000,8192,10000")
  parser.add_argument("--repeats", type=int, default=20)
  parser.add_argument("--candidates", type=int, default=CANDIDATES)
  parser.add_argument("--rows", type=int, default=ROWS)
  arguments = parser.parse_args()
  from store import store

  found = []
  for length in map(int, arguments.lengths.split(",")):
    found.append(measure(length, arguments.repeats, arguments.candidates, arguments.rows))
    print("  ".join(f"{name} {value:,.2f}" for name, value in found[-1].items()), flush=True)
  columns = {
    "behaviours": "length", "full attention": "attention", "DIN's unit, a tenth of them": "din_tenth",
    "SDIM: read": "read", "build": "build", "add one": "add", "train, attention": "train_attention",
    "train, SDIM": "train_sdim",
  }
  store({
    "name": "long_histories",
    "page": "performance",
    "title": "Long histories: hashed sums against attention",
    "command": "python benchmarks/long_histories.py",
    "note": f"On {machine()}. Milliseconds, medians of {arguments.repeats}: a request of "
    f"{arguments.candidates:,} candidates for one history, vectors of width {WIDTH}, {BITS} bits in "
    f"groups of {GROUP}; and a pass forward and backward over {arguments.rows} histories with a "
    "candidate each, in which SDIM compares codes group by group. Sums are built once and kept.",
    "tables": [
      {"caption": "Milliseconds by length of the history", "columns": list(columns),
       "rows": [
         [f"{row['length']:,}", *(f"{row[key]:.2f}" for key in list(columns.values())[1:])]
         for row in found
       ]},
    ],
    "claims": claims(found),
    "runs": found,
  })


if __name__ == "__main__":
  main()
