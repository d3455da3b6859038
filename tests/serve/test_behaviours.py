"""The behaviour service: what it scores is what the model scores, whatever came before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click_toys import CATEGORIES, ITEMS, LENGTH, category, random_variables, schema
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import read_config_file, to_json
from recjax.errors import ConfigError, RecjaxError
from recjax.models.ranking import sdim
from recjax.serve.behaviours import BehaviourService
from recjax.serve.export import write_export

SMALL = {"item_width": 4, "category_width": 3, "bits": 12, "group": 2, "recent": 3, "stddev": 0.5}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("sdim")
  config = to_json(read_config_file("experiments/sdim.py:tiny"))
  config["model"] |= SMALL
  learner = sdim.build(sdim.Config(**{**config["model"]}), schema())
  write_export(folder / "export", random_variables(learner), config, schema(), {})
  return folder


@pytest.fixture(scope="module")
def case(workdir):
  """The service, and the model's own scores of the items 1 ... 5 for a history."""
  service = BehaviourService.load(workdir)
  config = dataclasses.replace(sdim.Config(**SMALL), norm="batch")
  learner = sdim.build(config, schema())
  variables = jax.tree.map(jnp.asarray, random_variables(learner))
  score = jax.jit(learner.predict["score"])

  def expected(history):
    window = list(history)[-LENGTH:]
    items = np.zeros((1, LENGTH), np.int32)
    items[0, LENGTH - len(window) :] = window
    target = np.arange(1, 6, dtype=np.int32)[None]
    batch = {
      "hist_item": items, "hist_cat": category(items), "hist_mask": items != 0,
      "target_item": target, "target_cat": category(target),
    }
    return score(variables, batch)[0]

  return service, expected


def served(service, user):
  target = np.arange(1, 6)
  return service.score(user, item=target, cat=category(target))


@settings(max_examples=12, deadline=None)
@given(
  st.lists(st.integers(1, ITEMS), max_size=2 * LENGTH), st.lists(st.integers(1, ITEMS), max_size=9)
)
def test_served_scores_are_the_models(case, known, later):
  service, expected = case
  service.replace("someone", item=known, cat=list(map(int, category(np.array(known, int)))))
  np.testing.assert_allclose(served(service, "someone"), expected(known), atol=1e-5)
  for number, item in enumerate(later, start=1):
    service.observe("someone", item=item, cat=int(category(item)))
    if number in (1, len(later)):
      history = known + later[:number]
      np.testing.assert_allclose(served(service, "someone"), expected(history), atol=1e-5)


def test_users_are_kept_apart_and_begin_with_nothing(case):
  service, expected = case
  np.testing.assert_allclose(served(service, "nobody"), expected([]), atol=1e-5)
  for item in (3, 8):
    service.observe(7, item=item, cat=int(category(item)))
    service.observe(8, item=item + 1, cat=int(category(item + 1)))
  np.testing.assert_allclose(served(service, 7), expected([3, 8]), atol=1e-5)
  np.testing.assert_allclose(served(service, 8), expected([4, 9]), atol=1e-5)


def test_scoring_reads_no_history(case, compiles):
  """Ids that are gone, or changed, make no difference once a history is encoded."""
  service, _ = case
  service.replace("reader", item=[1, 2, 3], cat=[2, 3, 4])
  before, size = served(service, "reader"), service.bytes_of("reader")
  service._users["reader"].window.clear()
  with compiles() as count:
    np.testing.assert_array_equal(served(service, "reader"), before)
  assert count() == 0
  # 6 groups of 4 codes: sums and counts, and the 3 newest vectors with their mask.
  assert size == 4 * (6 * 4 * 7 + 6 * 4 + 3 * 7) + 3


def test_no_candidates_and_odd_numbers_of_them(case):
  service, expected = case
  assert service.score("nobody", item=[], cat=[]).shape == (0,)
  three = service.score("nobody", item=[1, 2, 3], cat=category(np.array([1, 2, 3])))
  np.testing.assert_allclose(three, expected([])[:3], atol=1e-5)


def test_mistakes_are_named(case, workdir, tmp_path):
  service, _ = case
  with pytest.raises(RecjaxError, match="The behaviours must come with cat and item, not item"):
    service.observe(1, item=3)
  with pytest.raises(RecjaxError, match=f"The behaviours' cat must be ids from 1 to {CATEGORIES}"):
    service.observe(1, item=3, cat=9)
  with pytest.raises(RecjaxError, match=f"The candidates' item must be ids from 1 to {ITEMS}"):
    service.score(1, item=[0], cat=[1])
  with pytest.raises(RecjaxError, match="The candidates need as many values of each of cat, item"):
    service.score(1, item=[1, 2], cat=[1])
  with pytest.raises(RecjaxError, match=r"The candidates' cat must be ids of shape \[N\]"):
    service.score(1, item=[[1, 2]], cat=[[1, 2]])
  config = to_json(read_config_file("experiments/din.py:tiny"))
  write_export(tmp_path / "export", {}, config, schema(), {})
  with pytest.raises(ConfigError, match="The model 'din' gives no encode_history"):
    BehaviourService.load(tmp_path)
