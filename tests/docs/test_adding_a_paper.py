"""The example of docs/adding_a_paper.md: taken out of the page, built, trained and evaluated."""

import pathlib
import re
import sys
import types

import jax
import jax.numpy as jnp
import logs
import numpy as np
import pytest
import toys

from recjax import registry
from recjax.config import Split, Tables, Train, resolve
from recjax.data.splits import make_split
from recjax.data.views import next_item
from recjax.evaluate import full_ranking, sampled_ranking
from recjax.evaluate.evaluation import Catalogue
from recjax.train.feeds import host_batch
from recjax.train.mesh import make_mesh
from recjax.train.state import step_key
from recjax.train.step import Updater

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "adding_a_paper.md"
LENGTH = 4
USERS, ITEMS = 24, 30


def blocks():
  return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run_block(name, source, monkeypatch):
  """A block of the page as a module."""
  module = types.ModuleType(name)
  monkeypatch.setitem(sys.modules, name, module)
  exec(compile(source, f"{PAGE.name}:{name}", "exec"), module.__dict__)
  return module


@pytest.fixture
def paper(monkeypatch):
  return run_block("mean_history", blocks()[0], monkeypatch)


@pytest.fixture
def view():
  """Users who walk from item to item, one up."""
  walks = [[(start + step) % ITEMS + 1 for step in range(6)] for start in range(USERS)]
  log = logs.log(walks, num_items=ITEMS)
  return next_item.build(next_item.Config(length=LENGTH), log, make_split(log, Split()))


def updater(paper, view, update):
  learner = paper.build(paper.Config(width=8), view.train.schema, view.counts)
  config = toys.config(
    train=Train(batch_size=8, steps=60), tables=Tables(training=update), mesh=toys.Mesh(data=8)
  )
  return Updater(learner, config, view.train.schema, make_mesh(config.mesh), 60)


@pytest.mark.parametrize("update", ["dense", "rows"])
def test_one_step(paper, view, update):
  """The step moves what the batch names, and with row-wise tables nothing else."""
  made = updater(paper, view, update)
  before = jax.jit(made.create)(np.uint32(0))
  batch = host_batch(view.train, 0, 0, 8)
  after = jax.jit(made.update)(before, batch)
  assert int(after.step) == 1 and bool(after.healthy)
  draw_key, _ = jax.random.split(step_key(before.seed, before.step))
  negative = made.learner.draw(before.variables, batch, draw_key)["negative_item"]
  real = batch["target_item"] != 0
  terms = real.sum() + (real & (negative != batch["target_item"])).sum()
  total, weight = after.window["loss"]
  assert float(weight) == real.sum()
  np.testing.assert_allclose(total, terms * np.log(2), rtol=0.01)  # scores begin near zero
  was, now = before.variables["tables"]["item"], after.variables["tables"]["item"]
  moved = np.flatnonzero(np.any(was != now, axis=1))
  assert 0 not in moved and not was[0].any()
  assert np.isin(batch["target_item"][real], moved).all()
  if update == "rows":
    named = [batch["hist_item"], batch["target_item"], negative]
    assert np.isin(moved, np.concatenate([np.ravel(ids) for ids in named])).all()


@pytest.mark.parametrize("update", ["dense", "rows"])
def test_loss_falls(paper, view, update):
  made = updater(paper, view, update)
  state = jax.jit(made.create)(np.uint32(0))
  step, losses = jax.jit(made.update), []
  for number in range(60):
    previous = state.window["loss"]
    state = step(state, host_batch(view.train, 0, number, 8))
    total, weight = (now - then for now, then in zip(state.window["loss"], previous, strict=True))
    losses.append(float(total / weight))
  assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_predictions_agree_and_evaluators_take_them(paper, view):
  made = updater(paper, view, "dense")
  variables = jax.jit(made.create)(np.uint32(0)).variables
  predict = made.learner.predict
  batch = view.test.rows.gather(np, view.test.rows.columns, np.arange(8))
  ids = jnp.arange(1, ITEMS + 1)
  table = predict["score_items"](variables, predict["encode_user"](variables, batch), ids)
  candidates = jnp.broadcast_to(ids, (8, ITEMS))
  pairs = predict["score"](variables, {**batch, "target_item": candidates})
  np.testing.assert_allclose(pairs, table, rtol=1e-5, atol=1e-6)
  one = predict["score"](variables, {**batch, "target_item": candidates[:, 3]})
  np.testing.assert_allclose(one, table[:, 3], rtol=1e-5, atol=1e-6)
  catalogue = Catalogue(ITEMS, view.counts["item"])
  for module, config in (
    (full_ranking, full_ranking.Config(cutoffs=(5,))),
    (sampled_ranking, sampled_ranking.Config(negatives=5, cutoffs=(5,))),
  ):
    run = module.build(config, predict, view.test, mesh=made.mesh, catalogue=catalogue)
    assert run(variables).facts["cases"] == USERS


def test_experiment_resolves(paper, monkeypatch):
  """The second block is an experiment of the first, once that is registered."""
  monkeypatch.setitem(registry.MODULES["model"], "mean_history", "mean_history")
  made = run_block("mean_history_experiment", blocks()[1], monkeypatch)
  config = resolve(made.get_config("tiny"))
  assert config.model == paper.Config(width=16) and config.data.name == "planted"
