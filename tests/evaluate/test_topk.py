"""The streamed top-k equals one sort of all scores, ties included."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax.evaluate.topk import leave_out, top_items

USERS, ITEMS, WIDTH = 7, 53, 3

PREDICT = {
  "encode_user": lambda variables, batch: variables["user"][batch["user_id"]],
  "score_items": lambda variables, state, ids: state @ variables["item"][ids].T,
}


def make_variables(seed, levels):
  """Tables of small integers, so that scores are exact and many are equal."""
  rng = np.random.default_rng(seed)
  user = rng.integers(-levels, levels + 1, (USERS, WIDTH)).astype(np.float32)
  item = rng.integers(-levels, levels + 1, (ITEMS + 1, WIDTH)).astype(np.float32)
  item[0] = 100 * user.sum(0)  # padding would win if it were allowed to
  return {"user": jnp.asarray(user), "item": jnp.asarray(item)}


def make_seen(seed, width=9):
  return np.random.default_rng(seed).integers(0, ITEMS + 1, (USERS, width)).astype(np.int32)


def naive(variables, seen, k):
  """One stable sort of all scores, user by user."""
  scores = np.asarray(variables["user"]) @ np.asarray(variables["item"]).T
  ids, values = np.zeros((USERS, k), np.int32), np.full((USERS, k), -np.inf, np.float32)
  for user in range(USERS):
    allowed = [i for i in range(1, ITEMS + 1) if i not in set(seen[user])]
    best = sorted(allowed, key=lambda i: (-scores[user, i], i))[:k]
    ids[user, : len(best)] = best
    values[user, : len(best)] = scores[user, best]
  return ids, values


def run(variables, seen, block, k, predict=PREDICT):
  batch = {"user_id": jnp.arange(USERS)}
  ranked = functools.partial(top_items, predict, num_items=ITEMS, block=block, k=k)
  return jax.tree.map(np.asarray, jax.jit(ranked)(variables, batch, jnp.asarray(seen)))


@pytest.mark.parametrize("block", [1, 2, 7, 10, 52, 53, 54, 1000])
@pytest.mark.parametrize("levels", [1, 50])
def test_equals_one_sort_for_every_block_size(block, levels):
  variables, seen = make_variables(0, levels), make_seen(1)
  ids, scores = run(variables, seen, block, k=11)
  expected_ids, expected_scores = naive(variables, seen, 11)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("block", [5, 53])
def test_lists_longer_than_the_catalogue_end_with_padding(block):
  variables, seen = make_variables(2, 2), make_seen(3)
  ids, scores = run(variables, seen, block, k=60)
  expected_ids, expected_scores = naive(variables, seen, 60)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_array_equal(scores, expected_scores)
  assert (ids[:, -1] == 0).all() and np.isneginf(scores[:, -1]).all()


def test_seen_items_and_padding_are_never_recommended():
  variables, seen = make_variables(4, 50), make_seen(5, width=40)
  ids, _ = run(variables, seen, block=8, k=ITEMS)
  for user in range(USERS):
    real = ids[user][ids[user] != 0]
    assert not set(real) & set(seen[user])
    assert len(set(real)) == len(real) == ITEMS - len(set(seen[user]) - {0})


def test_nothing_left_to_recommend():
  seen = np.tile(np.arange(ITEMS + 1, dtype=np.int32), (USERS, 1))
  ids, scores = run(make_variables(0, 1), seen, block=8, k=3)
  assert (ids == 0).all() and np.isneginf(scores).all()


def test_scores_of_nan_come_back_as_infinite():
  variables = make_variables(0, 1)
  variables["item"] = variables["item"].at[17].set(jnp.nan)
  ids, scores = run(variables, np.zeros((USERS, 1), np.int32), block=8, k=3)
  assert (ids[:, 0] == 17).all() and np.isposinf(scores[:, 0]).all()


def test_half_precision_scores_are_ranked_in_float32():
  half = PREDICT | {"score_items": lambda v, s, ids: (s @ v["item"][ids].T).astype(jnp.bfloat16)}
  _, scores = run(make_variables(0, 1), make_seen(1), block=8, k=3, predict=half)
  assert scores.dtype == np.float32


def test_no_intermediate_is_as_wide_as_the_catalogue():
  items, block, k = 1000, 64, 5
  variables = {"user": jnp.zeros((USERS, 2)), "item": jnp.zeros((items + 1, 2))}
  ranked = functools.partial(top_items, PREDICT, num_items=items, block=block, k=k)
  text = str(
    jax.make_jaxpr(ranked)(
      variables, {"user_id": jnp.arange(USERS)}, jnp.zeros((USERS, 3), jnp.int32)
    )
  )
  assert f"[{USERS},{block + k}]" in text
  assert f"[{USERS},{items}]" not in text and f"[{USERS},{items + 1}]" not in text


@pytest.mark.skipif(len(jax.devices()) == 1, reason="nothing is sent on one device")
def test_devices_exchange_lists_and_never_scores():
  devices, items, block, k, users = len(jax.devices()), 1000, 300, 7, 8 * len(jax.devices())
  mesh = jax.make_mesh((devices, 1), ("data", "model"), (AxisType.Auto,) * 2)
  split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
  ranked = functools.partial(top_items, PREDICT, num_items=items, block=block, k=k, mesh=mesh)

  def shape(*dims, dtype=jnp.float32, sharding=whole):
    return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)

  text = (
    jax.jit(ranked, out_shardings=whole)
    .lower(
      {"user": shape(users, 4), "item": shape(items + 1, 4)},
      {"user_id": shape(users, dtype=jnp.int32, sharding=split)},
      shape(users, 5, dtype=jnp.int32, sharding=split),
    )
    .compile()
    .as_text()
  )
  exchanged = re.findall(r"= (\S+?)\{.*? (?:all-gather|all-reduce|all-to-all)\(", text)
  assert sorted(exchanged) == [f"f32[{users},{k}]", f"s32[{users},{k}]"]


def test_leave_out_ignores_columns_outside():
  out = leave_out(jnp.zeros((1, 4)), jnp.asarray([[-1, 2, 4, -4, 2]]))
  np.testing.assert_array_equal(out, [[0, 0, -np.inf, 0]])
