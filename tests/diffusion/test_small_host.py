"""The small host: what it depends on, and where its patches go."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.diffusion import small_host

SHAPE = (4, 6, 3)


def test_prompt_time_and_place_matter():
  config = small_host.Config(width=8, blocks=1, heads=2, patch=2)
  host = small_host.build(config, SHAPE, {"prompt": (5,)})
  assert host.sites == {"block_0": 8} and host.shape == SHAPE
  params = jax.device_get(jax.jit(host.init)(jax.random.key(0)))
  run = jax.jit(host.predict_noise)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((2, *SHAPE)), jnp.float32)
  time, text = jnp.array([10, 900]), {"prompt": jnp.asarray(rng.standard_normal((2, 5)), jnp.float32)}
  assert not np.any(run(params, x, time, text, None))  # it begins with no noise at all
  params = jax.tree.map(lambda a: a + 0.2 * rng.standard_normal(a.shape).astype(np.float32), params)
  got = run(params, x, time, text, None)
  changed = lambda *arguments: np.abs(run(params, *arguments, None) - got).max((1, 2, 3))
  assert changed(x, time, host.blank(text)).min() > 1e-3
  assert not np.any(host.blank(text)["prompt"])
  assert changed(x, time[::-1], text).min() > 1e-3
  assert changed(x.at[0, 0, 0, 0].add(1.0), time, text)[1] == 0  # rows do not see each other
  # A patch goes out where it came in: with all maps but embedding and output off, no other moves.
  plain = jax.tree.map(jnp.zeros_like, params)
  for name in ("embed", "output", "output_norm"):
    plain[name] = params[name]
  base = run(plain, x, time, text, None)
  moved = np.abs(run(plain, x.at[0, 2, 5, 1].add(1.0), time, text, None) - base)[0].max(-1) > 0
  expected = np.zeros((4, 6), bool)
  expected[2:4, 4:6] = True
  np.testing.assert_array_equal(moved, expected)
