"""Views of preferences between samples: support never holds the pair, parts do not meet."""

import dataclasses

import jax.numpy as jnp
import logs
import numpy as np
import pytest

from recjax.data.load import load
from recjax.data.views import sample_pairs, samples
from recjax.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def table():
  return load(
    {"name": "tastes", "train_users": 5, "unseen_users": 2, "validation_users": 2, "pairs": 22}
  )


def batch_of(rows, index):
  """A batch by NumPy, equal to what JAX gathers."""
  batch = rows.gather(np, rows.columns, np.asarray(index, np.int32))
  same = rows.gather(
    jnp, {n: jnp.asarray(c) for n, c in rows.columns.items()}, jnp.asarray(index, jnp.int32)
  )
  assert batch.keys() == rows.schema.fields.keys()
  for name, field in rows.schema.fields.items():
    assert batch[name].shape[1:] == field.shape and batch[name].dtype == field.dtype, name
    np.testing.assert_array_equal(batch[name], same[name])
  return batch


def test_support_is_of_the_same_user_and_never_the_pair(table):
  config = sample_pairs.Config(chunks=3)
  kept = sample_pairs.last_chunks(table)
  rows = sample_pairs.training_rows(config, table, kept)
  pair, chunk = rows["pair"], rows["chunk"]
  assert (table.user[pair] == table.chunk_user[chunk]).all()
  assert not (table.chunk[chunk] == pair[:, None]).any()
  # Nobody but training users, and nothing of what evaluation tells users by. The 2 comparisons that
  # are left over after 5 chunks are in none.
  np.testing.assert_array_equal(np.unique(table.user[pair]), table.groups["train"])
  last = kept[np.unique(table.user)]
  assert not np.isin(chunk, last).any() and not np.isin(pair, table.chunk[last]).any()
  assert len(pair) == 5 * 16 * 3 and len(set(zip(pair.tolist(), chunk.tolist(), strict=True))) == 240
  # More chunks than there are others: each once.
  many = sample_pairs.training_rows(dataclasses.replace(config, chunks=9), table, kept)
  assert len(many["pair"]) == 5 * 16 * 3


def test_rows_show_what_was_compared(table):
  view = sample_pairs.build(sample_pairs.Config(support="pairs"), table, None)
  batch = batch_of(view.train, [0, 7, 100])
  for row, index in enumerate([0, 7, 100]):
    pair, chunk = (view.train.columns[name][index] for name in ("pair", "chunk"))
    np.testing.assert_array_equal(batch["winner"][row], table.samples[table.winner[pair]])
    np.testing.assert_array_equal(batch["loser"][row], table.samples[table.loser[pair]])
    prompt = table.prompt[table.winner[pair]]
    np.testing.assert_array_equal(batch["text_prompt"][row], table.prompts["prompt"][prompt])
    members = table.chunk[chunk]
    np.testing.assert_array_equal(batch["support_loser"][row], table.samples[table.loser[members]])
    asked = table.prompt[table.winner[members]]
    np.testing.assert_array_equal(
      batch["support_text_prompt"][row], table.prompts["prompt"][asked]
    )


@pytest.mark.parametrize("support", ["tokens", "pairs", "none"])
def test_cases_are_users_with_prompts(support, table):
  config = sample_pairs.Config(support=support, validation_samples=2, test_samples=3)
  view = sample_pairs.build(config, table, None)
  cases = view.test
  assert cases.groups == ("seen", "unseen") and cases.shape == (2, 2, 4)
  np.testing.assert_array_equal(cases.user, np.repeat([1, 2, 3, 4, 5, 6, 7], 3))
  np.testing.assert_array_equal(cases.group, np.repeat([0, 1], [15, 6]))
  np.testing.assert_array_equal(cases.repeat, np.tile([0, 1, 2], 7))
  np.testing.assert_array_equal(view.validation.user, [8, 8, 9, 9])
  batch = batch_of(cases.rows, [0, 20])
  np.testing.assert_array_equal(batch["user_id"], [1, 7])
  np.testing.assert_array_equal(batch["text_prompt"], np.eye(8)[[0, 2]])
  if support == "tokens":
    np.testing.assert_array_equal(batch["user_token"], table.tokens[[4, 34]])
  assert "winner" not in batch and batch_of(view.train, [3])["winner"].shape == (1, 2, 2, 4)


def test_samples_are_split_and_mirrored(table):
  view = samples.build(samples.Config(mirror=True, held_out=0.1), table, None)
  count = len(table.samples)
  held = [part.rows.columns["which"] for part in (view.validation, view.test)]
  train = view.train.columns["which"]
  assert view.train.count == 2 * len(train)
  np.testing.assert_array_equal(np.sort(np.concatenate([train, *held])), np.arange(count))
  batch = batch_of(view.train, [1, 1 + len(train)])
  np.testing.assert_array_equal(batch["sample"][0], table.samples[train[1]])
  np.testing.assert_array_equal(batch["sample"][1], batch["sample"][0][:, ::-1])
  np.testing.assert_array_equal(batch["text_prompt"][0], np.eye(8)[table.prompt[train[1]]])
  np.testing.assert_array_equal(batch["text_prompt"][0], batch["text_prompt"][1])


def test_mistakes_are_named(table):
  for view in (samples, sample_pairs):
    with pytest.raises(DataError, match="needs a table of preferences between samples"):
      view.build(view.Config(), logs.log([[1, 2]]), None)
  with pytest.raises(ConfigError, match="Unknown view.support 'token'. Did you mean 'tokens'"):
    sample_pairs.Config(support="token")
  with pytest.raises(ConfigError, match="above 0 and below 0.5, not 0.5"):
    samples.Config(held_out=0.5)
  with pytest.raises(DataError, match="has no tokens of its users"):
    sample_pairs.build(sample_pairs.Config(), table._replace(tokens=None), None)
  few = table._replace(chunk=table.chunk[::3], chunk_user=table.chunk_user[::3])
  with pytest.raises(DataError, match="no user with 3 chunks"):
    sample_pairs.build(sample_pairs.Config(), few, None)
