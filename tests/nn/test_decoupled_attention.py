"""Decoupled cross-attention: the published form by hand, masks, the untouched base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn.decoupled_attention import Extra, attend, decoupled_attention

QUERY = jnp.array([[[1.0, 0.0]]])
KEY, VALUE = jnp.eye(2)[None], jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
USER_KEY, USER_VALUE = jnp.array([[[0.0, 2.0], [2.0, 0.0]]]), 10 * jnp.eye(2)[None]


def extra(scale=1.0, mask=None, site="a"):
  mask = jnp.ones((1, 2), bool) if mask is None else mask
  return Extra({site: USER_KEY}, {site: USER_VALUE}, mask, scale)


def test_two_softmaxes_by_hand():
  both = lambda branch: decoupled_attention(QUERY, KEY, VALUE, 1, "a", branch)[0, 0]
  np.testing.assert_allclose(both(None), [1.660476901347, 2.660476901347], rtol=1e-6)
  np.testing.assert_allclose(both(extra()), [3.616180076277, 10.704773726416], rtol=1e-6)
  np.testing.assert_allclose(both(extra(0.5)), [2.638328488812, 6.682625301071], rtol=1e-6)
  joined = attend(QUERY, *(jnp.concatenate(p, 1) for p in ((KEY, USER_KEY), (VALUE, USER_VALUE))), 1)
  np.testing.assert_allclose(joined[0, 0], [1.84589615087, 6.041828559887], rtol=1e-6)


def test_another_site_and_an_empty_mask_leave_the_base():
  base = decoupled_attention(QUERY, KEY, VALUE, 1, "a", None)
  np.testing.assert_array_equal(decoupled_attention(QUERY, KEY, VALUE, 1, "b", extra()), base)
  empty = extra(mask=jnp.zeros((1, 2), bool))
  np.testing.assert_array_equal(decoupled_attention(QUERY, KEY, VALUE, 1, "a", empty), base)


@pytest.fixture(scope="module")
def case():
  keys = jax.random.split(jax.random.key(0), 3)
  return [jax.random.normal(k, (2, n, 8)) for k, n in zip(keys, (5, 4, 4), strict=True)]


def test_masked_tokens_equal_a_shorter_set_and_order_does_not_matter(case):
  query, key, value = case
  mask = jnp.array([[True, True, False, True]] * 2)
  kept = jnp.array([0, 1, 3])
  got = attend(query, key, value, 2, mask)
  np.testing.assert_allclose(got, attend(query, key[:, kept], value[:, kept], 2), atol=1e-6)
  turned = attend(query, key[:, ::-1], value[:, ::-1], 2, mask[:, ::-1])
  np.testing.assert_allclose(got, turned, atol=1e-6)


def test_one_token_is_its_value_whatever_the_query(case):
  query, key, value = case
  got = attend(query, key[:, :1], value[:, :1], 2)
  np.testing.assert_allclose(got, jnp.broadcast_to(value[:, :1], got.shape), rtol=1e-6)


def test_heads_are_separate(case):
  query, key, value = case
  got = attend(query, key, value, 2)
  halves = [attend(*(x[..., s] for x in case), 1) for s in (slice(0, 4), slice(4, 8))]
  np.testing.assert_allclose(got, jnp.concatenate(halves, -1), atol=1e-6)


def test_several_branches_add_up():
  part = lambda branch: decoupled_attention(QUERY, KEY, VALUE, 1, "a", branch)
  base, one = part(None), part(extra())
  np.testing.assert_allclose(part((extra(0.25), extra(0.5))), base + 0.75 * (one - base), rtol=1e-6)
  np.testing.assert_array_equal(part((extra(site="b"), extra())), one)
  np.testing.assert_array_equal(part(()), base)


def test_scale_of_each_row(case):
  query, key, value = case
  mask = jnp.ones((2, 4), bool)
  run = lambda scale: decoupled_attention(
    query, key, value, 2, "a", Extra({"a": key}, {"a": value}, mask, scale)
  )
  each = run(jnp.array([0.0, 2.0]))
  np.testing.assert_array_equal(each[0], run(0.0)[0])
  np.testing.assert_array_equal(each[1], run(2.0)[1])
