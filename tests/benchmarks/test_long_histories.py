"""The short version of benchmarks/long_histories.py, and its claims."""

import jax.numpy as jnp
import long_histories as bench
import numpy as np


def test_every_way_is_timed():
  found = bench.measure(8, 1, 20, 2)
  assert found.pop("length") == 8 and set(found) >= {"attention", "read", "build", "add"}
  assert all(value > 0 for value in found.values())


def test_ways_agree():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  rotations, target, history = draw(bench.BITS, 4), draw(1, 3, 4), draw(1, 9, 4)
  mask = jnp.ones((1, 9), bool)
  whole = bench.build(history, mask, rotations)
  added = bench.add(bench.build(history[:, :8], mask[:, :8], rotations), history[:, 8], rotations)
  for buckets in (whole, added):
    got = bench.read(buckets, target, rotations)
    np.testing.assert_allclose(got, bench.sdim(target, history, mask, rotations), atol=1e-5)
  scores = np.asarray(target[0]) @ np.asarray(history[0]).T / 2
  weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
  np.testing.assert_allclose(
    bench.attention(target, history, mask)[0], weights @ np.asarray(history[0]), atol=1e-5
  )


def test_claims_refuse_slow_and_growing_reads():
  row = lambda length, attention, read: {"length": length, "attention": attention, "read": read}
  passed = lambda *rows: [claim["passed"] for claim in bench.claims(list(rows))]
  assert passed(row(50, 1, 1), row(1024, 20, 2), row(8192, 160, 2.1)) == [True] * 3
  assert passed(row(1024, 8, 2), row(8192, 64, 2)) == [False, True, True]
  assert passed(row(1024, 20, 2), row(8192, 160, 2.5)) == [True, False, True]
  assert passed(row(1024, 20, 2), row(8192, 40, 2)) == [True, True, False]
