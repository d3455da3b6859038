"""The smallest learner and rows that exercise every part of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from recjax.config import Config, Mesh, Optimizer, Tables, Train
from recjax.data.schema import Field, Schema
from recjax.data.views.rows import Rows
from recjax.models.learner import Learner, Objective
from recjax.nn.tables import TableSpec, take

ITEMS = 40
LENGTH = 5


class Dense(nn.Module):
  """A linear map."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(4, name="project")(x)


def rows(count: int = 100, items: int = ITEMS, seed: int = 0) -> Rows:
  """Random histories with a float label that depends on the first item."""
  rng = np.random.default_rng(seed)
  hist = rng.integers(0, items, (count, LENGTH)).astype(np.int32)
  schema = Schema(
    {
      "hist_item": Field("ids", (LENGTH,), "item"),
      "target_item": Field("id", (), "item"),
      "weight": Field("float"),
    },
    {"item": items},
  )
  columns = {
    "hist_item": hist,
    "target_item": rng.integers(1, items, count).astype(np.int32),
    "weight": (rng.random(count) < 0.8).astype(np.float32),
  }
  gather = lambda xp, columns, index: {n: c[index] for n, c in columns.items()}
  return Rows(count, columns, gather, schema)


def learner(schema: Schema, negatives: int = 3, poison: int | None = None) -> Learner:
  """Dot products of a summed history with a target and shared negatives; `poison` gives a NaN item."""
  specs = {"item": TableSpec("item", 4, 0.5), "bias": TableSpec("item", 1, 0.1)}
  module = Dense()
  schema = schema.extend(
    negative_item=Field("ids", (negatives,), "item"), poisoned=Field("float")
  )

  def encode(variables, batch):
    vectors = take(variables["tables"]["item"], batch["hist_item"]).sum(1)
    return module.apply({"params": variables["params"]}, vectors)

  def init(key, tables, batch):
    vectors = take(tables["item"], batch["hist_item"]).sum(1)
    return {**module.init(key, vectors)}

  def draw(variables, batch, key):
    vocabulary = schema.vocabularies["item"]
    drawn = jax.random.randint(key, (1, negatives), 1, vocabulary, jnp.int32)
    bad = jnp.zeros_like(batch["weight"])
    if poison is not None:
      bad = (batch["target_item"] == poison).astype(jnp.float32)
    return {**batch, "negative_item": drawn, "poisoned": bad}

  def loss(variables, batch, key):
    user = encode(variables, batch)
    tables = variables["tables"]
    score = lambda ids: (
      (take(tables["item"], ids) * user[:, None, :]).sum(-1) + take(tables["bias"], ids)[..., 0]
    )
    positive = score(batch["target_item"][:, None])[:, 0]
    shape = (user.shape[0], batch["negative_item"].shape[1])
    negative = score(jnp.broadcast_to(batch["negative_item"], shape))
    each = jax.nn.softplus(-positive) + jax.nn.softplus(negative).sum(-1)
    each = each / (1.0 - batch["poisoned"])
    weight = batch["weight"].sum()
    return Objective((each * batch["weight"]).sum(), weight, {"score": (positive.sum(), weight)})

  return Learner(schema, specs, init, loss, {}, draw)


def config(**changes) -> Config:
  """A config around the toy; keyword arguments replace subsystems."""
  base = Config(
    name="toy", data=None, view=None, model=dataclasses.make_dataclass("M", [("name", str)])("toy"),
    evaluate={}, train=Train(batch_size=16, steps=20), optimizer=Optimizer(learning_rate=0.05),
    tables=Tables(), mesh=Mesh(data=1),
  )
  return dataclasses.replace(base, **changes)
