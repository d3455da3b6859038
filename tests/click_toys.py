"""Small schemas, batches and random variables for the tests of click models."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Field, Schema

ITEMS, CATEGORIES, LENGTH = 30, 5, 6


def schema(candidates=None, items=ITEMS, categories=CATEGORIES, length=LENGTH):
  shape = () if candidates is None else (candidates,)
  return Schema(
    {
      "hist_item": Field("ids", (length,), "item"),
      "hist_cat": Field("ids", (length,), "category"),
      "hist_mask": Field("mask", (length,)),
      "target_item": Field("ids" if shape else "id", shape, "item"),
      "target_cat": Field("ids" if shape else "id", shape, "category"),
      "label": Field("label", shape),
      "weight": Field("float"),
    },
    {"item": items + 1, "category": categories + 1},
  )


def category(items):
  return jnp.where(items == 0, 0, 1 + items % CATEGORIES)


def make_batch(seed=0, rows=3, candidates=None):
  rng = np.random.default_rng(seed)
  length = rng.integers(1, LENGTH + 1, rows)
  mask = np.arange(LENGTH)[None] >= LENGTH - length[:, None]
  hist = jnp.asarray(np.where(mask, rng.integers(1, ITEMS + 1, mask.shape), 0), jnp.int32)
  shape = (rows,) if candidates is None else (rows, candidates)
  target = jnp.asarray(rng.integers(1, ITEMS + 1, shape), jnp.int32)
  return {
    "hist_item": hist,
    "hist_cat": category(hist),
    "hist_mask": jnp.asarray(mask),
    "target_item": target,
    "target_cat": category(target),
    "label": jnp.asarray(rng.integers(0, 2, shape), jnp.float32),
    "weight": jnp.ones(rows),
  }


def with_target(batch, target, label=None):
  label = jnp.zeros(target.shape) if label is None else label
  return {**batch, "target_item": target, "target_cat": category(target), "label": label}


def random_variables(learner):
  """Variables that are random without compiling `init`; no weight is small."""
  rng, sizes = np.random.default_rng(0), learner.schema.vocabularies
  draw = lambda *shape: jnp.asarray(0.4 * rng.normal(size=shape), jnp.float32)
  tables = {
    name: draw(sizes[t.vocabulary], t.width).at[0].set(0) for name, t in learner.tables.items()
  }
  shapes = jax.eval_shape(learner.init, jax.random.key(0), tables, learner.schema.example())
  made = jax.tree.map(lambda leaf: draw(*leaf.shape), shapes)
  if "batch_stats" in shapes:
    made["batch_stats"] = jax.tree.map(
      lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32), shapes["batch_stats"]
    )
  return {**made, "tables": tables}


def compact(learner, batch):
  """The batch with row numbers of smaller tables instead of ids, and the ids of the rows by table."""
  small, rows = dict(batch), {}
  for vocabulary in learner.schema.vocabularies:
    fields = learner.schema.indexing(vocabulary)
    used = np.unique(np.concatenate([[0], *[np.ravel(batch[f]) for f in fields]]))
    small |= {f: jnp.asarray(np.searchsorted(used, batch[f]), jnp.int32) for f in fields}
    rows |= {n: used for n, t in learner.tables.items() if t.vocabulary == vocabulary}
  return small, rows


def full_history():
  """One history without padding, and a candidate of category 2."""
  batch = make_batch(rows=1)
  batch["hist_item"] = jnp.array([[1, 6, 2, 11, 3, 4]], jnp.int32)  # categories 2 2 3 2 4 5
  batch |= {"hist_cat": category(batch["hist_item"]), "hist_mask": jnp.ones((1, LENGTH), bool)}
  return with_target(batch, jnp.array([16], jnp.int32))
