"""Baselines without a view of single behaviours: which features meet, parameters, mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import category, full_history, make_batch, random_variables, schema

from recjax.errors import ConfigError
from recjax.models.ranking import feature_interactions

INTERACTIONS = feature_interactions.Config(item_width=4, category_width=4, hidden=(5,))


def interactions(kind, spec=None, **changes):
  config = dataclasses.replace(INTERACTIONS, kind=kind, **changes)
  learner = feature_interactions.build(config, spec or schema())
  predict = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(predict=predict), random_variables(learner)


def test_logistic_regression_by_hand():
  learner, variables = interactions("lr")
  assert set(learner.tables) == {"item_weight", "category_weight"}
  batch = full_history()
  item, cat = (np.asarray(variables["tables"][f"{n}_weight"]) for n in ("item", "category"))
  hist = np.asarray(batch["hist_item"][0])
  expected = item[16, 0] + cat[2, 0] + item[hist, 1].mean() + cat[category(hist), 1].mean()
  expected += variables["params"]["bias"][0, 0]
  np.testing.assert_allclose(learner.predict["score"](variables, batch), [expected], rtol=1e-5)


@pytest.mark.parametrize("kind", ["wide_deep", "ipnn", "deepfm", "dcnv2"])
def test_parts_beside_the_tower(kind):
  """Each is the base model plus a part of its own: with that part at zero, it is the base model."""
  learner, variables = interactions(kind, norm="none")
  base, base_variables = interactions("dnn", norm="none")
  batch = make_batch()
  params = dict(variables["params"])
  tables = {n: t for n, t in variables["tables"].items() if not n.endswith("_weight")}
  same = {"tables": tables, "batch_stats": variables["batch_stats"]}
  kernel = params["tower"]["dense_0"]["kernel"]
  same["params"] = {"tower": {**params["tower"], "dense_0": {
    **params["tower"]["dense_0"], "kernel": kernel[:16]}}}
  assert jax.tree.structure(same) == jax.tree.structure(base_variables)
  assert kernel.shape[0] == (16 + 6 if kind == "ipnn" else 16)
  expected = base.predict["score"](same, batch)
  whole = learner.predict["score"](variables, batch)
  assert np.abs(whole - expected).max() > 1e-3
  off = {n: jax.tree.map(jnp.zeros_like, p) for n, p in params.items() if n != "tower"}
  off["tower"] = params["tower"]
  if kind == "ipnn":
    off["tower"] = {**params["tower"], "dense_0": {
      **params["tower"]["dense_0"], "kernel": kernel.at[16:].set(0)}}
  weightless = {
    n: jnp.zeros_like(t) if n.endswith("_weight") else t for n, t in variables["tables"].items()
  }
  got = learner.predict["score"]({**variables, "params": off, "tables": weightless}, batch)
  if kind == "deepfm":  # its second-order term has no weights to set to zero
    vectors = [tables[n] for n in ("item", "category")]
    target = [v[i] for v, i in zip(vectors, (batch["target_item"], batch["target_cat"]), strict=True)]
    count = batch["hist_mask"].sum(1, keepdims=True)
    history = [
      (v[i] * batch["hist_mask"][..., None]).sum(1) / count
      for v, i in zip(vectors, (batch["hist_item"], batch["hist_cat"]), strict=True)
    ]
    fields = [*target, *history]
    pairs = [(fields[i] * fields[j]).sum(-1) for i in range(4) for j in range(i)]
    expected = expected + sum(pairs)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(ConfigError, match="Unknown kind 'fm'"):
    interactions("fm")
  with pytest.raises(ConfigError, match="category_width must be 4 or 0, not 2"):
    interactions("dnn", category_width=2)
